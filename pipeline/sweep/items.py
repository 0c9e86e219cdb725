"""Clips and segments that can be judged by their scores, and the thresholds that hold now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from corpus.rows import Row
from pipeline.ledger.walk import Slice
from pipeline.plan import Plan
from stages.stage import Record
from stages.verdicts import AT_LEAST, AT_MOST

Level = Literal["clips", "segments"]
# Which stage's rows make the things, have their scores, in which column, and judge them.
STAGES: dict[Level, tuple[str, str, str, str]] = {
    "clips": ("clips", "quality", "quality", "filters"),
    "segments": ("segments", "scores", "scores", "verdicts"),
}


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


def items(plan: Plan, level: Level, part: Slice) -> Iterator[Item]:
    """What the judging stage was, or would be, asked about, of one slice."""
    making, scoring, column, _ = STAGES[level]
    names = [stage.name for stage in plan.stages]
    if scoring not in names:
        return
    scoring_at = names.index(scoring)
    clock = plan.recipe.clock.clock()
    chunks: dict[str, int] = {}
    ended: set[str] = set()
    scored: dict[str, Row] = {}
    later: dict[str, dict[str, float]] = {}  # scores that follow from others
    for answered in part.found.answered:
        stage = names[answered.stage]
        for row in answered.rows:
            if answered.stage > scoring_at and row.columns.get(column):
                later.setdefault(row.subject, {}).update(row.columns[column])
            if row.outcome != "ok":
                if answered.stage <= scoring_at:
                    ended.add(row.subject)
            elif stage == making:
                chunks[row.subject] = _chunks(row.columns)
            elif stage == scoring:
                scored[row.subject] = row
    for name, row in scored.items():
        scores = {**dict(row.columns[column]), **later.get(name, {})}
        if name not in ended and scores:
            record = {"clip_id": name, "chunks": chunks[name], **row.columns, column: scores}
            yield Item(name, chunks[name] * clock.chunk_seconds, scores, record)


def bounds(plan: Plan, level: Level) -> list[Bound]:
    """Thresholds of the recipe, and those that hold by default."""
    config = plan.recipe.model_dump()[STAGES[level][-1]]
    defaults = (AT_LEAST, AT_MOST) if level == "segments" else ({}, {})
    found = []
    for side, given, usual in zip((True, False), ("at_least", "at_most"), defaults, strict=True):
        for score, value in {**usual, **config[given]}.items():
            if value is not None:
                found.append(Bound(score, value, side, strict=score in config[given]))
    return found


def failing(item: Item, all_bounds: Sequence[Bound]) -> set[str]:
    """Scores by which an item would be rejected."""
    return {one.score for one in all_bounds if not one.keeps(item)}


def _chunks(columns: Mapping[str, Any]) -> int:
    return int(columns["chunks"] if "chunks" in columns else columns["b"] - columns["a"])
