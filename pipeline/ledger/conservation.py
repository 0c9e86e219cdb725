"""Conservation: at every level, inputs = ok + filtered + failed + quarantined + pending.

The rules, on top of the two of `corpus.rows`:

* an entity's outcome is that of its first row that is not ok;
* a unit that goes no further although no row ends it (all its children ended) takes the outcome of
  the first of them: an ok clip is one that the shards hold, an ok video one that gave clips;
* whatever is ok by its own rows shares the fate of a parent that a row ended, or that waits.

Listed files are the inputs of the level ``videos``; a file that never became a video (a byte
duplicate, an empty or unreadable file) has its outcome from the listing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.rows import LEVELS, OUTCOMES, Level, Row
from pipeline.inputs.sources import Source
from pipeline.ledger.replay import Answered, Replay, silent, unit_id
from stages.stage import Stage

PENDING = "pending"
NOT_OK = OUTCOMES[1:]


class ConservationError(Exception):
    """Something was lost or counted twice: a fault of a stage or of a table, never of an input."""


@dataclass
class LevelCounts:
    """How the entities of one level fared."""

    inputs: int = 0
    ok: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    pending: int = 0

    def add(self, outcome: str, reason: str | None) -> None:
        self.inputs += 1
        if outcome in NOT_OK:
            getattr(self, outcome)[str(reason)] += 1
        else:
            setattr(self, outcome, getattr(self, outcome) + 1)

    def total(self) -> int:
        return self.ok + self.pending + sum(getattr(self, name).total() for name in NOT_OK)

    def to_json(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"inputs": self.inputs, "ok": self.ok}
        counts |= {name: dict(sorted(getattr(self, name).items())) for name in NOT_OK}
        return {**counts, "pending": self.pending}


Counts = dict[str, LevelCounts]


def told(counts: Counts) -> dict[str, Any]:
    """Counts as JSON, by level."""
    return {name: level.to_json() for name, level in counts.items()}


def nothing() -> Counts:
    """Counts of no files at all."""
    return {f"{level}s": LevelCounts() for level in LEVELS}


def add(sums: Counts, counts: Counts) -> None:
    """Add the counts of a part to those of the whole."""
    for name, level in counts.items():
        total = sums[name]
        total.inputs += level.inputs
        total.ok += level.ok
        total.pending += level.pending
        for kind in NOT_OK:
            getattr(total, kind).update(getattr(level, kind))


@dataclass
class _Entity:
    level: Level
    parent: str | None
    outcome: str = "ok"
    reason: str | None = None
    ended: bool = False  # by a row of its own, so that what hangs below it ended too

    def end(self, row: Row, *, own: bool) -> None:
        if self.outcome == "ok" and row.outcome != "ok":
            self.outcome, self.reason, self.ended = row.outcome, row.reason, own


@dataclass(frozen=True)
class Fate:
    """How one entity fared: an outcome of `corpus.rows.OUTCOMES`, or ``pending``."""

    level: Level
    outcome: str
    reason: str | None = None


def fates(sources: Sequence[Source], stages: Sequence[Stage], replay: Replay) -> dict[str, Fate]:
    """Fate of every video, shot, clip and segment by id, but for files that are no video.

    Raises:
        ConservationError: names the first entity that does not fit the rules.
    """
    videos = (source.video_id for source in sources if source.video_id and source.outcome == "ok")
    entities = {video: _Entity("video", None) for video in videos}
    for answered in replay.answered:
        _apply(entities, answered, stages[answered.stage].name)
    for waiting in replay.waiting:
        for name in (waiting.unit, *waiting.subjects):
            entity = _known(entities, name, stages[waiting.stage].name)
            if entity.outcome == "ok":
                entity.outcome = PENDING
    return {name: _fate(entities, entity) for name, entity in entities.items()}


def count(
    sources: Sequence[Source],
    stages: Sequence[Stage],
    replay: Replay,
    known: Mapping[str, Fate] | None = None,
) -> Counts:
    """Counts per level, from the `fates` of all; raises as that does.

    Args:
        known: the fates, where one has them already.
    """
    counts = nothing()
    for source in sources:
        if source.outcome != "ok":
            counts["videos"].add(source.outcome, source.reason)
    for fate in (fates(sources, stages, replay) if known is None else known).values():
        counts[f"{fate.level}s"].add(fate.outcome, fate.reason)
    return counts


def check(sources: Sequence[Source], counts: Counts, replay: Replay) -> None:
    """Raise ConservationError unless every level adds up and every ok clip finished."""
    for name, level in counts.items():
        if level.total() != level.inputs:
            raise ConservationError(f"{name}: {level.inputs} inputs, but {level.to_json()}")
    if counts["videos"].inputs != len(sources):
        raise ConservationError(
            f"{len(sources)} files are listed, {counts['videos'].inputs} are accounted for"
        )
    finished = [unit_id(record) for record in replay.finished if "clip_id" in record]
    if len(set(finished)) != len(finished):
        raise ConservationError("a clip finished twice")
    if len(finished) != counts["clips"].ok:
        raise ConservationError(
            f"{counts['clips'].ok} clips count as ok, but {len(finished)} finished"
        )


def _apply(entities: dict[str, _Entity], answered: Answered, stage: str) -> None:
    for row in answered.rows:
        if row.id is not None:
            _introduce(entities, row, stage)
        _known(entities, row.subject, stage).end(row, own=True)
    missing = silent(answered.subjects, answered.rows)
    if missing:
        raise ConservationError(f"{stage} of {answered.unit} says nothing about {missing[0]}")
    if not answered.advanced:
        _stop(_known(entities, answered.unit, stage), answered, stage)


def _stop(unit: _Entity, answered: Answered, stage: str) -> None:
    """The unit went no further: if no row ended it, the first of its children to end did."""
    ends = [row for row in answered.rows if row.outcome != "ok"]
    if unit.outcome == "ok" and not ends:
        raise ConservationError(f"{stage} of {answered.unit} went no further and says not why")
    if unit.outcome == "ok":
        unit.end(ends[0], own=False)


def _introduce(entities: dict[str, _Entity], row: Row, stage: str) -> None:
    """A row with an id creates its entity, or speaks of the same one again."""
    known = entities.get(str(row.id))
    if known is None:
        if row.parent is None or row.parent not in entities:
            raise ConservationError(f"{stage}: {row.level} {row.id} has no known parent")
        entities[str(row.id)] = _Entity(row.level, row.parent)
    elif known.level != row.level or row.parent not in (None, known.parent):
        raise ConservationError(
            f"{stage}: {row.level} {row.id} of {row.parent} is known as "
            f"a {known.level} of {known.parent}"
        )


def _known(entities: dict[str, _Entity], name: str, stage: str) -> _Entity:
    if name not in entities:
        raise ConservationError(f"{stage} speaks of {name}, which no earlier stage made")
    return entities[name]


def _fate(entities: dict[str, _Entity], entity: _Entity) -> Fate:
    """Its own outcome, or else that of the nearest ancestor that a row ended or that waits."""
    for one in _lineage(entities, entity):
        own = one is entity and one.outcome != "ok"
        if own or one.ended or one.outcome == PENDING:
            return Fate(entity.level, one.outcome, one.reason)
    return Fate(entity.level, "ok")


def _lineage(entities: dict[str, _Entity], entity: _Entity | None) -> Iterable[_Entity]:
    while entity is not None:
        yield entity
        entity = entities.get(entity.parent) if entity.parent else None
