"""The sum of slices is what one replay of everything gives, and what it needs lies on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_fakes import answer_all

from corpus.store import LocalStore
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import Listing, Source, SourceConfig
from pipeline.ledger import conservation, walk
from pipeline.ledger.compaction import compact
from pipeline.ledger.endings import endings
from pipeline.ledger.replay import Waiting
from pipeline.ledger.walk import Finished, Tally, slices
from pipeline.plan import Plan
from pipeline.streaming.queue import Queue, taken

FILMS = 12


@pytest.fixture
def listing(films: Callable[..., Path], tmp_path: Path) -> Listing:
    scripts = {f"f{n}": {"shots": [[["x", "y"], ["bad"]], []]} for n in range(FILMS)}
    folder = films(**scripts, empty="", broken="no json")
    config, cache = SourceConfig(), tmp_path / "cache.parquet"
    return identify(list_sources(folder, config), config, cache, rehash=True)


@pytest.mark.parametrize("sorting", [False, True])
def test_slices_add_up_to_the_whole(
    make_plan: Callable[..., Plan],
    listing: Listing,
    sorting: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = make_plan()
    answer_all(plan, listing, but="f3.mp4")
    (only,) = slices(plan, listing)
    all_at_once = only.found
    monkeypatch.setattr(walk, "SLICE_ROWS", 20)
    if sorting:
        for table in plan.tables:
            compact(table, many=1)
    parts = list(slices(plan, listing))
    assert len(parts) > 1
    assert sorted(s.uri for part in parts for s in part.sources) == sorted(
        source.uri for source in listing.sources
    )
    sums, finished = Tally(plan), Finished()
    for part in parts:
        sums.add(part)
        finished.add(part.found.finished)
    assert sums.counts == conservation.count(listing.sources, plan.stages, all_at_once)
    told = endings(listing.sources, plan.stages, all_at_once)
    assert [(e.level, e.outcome, e.reason, e.count) for e in sums.endings] == [
        (e.level, e.outcome, e.reason, e.count) for e in told
    ]
    assert dict(sums.waiting) == {"shots": 1}
    assert sums.answered["probe"] == sums.durable["probe"] == FILMS + 1
    assert list(finished.values()) == all_at_once.finished
    assert list(finished) == [record["clip_id"] for record in all_at_once.finished]
    assert len(finished) == FILMS - 1


def test_a_video_that_is_not_listed_costs_nothing(
    make_plan: Callable[..., Plan], listing: Listing
) -> None:
    plan = make_plan()
    answer_all(plan, listing)
    one = [source for source in listing.sources if source.uri == "f1.mp4"]
    (part,) = slices(plan, replace(listing, sources=tuple(one)))
    assert part.durable[0] == 1
    assert len(part.found.finished) == 1


def test_slices_of_nothing_durable_are_bounded_too(
    make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "SLICE_ROWS", 10)
    listed = tuple(Source(f"{n}.mp4", "", video_id=f"{n:032d}") for n in range(95))
    parts = list(slices(make_plan(), Listing(listed)))
    assert max(len(part.found.waiting) for part in parts) <= 10
    assert sum(len(part.found.waiting) for part in parts) == 95


class TestQueue:
    def waiting(self, count: int) -> list[Waiting]:
        return [Waiting(n % 2, f"{n:032x}", "v", (), {"video_id": str(n)}) for n in range(count)]

    def test_every_record_is_taken_once(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path / "waiting")
        queue = Queue(store)
        queue.add(self.waiting(1100))
        queue.close()
        assert len(queue) == 1100 and queue.stages == [0, 1]
        backlog = queue.backlog(range(2))
        orders = backlog.orders(7)
        rows = [row for order in orders for got in taken(order, store) for row in got.to_pylist()]
        assert sorted(int(row["record"][13:-2]) for row in rows) == list(range(1100))
        assert {row["next_stage"] for row in rows} == {0, 1}
        assert len(queue.backlog(range(1, 2))) == 550
        assert len(queue.some()) == 1024

    def test_the_digest_is_of_the_records_in_any_order(self, tmp_path: Path) -> None:
        some = self.waiting(50)
        queues = [
            Queue(LocalStore(tmp_path / str(n)), but)
            for n, but in enumerate([(), (), [(1, some[1].key)]])
        ]
        for queue, records in zip(queues, (some, some[::-1], some), strict=True):
            queue.add(records)
            queue.close()
        assert queues[0].digest == queues[1].digest != queues[2].digest
        assert len(queues[2]) == 49, "what was put off is left out"
