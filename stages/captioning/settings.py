"""Who writes captions, and what is asked: the settings of the stage captions, and of checks."""

from collections.abc import Callable, Sequence

from pydantic import Field, field_validator

from corpus.clock import Clock
from corpus.errors import UserError
from stages.captioning.backend import CaptionBackend
from stages.captioning.engine import EngineBackend
from stages.captioning.engine_config import EngineConfig
from stages.captioning.given import GivenBackend, GivenConfig
from stages.captioning.motion import MotionBackend, MotionConfig
from stages.captioning.server import ServerBackend
from stages.captioning.server_config import ServerConfig
from stages.stage import StageConfig


class CaptionsConfig(StageConfig):
    """Who writes captions, and what is asked.

    Attributes:
        backend: ``motion`` says what is measured; ``given`` takes what a timeline sidecar says;
            ``vllm`` asks a model in the worker, ``server`` one behind an address.
        prompt: name of a prompt in ``vlm_prompts`` or path of a .md file, for backends that are
            asked in words; ``motion`` and ``given`` are not.
        chain: whether a segment's question builds on the caption before it.
        ladders: densities such as ``4s`` at which captions are made besides, in chains of their
            own.
        canaries: questions of known answer per clip, for backends that are asked in words; at
            least two per batch, 0 for none.
        motion, given, vllm, server: settings of that backend.
    """

    backend: str = "motion"
    prompt: str = "generic"
    chain: bool = True
    ladders: tuple[str, ...] = ()
    canaries: float = Field(default=0.05, ge=0, le=1)
    motion: MotionConfig = MotionConfig()
    given: GivenConfig = GivenConfig()
    vllm: EngineConfig = EngineConfig()
    server: ServerConfig = ServerConfig()

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in BACKENDS:
            return name
        raise ValueError(f"{name!r} is no caption backend: choose {' or '.join(BACKENDS)}")


BACKENDS: dict[str, Callable[[CaptionsConfig], CaptionBackend]] = {
    "motion": lambda config: MotionBackend(config.motion),
    "given": lambda config: GivenBackend(config.given),
    "vllm": lambda config: EngineBackend(config.vllm),
    "server": lambda config: ServerBackend(config.server),
}


def widths(ladders: Sequence[str], clock: Clock) -> dict[str, int]:
    """Chunks per ladder.

    Raises:
        UserError: not whole chunks, or twice the same.
    """
    found: dict[str, int] = {}
    for every in ladders:
        try:
            seconds = float(every.removesuffix("s")) if every.endswith("s") else 0.0
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            raise UserError(
                f"captions.ladders: {every!r} is no density: write seconds, as in 4s (a whole clip "
                "has its meta-caption anyway)"
            )
        try:
            width = clock.chunks_of(seconds)
        except UserError as error:
            raise UserError(f"captions.ladders: {error}") from error
        if width in found.values():
            raise UserError(f"captions.ladders: {every} is there twice")
        found[f"{seconds:g}s"] = width
    return found
