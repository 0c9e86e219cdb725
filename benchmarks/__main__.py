"""Run every benchmark of this folder, or the ones named: ``python -m benchmarks [NAME ...]``."""

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Each benchmark is a module with a ``main(arguments)`` that prints what it measured."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: choose from {', '.join(known)}")
    for name in names or known:
        sys.stdout.write(f"== {name}\n")
        importlib.import_module(f"benchmarks.{name}").main([])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
