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

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from corpus import layout
from corpus.shards import ShardSet
from pipeline.cluster.connect import usable_cores
from pipeline.forecast.estimate import (
    ALL,
    CLIPS,
    LEAST,
    MIXED,
    MOVING,
    Draws,
    Estimate,
    Facts,
    Model,
    Uses,
    draw,
    exactly,
)
from pipeline.forecast.glance import moving
from pipeline.forecast.trial import Trial, run_trials
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import LISTING, Listing, Source, read_listing
from pipeline.inputs.uris import is_remote, stored
from pipeline.ledger.endings import Ending
from pipeline.ledger.walk import slices
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView

PROBED = 100  # files that are probed; of more, the others are told by their sizes
TRIED = 12  # films that are tried, by default
# What is predicted, the stage after which nothing of it is to be done, and what it is told from.
MADE: dict[str, tuple[str, Uses | None]] = {
    "shots": ("shots", None),
    "clips": ("clips", CLIPS),
    "clip_seconds": ("clips", MOVING),
    "segments": ("segments", None),
    "tokens": ("captions", None),
}
TITLES = {"clip_seconds": "seconds of clips", "tokens": "caption tokens out"}
SHARDS = "bytes.shards"
HOUR = 3600.0
NO_FILM = Facts(0, 0.0, 0)


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


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        todo: files with work left, and the first stage that waits for each.
        done: number of files without.
    """

    listing: Listing
    todo: tuple[tuple[Source, int], ...]
    done: int

    @staticmethod
    def of(recipe: Recipe, listing: Listing, corpus: Path | str | None) -> "Work":
        sources = [source for source in listing.sources if source.outcome == "ok"]
        known = _standing(recipe, corpus) if corpus is not None else {}
        first = [(source, known.get(_stamp(source), 0)) for source in sources]
        count = len(make_plan(recipe, Path("unused")).stages)
        todo = tuple(pair for pair in first if pair[1] < count)
        return Work(listing, todo, len(first) - len(todo))


def _stamp(source: Source) -> tuple[str, int, int]:
    """What tells a file from another; of a remote one only its URI, as it is stored."""
    if is_remote(source.path):
        return stored(source.path), -1, -1
    if source.size >= 0:
        return source.path, source.size, source.mtime_ns
    try:
        stat = Path(source.path).stat()
    except OSError:
        return source.path, -1, -1
    return source.path, stat.st_size, stat.st_mtime_ns


def _size(source: Source) -> int:
    return source.size if is_remote(source.path) else _stamp(source)[1]


def _standing(recipe: Recipe, corpus: Path | str) -> dict[tuple[str, int, int], int]:
    """First stage that waits, by file, for all files that runs of a corpus have listed; as many as
    there are stages where none does. Only reads."""
    plan = make_plan(recipe, corpus)
    if not plan.layout.store.has(layout.HEADER):
        return {}
    sources: dict[str, Source] = {}
    stamps: dict[tuple[str, int, int], str] = {}  # copies share the standing of their film
    runs = plan.layout.runs
    for name in (name for name in runs.names() if name.endswith(f"/{LISTING}")):
        listed = read_listing(runs.at(name.removesuffix(f"/{LISTING}"))).sources
        sources |= {s.video_id: s for s in listed if s.video_id and s.outcome == "ok"}
        stamps |= {_stamp(s): s.video_id for s in listed if s.video_id}
    position = dict.fromkeys(sources, len(plan.stages))
    for part in slices(plan, Listing(tuple(sources.values()))):
        for one in part.found.waiting:
            video = one.record["video_id"]
            position[video] = min(position[video], one.stage)
    return {stamp: position.get(video, 0) for stamp, video in stamps.items()}


class Bench:
    """The temporary corpus, and what was measured on it."""

    def __init__(self, recipe: Recipe, folder: Path, work: Work) -> None:
        self.recipe = recipe
        self.work = work
        self._corpus = folder / "corpus"
        self.plan: Plan = make_plan(recipe, self._corpus)
        layout.create(self._corpus, recipe.clock.clock())
        self.cores = usable_cores()
        gpus = any(stage.resources.gpus for stage in self.plan.stages)
        self.workers = 1 if gpus else self.cores  # a GPU holds one copy of each model
        self.sources: dict[str, Source] = {}  # of what was probed, by video
        self.unprobed: list[tuple[Source, int]] = []
        self.first: dict[str, int] = {}
        self.tried: dict[str, Trial] = {}
        self._folder = folder

    def probe(self) -> dict[str, Facts]:
        """Facts of a random part of the files, by video; nothing is known of those that end."""
        order = np.random.default_rng(self.recipe.seed).permutation(len(self.work.todo))
        pairs = [self.work.todo[i] for i in sorted(order[:PROBED])]
        self.unprobed = [self.work.todo[i] for i in sorted(order[PROBED:])]
        # What is tried is fetched here anyway, and its size is asked for.
        part = tuple(replace(source, sha256=None) for source, _ in pairs)
        cache = self._folder / "named"
        listing = replace(self.work.listing, sources=part)
        named = identify(listing, self.recipe.source, cache, rehash=False)
        for source, (_, first) in zip(named.sources, pairs, strict=True):
            if source.outcome == "ok" and source.video_id:
                self.sources[source.video_id] = source
                self.first[source.video_id] = first
        ended = len(named.sources) - len(self.sources)
        facts = {f"ended-{i}": NO_FILM for i in range(ended)}
        trials = self._trials(list(self.sources), stages=1)
        with ThreadPoolExecutor(self.cores) as pool:
            shares = pool.map(self._moving, trials)
        for trial, share in zip(trials, shares, strict=True):
            facts[trial.video_id] = self._facts(trial, share)
        return {name: facts[name] for name in sorted(facts)}

    def run(self, videos: Sequence[str], until: Callable[[], bool]) -> None:
        for trial in self._trials(videos, until=until):
            self.tried[trial.video_id] = trial

    def films(self, facts: Mapping[str, Facts]) -> "Films":
        """All that was learnt."""
        names = [stage.name for stage in self.plan.stages]
        sums = {
            video: {
                "seconds": facts[video].seconds,
                **trial.made,
                **{f"seconds.{name}": trial.seconds.get(name, 0.0) for name in names},
                **{f"cpu.{name}": trial.cpu.get(name, 0.0) for name in names},
            }
            for video, trial in self.tried.items()
            if trial.whole
        }
        unprobed = [(_size(source), first) for source, first in self.unprobed]
        return Films(names, facts, sums, self.first, unprobed)

    def finish(self) -> list[Ending]:
        """Count the sample as any run is counted, write its shards, and weigh them by film."""
        if not self.tried:
            return []
        result = run(self.plan, self._manifest(list(self.tried), "sample"), _quiet())
        if result.shards is not None:
            for entry in ShardSet.open(result.shards.local("")).entries:
                size = sum(member["size"] for member in entry.members.values())
                made = self.tried[entry.video_id].made
                made[SHARDS] = made.get(SHARDS, 0.0) + size
        return result.endings

    def overhead(self) -> float:
        """Seconds of a run of one film, without its work."""
        least = min(self.tried.values(), key=lambda trial: sum(trial.seconds.values()))
        plan = make_plan(self.recipe, self._folder / "once")
        begun = time.monotonic()
        run(plan, self._manifest([least.video_id], "once"), _quiet())
        return max(0.0, time.monotonic() - begun - sum(least.seconds.values()))

    def _trials(self, videos: Sequence[str], **how: Any) -> list[Trial]:
        records = [self.sources[video].record() for video in videos]
        text, workers = self.recipe.to_yaml(), self.workers
        return list(run_trials(text, self._corpus, records, workers=workers, **how))

    def _manifest(self, videos: Sequence[str], name: str) -> Path:
        rows = []
        for video in videos:
            source = self.sources[video]
            row = {**source.meta, "uri": source.path}
            rows.append({**row, "timeline": source.timeline} if source.timeline else row)
        path = self._folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def _facts(self, trial: Trial, share: float) -> Facts:
        size = self.sources[trial.video_id].size
        if trial.probed is None:
            return replace(NO_FILM, size=size)
        seconds = float(trial.probed.get("duration", 1.0))
        clips = getattr(self.recipe, "clips", None)
        return Facts(size, seconds, ceil(seconds / clips.max_seconds) if clips else 1, share)

    def _moving(self, trial: Trial) -> float:
        """How much of a film moves, if the recipe drops what does not."""
        filters = getattr(self.recipe, "filters", None)
        if trial.probed is None or filters is None or filters.at_most.get("frozen") is None:
            return 1.0
        film = trial.probed
        end = film["end_pts"] * film["time_base"][0] / film["time_base"][1]
        start = end - film["duration"]
        path = self.plan.stages[0].seen(self.sources[trial.video_id].record())["path"]
        return moving(path, film["stream"], start, film["duration"])


@dataclass(frozen=True)
class Films:
    """What is known of the films of an input.

    Attributes:
        stages: names in order.
        facts: of all that were probed, by name.
        sums: of those that were tried: what they gave and took, by quantity.
        first: position of the first stage that waits for each probed film.
        unprobed: size and first stage of all other files.
    """

    stages: Sequence[str]
    facts: Mapping[str, Facts]
    sums: Mapping[str, Mapping[str, float]]
    first: Mapping[str, int]
    unprobed: Sequence[tuple[int, int]] = ()


class Totals:
    """Sums over all that is left to do: measured where films were tried, else estimated."""

    def __init__(self, films: Films, seed: int) -> None:
        self._films = films
        tried = [films.facts[name] for name in films.sums]
        self._model = Model(tried, list(films.sums.values()), list(films.facts.values()), seed)

    def of(self, name: str, stage: str, uses: Uses | None = None) -> Draws:
        """Over the films that have not passed a stage."""
        films = self._films
        order = list(films.stages)
        at = order.index(stage) if stage in order else len(order)
        if uses is None:
            after = order.index("filters") if "filters" in order else len(order)
            uses = ALL if at <= min(after, len(order) - 1) else MOVING
        left = [film for film, first in films.first.items() if first <= at]
        measured = sum(films.sums[film].get(name, 0.0) for film in left if film in films.sums)
        others = [films.facts[film] for film in left if film not in films.sums]
        sizes = [size for size, first in films.unprobed if first <= at]
        return self._model.total(name, others, sizes, uses) + exactly(float(measured))

    def made(self, media: Sequence[str]) -> dict[str, Draws]:
        """What comes out.

        Args:
            media: stages that make files.
        """
        found = {name: self.of(name, *how) for name, how in MADE.items()}
        special = {"bytes.clips": MIXED}
        names = {**{f"bytes.{stage}": stage for stage in media}, SHARDS: "shards"}
        sizes = {name: self.of(name, stage, special.get(name)) for name, stage in names.items()}
        return found | sizes | {"bytes": _sum(sizes.values())}

    def longest(self, stages: Sequence[str]) -> float:
        """Seconds of the dearest film in these stages."""
        film = max(self._films.facts.values(), key=lambda one: one.seconds, default=NO_FILM)
        return sum(self._model.total(f"seconds.{name}", [film]).value for name in stages)


def wall(work: Draws, longest: float, fixed: float, workers: int) -> Draws:
    """Seconds of a run: all work on all cores, a ragged end, and what start and end take.

    At the end cores run dry one by one, for at most as long as the dearest film takes.
    """
    ragged = np.linspace(0.0, longest * (1 - 1 / workers), len(work.replicates))
    ragged = np.random.default_rng(workers).permutation(ragged)
    busy = work.times(1 / workers)
    value = max(busy.value + float(ragged.mean()), longest)
    replicates = np.maximum(busy.replicates + ragged, longest)
    return Draws(value + fixed, replicates + fixed, work.enough)


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
        cpu_total=_sum(cpu.values()).estimate,
        wall=wall(_sum(seconds.values()), totals.longest(whole), fixed, workers).estimate,
        endings=endings,
    )


def _sum(draws: Iterable[Draws]) -> Draws:
    return sum(draws, exactly(0.0))


def _quiet() -> PlainView:
    return PlainView(Console(quiet=True))


def table(found: Forecast) -> RichTable:
    """For people."""
    shown = RichTable(box=None, pad_edge=False)
    shown.add_column("what")
    for name in ("predicted", "from", "to"):
        shown.add_column(name, justify="right")
    rows: list[tuple[str, Estimate, Callable[[float], str]]] = [
        ("film", found.seconds, duration),
        *((TITLES.get(n, n), e, _shown(n)) for n, e in found.made.items()),
        *((f"CPU: {name}", e, _hours) for name, e in found.cpu_hours.items()),
        ("CPU in all", found.cpu_total, _hours),
        *((f"GPU: {name}", e, _hours) for name, e in found.gpu_hours.items()),
        (f"time on {found.workers} cores", found.wall, duration),
    ]
    for title, one, text in rows:
        ends = [text(end) if end is not None else "?" for end in (one.low, one.high)]
        shown.add_row(title.replace("bytes.", "bytes of "), text(one.value), *ends)
    return shown


def notes(found: Forecast) -> list[str]:
    """What the table does not say."""
    told = [f"from {found.tried} films that were tried; 95 times in 100 the truth lies in between"]
    if found.wall.low is None:
        told.append(f"fewer than {LEAST} films could be tried: too few to say how far it is off")
    if found.ended:
        told.append(f"{found.ended} of {found.probed} probed files are no film, unfit, or copies")
    ended = [f"{one.count} {one.level} {one.outcome}: {one.reason}" for one in found.endings]
    return told + ([f"in the sample: {'; '.join(ended)}"] if ended else [])


def _shown(name: str) -> Callable[[float], str]:
    if name == "clip_seconds":
        return duration
    return size if name.startswith("bytes") else lambda number: f"{number:,.0f}"


def _hours(hours: float) -> str:
    return duration(hours * HOUR)


def duration(seconds: float) -> str:
    """``1.2 h``, ``3.4 min`` or ``5.0 s``."""
    if seconds >= HOUR:
        return f"{seconds / HOUR:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """``1.2 GB`` and the like."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.1f} {unit}" if unit != "B" else f"{count:.0f} B"
