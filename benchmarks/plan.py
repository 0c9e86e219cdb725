"""How far `tv2tv plan` is off: half of a folder's films is tried, and the other half predicted; and
all of it is, from a half that is drawn as `tv2tv plan` draws its sample.

``python -m benchmarks plan FOLDER [RECIPE [FILE.json]]`` takes all films of FOLDER through the
stages once, then draws many halves; FILE.json gets what was measured. With ``time`` as the first
argument (``time FOLDER [RECIPE [RUNS]]``) it plans a sample of the folder instead, runs all of it,
and compares the time.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.forecast.bench import Bench
from pipeline.forecast.estimate import Estimate, Facts, draw
from pipeline.forecast.forecast import forecast
from pipeline.forecast.totals import Films, Totals
from pipeline.forecast.work import Work
from pipeline.inputs.listing import list_sources
from pipeline.plan import make_plan
from pipeline.recipe import load_recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView

SPLITS = 200
SHOWN = ("shots", "clips", "clip_seconds", "segments", "tokens", "bytes.clips", "bytes", "work")


def measure(folder: Path, recipe: str) -> Films:
    """All films of a folder, tried."""
    loaded = load_recipe(recipe)
    with tempfile.TemporaryDirectory() as name:
        work = Work.of(loaded, list_sources(folder, loaded.source), None)
        bench = Bench(loaded, Path(name), work)
        facts = bench.probe()
        bench.run(list(bench.sources), lambda: False)
        bench.finish()
        names = {video: source.uri for video, source in bench.sources.items()}
        films = bench.films({video: facts[video] for video in names})
    return replace(
        films,
        facts={names[video]: one for video, one in films.facts.items()},
        sums={names[video]: one for video, one in films.sums.items()},
        first={names[video]: one for video, one in films.first.items()},
    )


Errors = dict[str, list[tuple[float, bool]]]


def errors(films: Films, media: Sequence[str], splits: int, *, drawn: bool = False) -> Errors:
    """Relative errors and whether the interval held, by quantity.

    Args:
        drawn: all films are predicted from such halves as a plan draws, and not the other half from
            any half.
    """
    names = sorted(films.sums)
    half = len(names) // 2
    found: Errors = {}
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(names)).tolist()
        if drawn:
            order = draw([films.facts[name] for name in names], half, seed)
        tried = {names[i] for i in order[:half]}
        others = names if drawn else [name for name in names if name not in tried]
        for name, told, truth in predicted(films, media, tried, others):
            low, high = told.low, told.high
            held = low is not None and high is not None and low <= truth <= high
            found.setdefault(name, []).append((told.value / truth - 1, held))
    return found


def predicted(
    films: Films, media: Sequence[str], tried: set[str], others: Sequence[str]
) -> list[tuple[str, Estimate, float]]:
    """(quantity, estimate, truth) of ``others``, from those that were tried."""
    half = replace(
        films,
        sums={name: films.sums[name] for name in tried},
        first=dict.fromkeys(others, 0),
    )
    totals = Totals(half, 0)
    made = totals.made(media)
    work = [totals.of(f"seconds.{stage}", stage) for stage in films.stages]
    made["work"] = sum(work[1:], work[0])

    def truth(name: str) -> float:
        parts = {
            "bytes": [key for key in made if key.startswith("bytes.")],
            "work": [f"seconds.{stage}" for stage in films.stages],
        }.get(name, [name])
        return sum(films.sums[film].get(part, 0.0) for film in others for part in parts)

    return [(name, made[name].estimate, truth(name)) for name in SHOWN]


def to_json(films: Films, media: Sequence[str]) -> dict[str, Any]:
    facts = {name: asdict(one) for name, one in films.facts.items()}
    return {"stages": list(films.stages), "media": media, "facts": facts, "sums": films.sums}


def from_json(told: Mapping[str, Any]) -> tuple[Films, list[str]]:
    facts = {name: Facts(**one) for name, one in told["facts"].items()}
    films = Films(told["stages"], facts, told["sums"], dict.fromkeys(facts, 0))
    return films, list(told["media"])


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.stdout.write("needs a folder of films\n")
        return
    if arguments[0] == "time":
        folder, recipe, runs = [*arguments[1:], *("real", "1")[max(0, len(arguments) - 2) :]]
        _time(Path(folder), recipe, int(runs))
        return
    recipe = arguments[1] if len(arguments) > 1 else "real"
    films = measure(Path(arguments[0]), recipe)
    with tempfile.TemporaryDirectory() as name:
        stages = make_plan(load_recipe(recipe), Path(name)).stages
    media = [stage.name for stage in stages if stage.makes]
    if len(arguments) > 2:
        text = json.dumps(to_json(films, media), indent=1, sort_keys=True)
        Path(arguments[2]).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(films.sums)} films: the other half, from {SPLITS} random halves\n")
    _print(errors(films, media, SPLITS))
    sys.stdout.write(f"all films, from {SPLITS} halves as a plan draws them\n")
    _print(errors(films, media, SPLITS, drawn=True))


def _print(found: Errors) -> None:
    for name, pairs in found.items():
        off = np.abs([error for error, _ in pairs])
        held = np.mean([one for _, one in pairs])
        sys.stdout.write(
            f"{name:13} off by {np.median(off):.0%} (median), {np.quantile(off, 0.9):.0%} (90th "
            f"percentile); within 30 %: {np.mean(off < 0.3):.0%}; interval held: {held:.0%}\n"
        )


def _time(folder: Path, recipe: str, runs: int) -> None:
    loaded, held = load_recipe(recipe), 0
    for _ in range(runs):
        before = os.getloadavg()[0]
        told = forecast(loaded, folder, sample=max(4, len(list(folder.iterdir())) // 2)).wall
        between = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as name:
            begun = time.monotonic()
            run(make_plan(loaded, Path(name) / "c"), folder, PlainView(Console(quiet=True)))
            took = time.monotonic() - begun
        inside = (told.low or 0.0) <= took <= (told.high or 0.0)
        held += inside
        sys.stdout.write(
            f"predicted {told.value:.0f} s ({told.low:.0f} to {told.high:.0f}), took {took:.0f} s: "
            f"{'inside' if inside else 'outside'}; processes that waited or ran: {before:.0f} "
            f"before, {between:.0f} between, {os.getloadavg()[0]:.0f} after\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"the interval held {held} of {runs} times\n")
