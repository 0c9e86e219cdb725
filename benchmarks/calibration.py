"""A scorer trained on a corpus itself: does it notice false captions in films it never saw?

    python -m benchmarks calibration                arena and doom
    python -m benchmarks calibration arena FOLDER   one world, what it makes stays in FOLDER

Footage of a world with known truth goes through a pipeline with `given` captions, `tv2tv scorer
fit` learns from the training films, `tv2tv calibrate` damages captions of the others. Beside every
score stands what the words alone give away.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.calibration import page
from pipeline.calibration.calibrate import Calibration, calibrate
from pipeline.calibration.contrastive import FitConfig
from pipeline.calibration.scorer import fit_scorer
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView
from worlds.record import record_arena, record_doom

COMMON = ("shards.validation=0.15", "latents.settings.channels=12")


@dataclass(frozen=True)
class World:
    """Footage, how it is cut, and how the scorer is trained."""

    record: Callable[[Path], Path]
    settings: tuple[str, ...]
    fit: FitConfig


WORLDS = {
    "arena": World(
        lambda folder: record_arena(folder, episodes=500, per_film=10),
        COMMON,
        FitConfig(steps=1500),
    ),
    "doom": World(
        lambda folder: record_doom(folder, seconds=1500, per_film=20),
        (*COMMON, "clips.buckets=[[160,120]]", "clips.encoding=yuv420p"),
        FitConfig(side=96, steps=1000),
    ),
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Print the tables of one world or all."""
    for name in arguments[:1] or WORLDS:
        if name not in WORLDS:
            raise SystemExit(f"no world {name}: choose from {', '.join(WORLDS)}")
        if len(arguments) > 1:
            prove(WORLDS[name], Path(arguments[1]), name)
        else:
            with tempfile.TemporaryDirectory() as folder:
                prove(WORLDS[name], Path(folder), name)


def prove(world: World, folder: Path, name: str) -> Calibration:
    """Footage to table, with the time of every step."""
    begun = time.perf_counter()

    def took(what: str) -> None:
        say(f"{name}: {what}, {time.perf_counter() - begun:.0f} s since the start")

    manifest = world.record(folder / "footage")
    plan = make_plan(load_recipe("arena", world.settings), folder / "corpus")
    run(plan, str(manifest), PlainView(Console(quiet=True)))
    took("the corpus is made")
    made = fit_scorer(folder / "corpus", folder / "scorer", config=world.fit, say=say)
    took(f"a scorer learned from {made.pairs} captions of {made.videos} films")
    found = calibrate(
        folder / "corpus",
        overrides=(
            "scores.use=[rules, grounding]",
            f"scores.weights={folder / 'scorer'}",
            "scores.grounding.input=montage",
            "comparisons.use=[rare, random]",
        ),
        rate=1.0,
    )
    took("captions are damaged and scored")
    console = Console(width=180)
    console.print(page.table(found))
    console.print(page.filter_table(found))
    for text in page.notes(found):
        say(text)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
