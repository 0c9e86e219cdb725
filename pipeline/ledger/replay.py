"""Replay: where every listed video stands, from stored rows alone.

`replay` walks each video through the stages. A stage whose rows are stored is passed by its
`Stage.advance`; where rows are missing, the record waits. Resume is "run what waits", status is
"count what was met", and the shards stage reads what finished: one function for all three.

A gate (`stages.stage.GateStage`) has no stored rows: where it was not asked before, it judges what
has arrived there.

Rows whose media file is gone count as missing: they are *stale*. So do quarantined ones, if asked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from corpus.rows import Row
from pipeline.ledger.tables import Answers
from stages.stage import GateStage, Record, Stage


@dataclass(frozen=True)
class Answered:
    """A unit of work that has rows.

    Attributes:
        stage, key: position of the stage, and name of the unit of work.
        unit: id of the unit's entity (the video, or the clip).
        subjects: ids whose fate this unit of work decides.
        advanced: how many records went on.
    """

    stage: int
    key: str
    unit: str
    subjects: tuple[str, ...]
    rows: Sequence[Row]
    advanced: int


@dataclass(frozen=True)
class Waiting:
    """A unit of work whose rows are missing."""

    stage: int
    key: str
    unit: str
    subjects: tuple[str, ...]
    record: Record


@dataclass(frozen=True)
class Replay:
    """Everything that was met: see the module's text.

    Attributes:
        finished: in the order of unit ids.
        stale: stage and key of rows that do not count, also of those that only come into play once
            what waits before them is done. A run takes them out of the tables before it streams.
    """

    answered: list[Answered] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    finished: list[Record] = field(default_factory=list)
    stale: list[tuple[int, str]] = field(default_factory=list)


def unit_id(record: Record) -> str:
    """Id of the entity that a record is about: its clip, or else its video."""
    return str(record["clip_id"] if "clip_id" in record else record["video_id"])


def silent(subjects: Iterable[str], rows: Iterable[Row]) -> list[str]:
    """Subjects that no row speaks of, as its own or as its parent."""
    spoken: set[str | None] = set()
    for row in rows:
        spoken.add(row.id)
        spoken.add(row.parent)
    return [subject for subject in subjects if subject not in spoken]


def replay(
    stages: Sequence[Stage],
    records: Iterable[Record],
    stored: Sequence[Answers],
    *,
    retry: bool = False,
) -> Replay:
    """Walk ``records`` (one per distinct video) through ``stages``.

    Args:
        stored: per stage, rows by key.
        retry: whether what was quarantined is to be done again.
    """
    found = Replay()
    there = [stage.context.media.store.glance() for stage in stages]
    gates = {
        at: stage
        for at, stage in enumerate(stages)
        if isinstance(stage, GateStage) and not stored[at]
    }
    arrived = [(record, True) for record in records]
    start = 0
    for stop in (*gates, len(stages)):
        leg = range(start, stop)
        walks = [_walk(one, leg, stages, stored, there, retry, found) for one in arrived]
        arrived = [one for walk in walks for one in walk]
        if stop in gates:
            arrived = _judged(gates[stop], stop, arrived, found)
        start = stop + 1
    found.finished.extend(sorted((one for one, counts in arrived if counts), key=unit_id))
    return found


# A record, and whether it counts: what lies below something that waits is walked for stale rows.
Arrival = tuple[Record, bool]


def _walk(
    begin: Arrival,
    leg: range,
    stages: Sequence[Stage],
    stored: Sequence[Answers],
    there: Sequence[Callable[[str], bool]],
    retry: bool,
    found: Replay,
) -> list[Arrival]:
    """What arrives behind the stages of a leg."""
    pending = [(leg.start, *begin)]
    arrived: list[Arrival] = []
    while pending:
        position, record, counts = pending.pop()
        if position == leg.stop:
            arrived.append((record, counts))
            continue
        stage = stages[position]
        key, unit, subjects = stage.key(record), unit_id(record), tuple(stage.subjects(record))
        rows = stored[position].get(key)
        onward = [] if rows is None else stage.advance(record, rows)
        lost = _lost(stage, onward, there[position])
        stale = rows is not None and (lost or (retry and _quarantined(rows)))
        if stale:
            found.stale.append((position, key))
        if counts and rows is not None and not stale:
            found.answered.append(Answered(position, key, unit, subjects, rows, len(onward)))
        elif counts:
            found.waiting.append(Waiting(position, key, unit, subjects, record))
            counts = False
        pending += [(position + 1, item, counts) for item in reversed(onward)]
    return arrived


def _judged(
    gate: GateStage, position: int, arrived: Sequence[Arrival], found: Replay
) -> list[Arrival]:
    """What a gate lets pass of what has arrived; what does not count is not asked about."""
    records = [record for record, counts in arrived if counts]
    passed: list[Arrival] = [one for one in arrived if not one[1]]
    for record, rows in zip(records, gate.process(records), strict=True):
        onward = gate.advance(record, rows)
        passed += [(item, True) for item in onward]
        subjects = tuple(gate.subjects(record))
        found.answered.append(
            Answered(position, gate.key(record), unit_id(record), subjects, rows, len(onward))
        )
    return passed


def _lost(stage: Stage, onward: Iterable[Record], there: Callable[[str], bool]) -> bool:
    """Whether a media file that records go on with is not there, or has no bytes."""
    if stage.makes is None:
        return False
    return any(not there(item[stage.makes]) for item in onward)


def _quarantined(rows: Iterable[Row]) -> bool:
    return any(row.outcome == "quarantined" for row in rows)
