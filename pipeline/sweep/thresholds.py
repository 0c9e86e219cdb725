"""`sweep`: what thresholds would keep, from stored scores alone; nothing is computed anew.

Clips are swept over the scores of the stage quality, as filters judges them, segments over those of
scores, as verdicts judges them. Beside each threshold stands what it keeps alone, and what is left
where the recipe's other thresholds hold as well.

A corpus comes slice by slice, and of each only sums are kept (`sweep.spread`). Only near-duplicates
need something of every clip that passes the filters: its signature, some 1.5 kB.
"""

from dataclasses import asdict, dataclass
from math import inf, isfinite, nextafter
from typing import Any

from corpus.errors import UserError
from pipeline.ledger.walk import Slice
from pipeline.plan import Plan
from pipeline.sweep.items import STAGES, Item, Level, bounds, failing, items
from pipeline.sweep.spread import Array, Spread
from stages.near_duplicates import REASON as NEAR_DUPLICATE
from stages.near_duplicates import duplicates
from stages.stage import Record

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
SPREAD = (0.0, 0.05, 0.5, 0.95, 1.0)
LIKENESSES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
BINS = 24


@dataclass(frozen=True)
class Kept:
    """How many, and how long together."""

    count: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(self.count + other.count, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"{self.count:,} ({self.seconds:,.0f} s)"


@dataclass(frozen=True)
class Step:
    """What one threshold would keep.

    Attributes:
        quantile: which share of the scores lies below; None for a threshold of the recipe.
        at_least, at_most: kept by this threshold alone, as the one or the other.
        at_least_too, at_most_too: kept where the recipe's thresholds on other scores hold, too.
    """

    threshold: float
    quantile: float | None
    at_least: Kept
    at_most: Kept
    at_least_too: Kept
    at_most_too: Kept


@dataclass(frozen=True)
class Sweep:
    """One score of one level.

    Attributes:
        have: how many have this score.
        spread: the scores at the quantiles `SPREAD`.
        at_least, at_most: thresholds that hold now.
        kept: by the whole recipe.
        steps: by threshold; of equal ones one.
    """

    level: Level
    score: str
    have: Kept
    spread: tuple[float, ...]
    at_least: float | None
    at_most: float | None
    kept: Kept
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Likeness:
    """What is left without near-duplicates: clips that pass the filters, by likeness."""

    holds: float | None
    steps: tuple[tuple[float, Kept], ...]

    def to_json(self) -> dict[str, Any]:
        steps = [{"threshold": value, "kept": asdict(kept)} for value, kept in self.steps]
        return {"level": "clips", "score": NEAR_DUPLICATE, "at_most": self.holds, "steps": steps}


@dataclass(frozen=True)
class Histogram:
    """Scores of one level as bars, for a picture.

    Attributes:
        edges: one more than counts; bar i is of scores in [edges[i], edges[i + 1]).
        at_least, at_most: thresholds that hold now.
    """

    level: Level
    score: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    at_least: float | None
    at_most: float | None


class Scores:
    """All scores of one level, summed up slice by slice.

    Args:
        signatures: keep what tells near-duplicates, too.
    """

    def __init__(self, plan: Plan, level: Level, *, signatures: bool = False) -> None:
        self.plan = plan
        self.level = level
        self._bounds = bounds(plan, level)
        self._scores: dict[str, Spread] = {}
        self._kept = Kept()
        self._signatures = signatures
        self._passing: list[tuple[Record, float]] = []

    def add(self, part: Slice) -> None:
        """Count a slice."""
        for item in items(self.plan, self.level, part):
            self._add(item)

    def _add(self, item: Item) -> None:
        fails = failing(item, self._bounds)
        for score, value in item.scores.items():
            if not isfinite(value):
                continue  # it lies nowhere, and passes no threshold
            too = not fails - {score}
            self._of(score).add(value, item.seconds, too, item.seconds * too)
        if not fails:
            self._kept += Kept(1, item.seconds)
            if self._signatures:
                self._passing.append((_compared(item.record), item.seconds))

    def _of(self, score: str) -> Spread:
        if score not in self._scores:
            cuts = [one.value for one in self._bounds if one.score == score]
            self._scores[score] = Spread(3, cuts)
        return self._scores[score]

    def sweeps(self, score: str | None = None) -> list[Sweep]:
        """Of every score, or one.

        Raises:
            UserError: nothing has this score.
        """
        names = sorted(self._scores)
        if score is not None:
            if score not in names:
                there = f"there are: {', '.join(names)}" if names else "there is no score at all"
                raise UserError(f"no {self.level[:-1]} has a score {score}; {there}")
            names = [score]
        return [self._sweep(name) for name in names]

    def likeness(self) -> Likeness:
        """Near-duplicates by threshold."""
        config = self.plan.recipe.model_dump()["near_duplicates"]
        records = [record for record, _ in self._passing]
        steps = []
        for value in sorted({*LIKENESSES, config["likeness"]}):
            gone = duplicates(records, value)
            stay = [seconds for one, seconds in self._passing if one["clip_id"] not in gone]
            steps.append((value, Kept(len(stay), sum(stay))))
        return Likeness(config["likeness"] if config["filter"] else None, tuple(steps))

    def histograms(self) -> list[Histogram]:
        """Of all scores, with the thresholds that hold now."""
        found = []
        for score, spread in sorted(self._scores.items()):
            low, high = self._holds(score)
            # What equals the highest score that is kept lies below this edge.
            above = None if high is None else nextafter(high, inf)
            at = [bound for bound in (low, above) if bound is not None]
            edges, counts = spread.bars(BINS, at)
            found.append(Histogram(self.level, score, tuple(edges), tuple(counts), low, high))
        return found

    def _holds(self, score: str) -> tuple[float | None, float | None]:
        found = {one.least: one.value for one in self._bounds if one.score == score}
        return found.get(True), found.get(False)

    def _sweep(self, score: str) -> Sweep:
        spread, (low, high) = self._scores[score], self._holds(score)
        steps: dict[float, float | None] = dict(
            zip(spread.quantiles(QUANTILES), QUANTILES, strict=True)
        )
        steps |= {bound: None for bound in (low, high) if bound is not None}

        def step(threshold: float) -> Step:
            above, below = spread.between(threshold, inf), spread.between(-inf, threshold)
            kept = (_kept(above, 0), _kept(below, 0), _kept(above, 2), _kept(below, 2))
            return Step(threshold, steps[threshold], *kept)

        return Sweep(
            self.level,
            score,
            _kept(spread.between(-inf, inf), 0),
            tuple(spread.quantiles(SPREAD)),
            *(low, high),
            self._kept,
            tuple(step(threshold) for threshold in sorted(steps)),
        )


def _kept(sums: Array, at: int) -> Kept:
    return Kept(round(sums[at]), float(sums[at + 1]))


def _compared(record: Record) -> Record:
    """What `duplicates` reads."""
    blur = {name: value for name, value in record["quality"].items() if name == "blur"}
    return {**{n: record[n] for n in ("clip_id", "chunks", "signature")}, "quality": blur}


def all_scores(plan: Plan) -> list[Scores]:
    """Of the levels that the plan scores, clips before segments."""
    names = {stage.name for stage in plan.stages}
    return [Scores(plan, level) for level, (_, scoring, *_) in STAGES.items() if scoring in names]
