"""``make fuzz``: hundreds of broken films through one run, and what became of them.

Usage: python tests/fuzz [--count 300] [--seed 1] [--keep FOLDER]

The healthy films are the real ones of ``../shared/videos/public`` (or of ``TV2TV_TEST_VIDEOS``),
where they are, and small ones made here. Prints one table; exit status 1 if anything is broken.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import self_made
from campaign import ROOT, Found, campaign
from mutants import Mutant, mutants

VIDEOS = Path(os.environ.get("TV2TV_TEST_VIDEOS") or ROOT.parent / "shared" / "videos") / "public"
MOST_BYTES = 3_500_000  # of a real film that is mutated; a longer one would take the time of many
RUN_SECONDS = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="mutants of real films")
    parser.add_argument("--self-made", type=int, default=150, help="mutants of films made here")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for films and corpora; kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tv2tv-fuzz-") as scratch:
        folder = given.keep or Path(scratch)
        films = self_made.make(folder / "films")
        broken = mutants(films, given.self_made, given.seed)
        real = [p for p in sorted(VIDEOS.glob("*.*")) if p.suffix in (".mp4", ".webm", ".avi")]
        real = [path for path in real if path.stat().st_size <= MOST_BYTES]
        if real:
            broken += mutants(real, given.count, given.seed)
        else:
            _say(f"no real films: {VIDEOS} is missing (TV2TV_TEST_VIDEOS); {given.count} skipped")
        found = campaign(folder, [*films, *real], broken, RUN_SECONDS)
    _tell(found, broken)
    return 1 if found.broken else 0


def _tell(found: Found, broken: list[Mutant]) -> None:
    kinds = Counter(mutant.kind for mutant in broken)
    _say(f"{len(broken)} mutants of {len({m.parent for m in broken})} films: {dict(kinds)}")
    _say(f"{found.seconds:.0f} s; {found.clips} clips of mutants; slowest file {found.slowest}")
    for (outcome, reason), number in found.outcomes.most_common():
        _say(f"| {outcome} | {reason} | {number} |")
    for sentence in found.broken:
        _say(f"BROKEN: {sentence}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
