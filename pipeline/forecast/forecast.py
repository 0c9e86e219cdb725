"""`plan`: what a run over an input will give and take, from a sample that really runs.

1. A random part of the listed files is probed, by the stage that probes in a run; where the recipe
   drops what stands still, a glance says how much of each film does (`glance`).
2. From these a sample is drawn (`estimate.draw`) and taken through all stages, on a corpus
   in a temporary folder (`trial`); the runner then counts it and writes its shards.
3. The shortest film goes through an ordinary run once more: what that takes beyond the film's own
   work is what every run takes to start and to end.
4. `estimate` says what all files will give. What was tried counts as it was measured.

The input is only read, and so is the corpus that the work is meant for.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.connect import usable_cores
from pipeline.forecast.bench import Bench
from pipeline.forecast.estimate import Estimate, Facts, draw
from pipeline.forecast.totals import Totals, loads, total, wall
from pipeline.forecast.work import Work
from pipeline.inputs.listing import list_sources
from pipeline.ledger.endings import Ending
from pipeline.recipe import Recipe

TRIED = 12  # films that are tried, by default
HOUR = 3600.0


@dataclass(frozen=True)
class Forecast:
    """What a run will give and take.

    Attributes:
        listed: files in the input; ``done``: of these, finished already in the corpus.
        probed, tried: files looked into, films taken through all stages.
        ended: of those probed, files that ended there, or have the same bytes as another.
        seconds: of film in all that is left to do.
        made: shots, clips, segments, tokens and bytes, by name, of what is left to do; shards hold
            all clips of a corpus and are written anew, but what is done is not counted here.
        cpu_hours, gpu_hours: by stage, stages without a GPU left out of the latter.
        wall: seconds of the run with ``workers`` cores.
        endings: why films of the sample, and what came of them, ended.
    """

    recipe: str
    listed: int
    done: int
    probed: int
    tried: int
    ended: int
    workers: int
    seconds: Estimate
    made: dict[str, Estimate]
    cpu_hours: dict[str, Estimate]
    gpu_hours: dict[str, Estimate]
    cpu_total: Estimate
    wall: Estimate
    endings: list[Ending]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        plain = ("recipe", "listed", "done", "probed", "tried", "ended", "workers")
        one = ("seconds", "cpu_total", "wall")
        many = ("made", "cpu_hours", "gpu_hours")
        ended = [
            {"level": e.level, "outcome": e.outcome, "reason": e.reason, "count": e.count}
            for e in self.endings
        ]
        return {
            **{name: getattr(self, name) for name in plain},
            **{name: getattr(self, name).to_json() for name in one},
            **{
                name: {key: value.to_json() for key, value in getattr(self, name).items()}
                for name in many
            },
            "sample_endings": ended,
        }


def forecast(
    recipe: Recipe,
    inputs: str | Path,
    *,
    corpus: Path | str | None = None,
    sample: int = TRIED,
    seconds: float | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Forecast:
    """Try a sample and say what all of it will take.

    Args:
        corpus: where the work is meant to go; what is done there is not counted.
        sample: how many films are tried.
        seconds: no further film is begun after so many.
        workers: cores of the machine that the time is told for; by default this machine's.

    Raises:
        UserError, RunError: as `pipeline.runner.run`.
    """
    begun = time.monotonic()
    listing = list_sources(inputs, recipe.source)
    work = Work.of(recipe, listing, corpus)
    with tempfile.TemporaryDirectory(prefix="tv2tv-plan-") as name:
        bench = Bench(recipe, Path(name), work)
        say(f"{len(listing.sources)} files listed, {work.done} of them done; probing")
        facts = bench.probe()
        chosen = draw(list(facts.values()), sample, recipe.seed)
        videos = [list(facts)[i] for i in chosen]
        say(f"{len(facts)} files probed; trying {len(videos)} films")
        spare = (lambda: time.monotonic() - begun > seconds) if seconds else (lambda: False)
        bench.run(videos, spare)
        say(f"{len(bench.tried)} films tried; measuring what a run takes to start and to end")
        endings = bench.finish()
        fixed = bench.overhead() if bench.tried else 0.0
    return _predict(bench, work, facts, fixed, endings, workers or usable_cores())


def _predict(
    bench: Bench,
    work: Work,
    facts: Mapping[str, Facts],
    fixed: float,
    endings: list[Ending],
    workers: int,
) -> Forecast:
    totals = Totals(bench.films(facts), bench.recipe.seed)
    stages = bench.plan.stages
    made = totals.made([stage.name for stage in stages if stage.makes])
    whole = [stage.name for stage in stages if stage.unit == "video"]
    seconds = {stage.name: totals.of(f"seconds.{stage.name}", stage.name) for stage in stages}
    cpu = {
        stage.name: totals.of(f"cpu.{stage.name}", stage.name).times(1 / HOUR) for stage in stages
    }
    gpu = {
        stage.name: seconds[stage.name].times(stage.resources.gpus / HOUR)
        for stage in stages
        if stage.resources.gpus
    }
    return Forecast(
        recipe=bench.recipe.name,
        listed=len(work.listing.sources),
        done=work.done,
        probed=len(facts),
        tried=len(bench.tried),
        ended=sum(not one.seconds for one in facts.values()),
        workers=workers,
        seconds=totals.of("seconds", stages[0].name).estimate,
        made={name: one.estimate for name, one in made.items()},
        cpu_hours={name: one.estimate for name, one in cpu.items()},
        gpu_hours={name: one.estimate for name, one in gpu.items()},
        cpu_total=total(cpu.values()).estimate,
        wall=wall(
            total(seconds.values()),
            totals.longest(whole),
            fixed,
            workers,
            loads([trial for trial in bench.tried.values() if trial.whole]),
        ).estimate,
        endings=endings,
    )
