"""The bench: a corpus in a temporary folder, where films are probed and some are tried."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from corpus import layout
from corpus.shards import ShardSet
from pipeline.cluster.connect import usable_cores
from pipeline.forecast.estimate import NO_FILM, Facts
from pipeline.forecast.glance import moving
from pipeline.forecast.totals import SHARDS, Films
from pipeline.forecast.trial import Trial, run_trials
from pipeline.forecast.work import Work, size_of
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Source
from pipeline.ledger.endings import Ending
from pipeline.plan import Plan, make_plan
from pipeline.recipe import Recipe
from pipeline.runner import run
from pipeline.telemetry.progress import PlainView

PROBED = 100  # files that are probed; of more, the others are told by their sizes


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

    def films(self, facts: Mapping[str, Facts]) -> Films:
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
        unprobed = [(size_of(source), first) for source, first in self.unprobed]
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


def _quiet() -> PlainView:
    return PlainView(Console(quiet=True))
