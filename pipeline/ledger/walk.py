"""Where a whole corpus stands: `pipeline.ledger.replay` slice by slice, and the sum of it.

A *slice* is a range of video ids with everything that hangs below them, so that memory follows the
slice and not the corpus. What a run needs of all slices goes to disk: the records that wait
(`pipeline.streaming.queue`) and those that finished (`Finished`).
"""

import gc
import json
import sqlite3
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from corpus.ids import canonical_json
from pipeline.inputs.sources import Listing, Source
from pipeline.ledger import conservation
from pipeline.ledger.decoding import Decoding
from pipeline.ledger.endings import Ending, endings, joined
from pipeline.ledger.replay import Replay, replay
from pipeline.ledger.shelf import Shelf, ranges
from pipeline.ledger.tables import Answers
from pipeline.plan import Plan
from stages.stage import GateStage, Record

SLICE_ROWS = 20_000  # of all tables together: some tens of MiB as Python objects


@dataclass(frozen=True)
class Slice:
    """Some of the listed files and where they stand.

    Attributes:
        durable: per stage, how many units of work have rows, also those that nothing asks for now.
    """

    sources: Sequence[Source]
    found: Replay
    durable: Sequence[int]


def slices(plan: Plan, listing: Listing, *, retry: bool = False) -> Iterator[Slice]:
    """Every listed file in one slice, whose size is about `SLICE_ROWS`, or one video.

    A gate judges all at once: what it reads of every clip is gathered before, slice by slice.
    """
    shelves = [Shelf(table) for table in plan.tables]
    videos = sorted(one.video_id for one in listing.sources if one.outcome == "ok" and one.video_id)
    weights = [[(video, 1) for video in videos], *(shelf.weights() for shelf in shelves)]
    within = ranges(weights, SLICE_ROWS)
    starts = [low for low, _ in within]
    groups: list[list[Source]] = [[] for _ in within]
    for source in listing.sources:
        video = source.video_id if source.outcome == "ok" else None
        groups[bisect_right(starts, video or "") - 1].append(source)
    gates = {at: stage for at, stage in enumerate(plan.stages) if isinstance(stage, GateStage)}
    decided: dict[int, Answers] = {}

    @_no_search_for_cycles()
    def walked(number: int, stop: int) -> tuple[Replay, list[int]]:
        """One slice up to a stage."""
        records = [source.record() for source in groups[number] if source.outcome == "ok"]
        listed = [record["video_id"] for record in records]
        answers = [
            decided[at] if at in decided else shelf.answers(within[number], listed)
            for at, shelf in enumerate(shelves[:stop])
        ]
        found = replay(plan.stages[:stop], records, answers, retry=retry)
        return found, [0 if at in decided else len(one) for at, one in enumerate(answers)]

    for at, gate in gates.items():
        arrived = {
            gate.key(record): gate.content(record)
            for number in range(len(within))
            for record in walked(number, at)[0].finished
        }
        rows = gate.process(list(arrived.values()))
        decided[at] = dict(zip(arrived, rows, strict=True))
    for number, sources in enumerate(groups):
        found, durable = walked(number, len(plan.stages))
        yield Slice(sources, found, durable)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Rows and records hang together in trees, and to look for cycles among ever more of them takes
    as long as half of reading them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass
class Tally:
    """The sum of all slices.

    Attributes:
        answered: units of work per stage that the replay went past.
        outcomes: of their rows.
        durable: units of work per stage that have rows.
        waiting: records per stage that wait.
        stale: per stage, keys whose rows do not count.
        endings: why things ended.
        decoding: pictures against packets.
    """

    plan: Plan
    counts: conservation.Counts = field(default_factory=conservation.nothing)
    answered: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    durable: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    stale: dict[str, set[str]] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    decoding: Decoding = field(default_factory=Decoding)

    def add(self, part: Slice) -> None:
        """Count a slice.

        Raises:
            ConservationError: it does not add up.
        """
        stages, found = self.plan.stages, part.found
        fates = conservation.fates(part.sources, stages, found)
        counts = conservation.count(part.sources, stages, found, fates)
        conservation.check(part.sources, counts, found)
        conservation.add(self.counts, counts)
        self.endings = joined(self.endings, endings(part.sources, stages, found, fates))
        self.decoding.add(part.sources, found)
        for stage, number in zip(stages, part.durable, strict=True):
            self.durable[stage.name] += number
        for answered in found.answered:
            name = stages[answered.stage].name
            self.answered[name] += 1
            outcomes = self.outcomes.setdefault(name, Counter())
            outcomes.update(row.outcome for row in answered.rows)
        self.waiting.update(stages[waiting.stage].name for waiting in found.waiting)
        for position, key in found.stale:
            self.stale.setdefault(stages[position].name, set()).add(key)


class Finished(Mapping[str, Record]):
    """Finished clip records by clip id, in that order, on disk: read one after the other.

    SQLite keeps them in a file without a name, which goes with the process however that ends.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("PRAGMA synchronous = OFF")
        self._rows.execute("CREATE TABLE finished (id TEXT, record BLOB)")

    def add(self, records: Sequence[Record]) -> None:
        packed = (
            (record["clip_id"], zlib.compress(canonical_json(record).encode(), 1))
            for record in records
        )
        self._rows.executemany("INSERT INTO finished VALUES (?, ?)", packed)

    def __len__(self) -> int:
        (number,) = self._rows.execute("SELECT COUNT(*) FROM finished").fetchone()
        return int(number)

    def __iter__(self) -> Iterator[str]:
        self._index()
        return (name for (name,) in self._rows.execute("SELECT id FROM finished ORDER BY id"))

    def __getitem__(self, clip_id: str) -> Record:
        self._index()
        found = self._rows.execute(
            "SELECT record FROM finished WHERE id = ?", (clip_id,)
        ).fetchone()
        if found is None:
            raise KeyError(clip_id)
        return _unpacked(found[0])

    def _index(self) -> None:
        self._rows.execute("CREATE UNIQUE INDEX IF NOT EXISTS by_id ON finished (id)")


def _unpacked(packed: bytes) -> Record:
    return dict(json.loads(zlib.decompress(packed)))
