"""All stages work at once, each batch is durable when it is done, and names are content."""

import json
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest

from pipeline.faults import RunError
from pipeline.ledger.leash import wait_for_workers
from pipeline.ledger.shelf import Shelf
from pipeline.plan import Cluster, Plan
from pipeline.runner import run
from pipeline.streaming import stream
from pipeline.streaming.stream import Link
from pipeline.telemetry.events import Event, EventLog
from pipeline.telemetry.progress import PlainView

WORDS = 4  # position of the stage that stands for captions
Span = tuple[float, float]


def spans(events: Path, stage: str) -> list[Span]:
    """When batches of a stage began and ended."""
    found = [json.loads(line) for line in events.read_text().splitlines()]
    batches = [one for one in found if one["event"] == "batch" and one["stage"] == stage]
    return [(one["begun"], one["begun"] + one["seconds"]) for one in batches]


def overlap(some: Iterable[Span], others: Iterable[Span]) -> float:
    """The longest time that one of each shared."""
    return max(min(a[1], b[1]) - max(a[0], b[0]) for a, b in product(some, others))


def told(events: Iterable[Event], stage: str) -> int:
    """Units of work that a stage said it had computed."""
    return sum(
        one["computed"] for one in events if one["event"] == "batch" and one["stage"] == stage
    )


class TestStuck:
    @pytest.fixture
    def told(
        self, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[list[Event]], None]:
        """Of two crews of a CPU each, after two of three machines were lost."""
        left = Cluster(1, 0, 1, ((1.0, 0.0),))
        monkeypatch.setattr(stream, "measured", lambda foreign: left)
        monkeypatch.setattr(stream, "LOOK_SECONDS", 0.0)
        plan = make_plan()
        links = [Link(at, stage, plan.tables[at]) for at, stage in enumerate(plan.stages)]
        return stream._until_stuck(links, lambda events: None)

    def test_what_can_never_go_on_is_told(
        self, told: Callable[[list[Event]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told([])
        monkeypatch.setattr(stream, "STUCK_SECONDS", 0.0)
        with pytest.raises(RunError, match="the 1 CPUs and 0 GPUs that are left have no room"):
            told([])

    def test_what_goes_on_or_has_room_is_left_alone(
        self, told: Callable[[list[Event]], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stream, "STUCK_SECONDS", 0.05)
        for _ in range(4):
            time.sleep(0.02)
            told([{"event": "batch"}])
        monkeypatch.setattr(stream, "measured", lambda foreign: Cluster(2, 0, 2, ((2.0, 0.0),)))
        time.sleep(0.06)
        told([])


@pytest.mark.usefixtures("local_ray")
class TestStreaming:
    def test_one_film_is_cut_while_another_is_captioned_and_a_new_name_is_no_new_film(
        self,
        make_plan: Callable[..., Plan],
        films: Callable[..., Path],
        view: PlainView,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # The stages wait for each other: where they work one after the other they wait in vain.
        # A film's captions follow its cutting, so what overlaps are two films.
        meeting = {"clips": "together", "shots": [[["together"]]]}
        folder = films(**{f"f{n}": meeting for n in range(3)}, broken="no json")
        first = run(make_plan(batch=1), folder, view)
        assert first.counts["clips"].ok == 3
        events = first.folder.local("events.jsonl")
        assert overlap(spans(events, "clips"), spans(events, "words")) > 0

        for path in list(folder.iterdir()):
            path.rename(path.with_name(f"renamed-{path.name}"))

        def refuse(*args: object, **named: object) -> None:
            raise AssertionError("Ray was started")

        monkeypatch.setattr("pipeline.cluster.connect.connected", refuse)
        again = run(make_plan(batch=1), folder, view)
        assert again.computed == {}, "also what gave nothing at all is done"
        assert not again.rewritten

    def test_a_batch_is_durable_when_it_is_told_and_is_not_done_again(
        self,
        make_plan: Callable[..., Plan],
        films: Callable[..., Path],
        calls: Callable[[], dict[str, int]],
        view: PlainView,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        clips = 12
        folder = films(**{f"f{n}": {"shots": [[["slow"]] * 2]} for n in range(clips // 2)})
        plan, write, so_far = make_plan(batch=1), EventLog.write, list[Event]()
        early = list[tuple[str, int, int]]()

        def look(log: EventLog, events: Iterable[Event]) -> None:
            so_far.extend(events)
            write(log, events)
            for stage, table in zip(plan.stages, plan.tables, strict=True):
                said, stored = told(so_far, stage.name), len(Shelf(table).answers())
                if said > stored:
                    early.append((stage.name, said, stored))
            if told(so_far, "words"):
                raise RunError("the run ends with its first captions")

        with monkeypatch.context() as broken:
            broken.setattr(EventLog, "write", look)
            with pytest.raises(RunError, match="first captions"):
                run(plan, folder, view)
        assert early == []
        wait_for_workers(plan.layout.store, view.say)  # a worker may finish what it has in hand
        durable = len(Shelf(plan.tables[WORDS]).answers())
        assert 0 < durable < clips
        calls()
        result = run(plan, folder, view)
        assert calls()["words"] == result.computed["words"] == clips - durable
        assert result.counts["clips"].ok == clips
