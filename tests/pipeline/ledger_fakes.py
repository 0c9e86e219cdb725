"""What the ledger tells, made up for tests: a run of which one says what is found, or stores it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.inputs.sources import Listing
from pipeline.ledger.conservation import Counts
from pipeline.ledger.endings import endings
from pipeline.ledger.replay import Replay
from pipeline.ledger.status import Latest, Status
from pipeline.ledger.walk import Slice, Tally
from pipeline.plan import Plan

RUN = "20260101T000000.000000Z-1"


@dataclass(frozen=True)
class FakeLatest(Latest):
    """A run of which one says what is found."""

    found: Replay
    sums: Tally

    def slices(self) -> Iterator[Slice]:
        yield Slice(self.listing.sources, self.found, ())

    def count(self, *watchers: Callable[[Slice], None]) -> Status:
        for part in self.slices():
            for watch in watchers:
                watch(part)
        return Status(self.run, self.plan, self.listing, self.sums)


def latest_of(plan: Plan, listing: Listing, found: Replay, counts: Counts) -> FakeLatest:
    """The latest run, whose sums are what one says; without counts there are no endings."""
    sums = Tally(plan)
    if counts:
        sums.counts, sums.endings = counts, endings(listing.sources, plan.stages, found)
    sums.waiting.update(plan.stages[one.stage].name for one in found.waiting)
    return FakeLatest(RUN, plan, listing, found, sums)


def answer_all(plan: Plan, listing: Listing, *, but: str = "") -> None:
    """What a run would store, without Ray; of film ``but`` only its probe."""
    for source in (one for one in listing.sources if one.outcome == "ok"):
        records = [source.record()]
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            onward = []
            for record in records:
                (rows,) = stage.process([record])
                table.write([(stage.key(record), record["video_id"], rows)])
                onward += stage.advance(record, rows)
            records = onward
            if source.uri == but:
                break
