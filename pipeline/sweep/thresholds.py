"""`sweep`: what thresholds would keep, from stored scores alone; nothing is computed anew.

Clips are swept over the scores of the stage quality, as filters judges them, segments over those of
scores, as verdicts judges them. Beside each threshold stands what it keeps alone, and what is left
where the recipe's other thresholds hold as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from corpus.errors import UserError
from corpus.rows import Row
from pipeline.ledger.status import Status
from stages.near_duplicates import REASON as NEAR_DUPLICATE
from stages.near_duplicates import duplicates
from stages.stage import Record
from stages.verdicts import AT_LEAST, AT_MOST

Level = Literal["clips", "segments"]
# Which stage's rows make the things, say how long they are, have their scores, and judge them.
STAGES: dict[Level, tuple[str, str, str, str]] = {
    "clips": ("clips", "quality", "quality", "filters"),
    "segments": ("segments", "scores", "scores", "verdicts"),
}
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
SPREAD = (0.0, 0.05, 0.5, 0.95, 1.0)
LIKENESSES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
BINS = 24


@dataclass(frozen=True)
class Item:
    """A clip or a segment that can be judged."""

    name: str
    seconds: float
    scores: Mapping[str, float]
    record: Record


@dataclass(frozen=True)
class Bound:
    """A threshold that holds now.

    Attributes:
        least: whether it is the lowest score that is kept, or the highest.
        strict: whether what has no such score is rejected.
    """

    score: str
    value: float
    least: bool
    strict: bool

    def keeps(self, item: Item) -> bool:
        found = item.scores.get(self.score)
        if found is None:
            return not self.strict
        return found >= self.value if self.least else found <= self.value


@dataclass(frozen=True)
class Kept:
    """How many, and how long together."""

    count: int
    seconds: float

    @staticmethod
    def of(items: Sequence[Item]) -> "Kept":
        return Kept(len(items), sum(item.seconds for item in items))

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


@dataclass
class _Level:
    items: list[Item]
    bounds: list[Bound]
    by_score: dict[str, list[Item]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.items:
            for name in item.scores:
                self.by_score.setdefault(name, []).append(item)

    def holds(self, score: str, *, least: bool) -> float | None:
        found = [one.value for one in self.bounds if (one.score, one.least) == (score, least)]
        return found[0] if found else None

    def passing(self, *, but: str | None = None) -> list[Item]:
        """Items within all bounds, but those on one score."""
        bounds = [one for one in self.bounds if one.score != but]
        return [item for item in self.items if all(one.keeps(item) for one in bounds)]


def sweeps(status: Status, level: Level, score: str | None = None) -> list[Sweep]:
    """Of every score, or one.

    Raises:
        UserError: nothing has this score.
    """
    found = _level(status, level)
    names = sorted(found.by_score)
    if score is not None:
        if score not in names:
            there = f"there are: {', '.join(names)}" if names else "there is no score at all"
            raise UserError(f"no {level[:-1]} has a score {score}; {there}")
        names = [score]
    return [_sweep(found, level, name) for name in names]


def likeness(status: Status) -> Likeness:
    """Near-duplicates by threshold."""
    config = status.plan.recipe.model_dump()["near_duplicates"]
    passing = _level(status, "clips").passing()
    records = [item.record for item in passing]
    steps = []
    for value in sorted({*LIKENESSES, config["likeness"]}):
        gone = duplicates(records, value)
        steps.append((value, Kept.of([item for item in passing if item.name not in gone])))
    return Likeness(config["likeness"] if config["filter"] else None, tuple(steps))


def histograms(status: Status) -> list[Histogram]:
    """Of all scores, clips' before segments', with the thresholds that hold now."""
    found = []
    for level in STAGES:
        one = _level(status, level)
        for score in sorted(one.by_score):
            values = [item.scores[score] for item in one.by_score[score]]
            counts, edges = np.histogram(values, BINS)
            bounds = one.holds(score, least=True), one.holds(score, least=False)
            bars = tuple(map(float, edges)), tuple(map(int, counts))
            found.append(Histogram(level, score, *bars, *bounds))
    return found


def _sweep(found: _Level, level: Level, score: str) -> Sweep:
    have = found.by_score[score]
    others = {item.name for item in found.passing(but=score)}
    values = np.array([item.scores[score] for item in have])
    low, high = found.holds(score, least=True), found.holds(score, least=False)
    steps: dict[float, float | None] = {
        float(value): share
        for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }
    steps |= {bound: None for bound in (low, high) if bound is not None}

    def step(threshold: float) -> Step:
        above = [item for item in have if item.scores[score] >= threshold]
        below = [item for item in have if item.scores[score] <= threshold]
        too = ([item for item in part if item.name in others] for part in (above, below))
        kept = map(Kept.of, (above, below, *too))
        return Step(threshold, steps[threshold], *kept)

    told = tuple(step(threshold) for threshold in sorted(steps))
    spread = tuple(map(float, np.quantile(values, SPREAD)))
    kept = Kept.of(found.passing())
    return Sweep(level, score, Kept.of(have), spread, low, high, kept, told)


def _level(status: Status, level: Level) -> _Level:
    return _Level(list(_items(status, level)), _bounds(status, level))


def _items(status: Status, level: Level) -> Iterator[Item]:
    """What the judging stage was, or would be, asked about."""
    making, scoring, column, _ = STAGES[level]
    names = [stage.name for stage in status.plan.stages]
    if scoring not in names:
        return
    scoring_at = names.index(scoring)
    clock = status.plan.recipe.clock.clock()
    chunks: dict[str, int] = {}
    ended: set[str] = set()
    scored: dict[str, Row] = {}
    later: dict[str, dict[str, float]] = {}  # scores that follow from others
    for answered in status.found.answered:
        stage = names[answered.stage]
        for row in answered.rows:
            if answered.stage > scoring_at and row.columns.get(column):
                later.setdefault(row.subject, {}).update(row.columns[column])
            if row.outcome != "ok":
                if answered.stage <= scoring_at:
                    ended.add(row.subject)
            elif stage == making:
                chunks[row.subject] = _chunks(row)
            elif stage == scoring:
                scored[row.subject] = row
    for name, row in sorted(scored.items()):
        scores = {**dict(row.columns[column]), **later.get(name, {})}
        if name not in ended and scores:
            record = {"clip_id": name, "chunks": chunks[name], **row.columns, column: scores}
            yield Item(name, chunks[name] * clock.chunk_seconds, scores, record)


def _chunks(row: Row) -> int:
    columns = row.columns
    return int(columns["chunks"] if "chunks" in columns else columns["b"] - columns["a"])


def _bounds(status: Status, level: Level) -> list[Bound]:
    config = status.plan.recipe.model_dump()[STAGES[level][-1]]
    defaults = (AT_LEAST, AT_MOST) if level == "segments" else ({}, {})
    found = []
    for side, given, usual in zip((True, False), ("at_least", "at_most"), defaults, strict=True):
        for score, value in {**usual, **config[given]}.items():
            if value is not None:
                found.append(Bound(score, value, side, strict=score in config[given]))
    return found
