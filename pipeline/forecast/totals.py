"""From films that were tried to sums over all that is left to do, and to the time they take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.forecast.estimate import (
    ALL,
    CLIPS,
    MIXED,
    MOVING,
    NO_FILM,
    Draws,
    Facts,
    Model,
    Uses,
    exactly,
)
from pipeline.forecast.trial import Trial

SHARDS = "bytes.shards"

# What is predicted, the stage after which nothing of it is to be done, and what it is told from.
MADE: dict[str, tuple[str, Uses | None]] = {
    "shots": ("shots", None),
    "clips": ("clips", CLIPS),
    "clip_seconds": ("clips", MOVING),
    "segments": ("segments", None),
    "tokens": ("captions", None),
}


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
        return found | sizes | {"bytes": total(sizes.values())}

    def longest(self, stages: Sequence[str]) -> float:
        """Seconds of the dearest film in these stages."""
        film = max(self._films.facts.values(), key=lambda one: one.seconds, default=NO_FILM)
        return sum(self._model.total(f"seconds.{name}", [film]).value for name in stages)


@dataclass(frozen=True)
class Load:
    """How busy the machine was with other things while one film was tried.

    Attributes:
        seconds: of the film's work.
        factor: these, against what as much processor time took on average, stage by stage.
    """

    seconds: float
    factor: float


def loads(trials: Sequence[Trial]) -> list[Load]:
    """Of every film; all factors are 1 on a machine that has nothing else to do."""
    rates: dict[str, float] = {}
    for stage in {stage for trial in trials for stage in trial.seconds}:
        cpu = sum(trial.cpu.get(stage, 0.0) for trial in trials)
        seconds = sum(trial.seconds.get(stage, 0.0) for trial in trials)
        rates[stage] = seconds / cpu if cpu else 0.0
    found = []
    for trial in trials:
        usual = sum(cpu * rates[stage] for stage, cpu in trial.cpu.items())
        seconds = sum(trial.seconds.values())
        if usual:
            found.append(Load(seconds, seconds / usual))
    return found


def wall(
    work: Draws, longest: float, fixed: float, workers: int, loads: Sequence[Load] = ()
) -> Draws:
    """Seconds of a run: all work on all cores, a ragged end, and what start and end take.

    At the end cores run dry one by one, for at most as long as the dearest film takes. A run may
    meet the machine as busy as any of the tried films met it.
    """
    random = np.random.default_rng(workers)
    count = len(work.replicates)
    ragged = random.permutation(np.linspace(0.0, longest * (1 - 1 / workers), count))
    busy = work.times(1 / workers)
    value = max(busy.value + float(ragged.mean()), longest) + fixed
    replicates = np.maximum(busy.replicates + ragged, longest) + fixed
    if loads:
        seconds = np.array([load.seconds for load in loads])
        factors = np.array([load.factor for load in loads])
        replicates *= random.choice(factors, count, p=seconds / seconds.sum())
    return Draws(value, replicates, work.enough)


def total(draws: Iterable[Draws]) -> Draws:
    return sum(draws, exactly(0.0))
