"""Run every benchmark of this folder, or one: ``python -m benchmarks [NAME [ARGUMENT ...]]``."""

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Each benchmark is a module with a ``main(arguments)`` that prints what it measured."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    if names and names[0] not in known:
        sys.exit(f"no benchmark {names[0]}: choose from {', '.join(known)}")
    for name in names[:1] or known:
        sys.stdout.write(f"== {name}\n")
        importlib.import_module(f"benchmarks.{name}").main(names[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
