"""Libraries whose code decides results: their versions belong into fingerprints."""

from types import ModuleType


def versions(*modules: ModuleType) -> dict[str, str]:
    """Version by name, for `Stage.identity`: another build may measure, decode or detect otherwise.

    A stage that reads clips back depends on av and decord (`corpus.video.read_video`).
    """
    return {module.__name__: module.__version__ for module in modules}
