"""All stages work at once, each batch is durable when it is done, and names are content."""

import json
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest

from pipeline.faults import RunError
from pipeline.ledger.shelf import Shelf
from pipeline.plan import Plan
from pipeline.runner import run
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


@pytest.mark.usefixtures("local_ray")
class TestStreaming:
    def test_one_film_is_cut_while_another_is_captioned_and_a_new_name_is_no_new_film(
        self,
        make_plan: Callable[..., Plan],
        films: Callable[..., Path],
        view: PlainView,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        slow = {f"f{n}": {"clips": "slow", "shots": [[["slow"]]]} for n in range(6)}
        folder = films(**slow, broken="no json")
        first = run(make_plan(batch=1), folder, view)
        events = first.folder.local("events.jsonl")
        assert overlap(spans(events, "clips"), spans(events, "words")) > 0.1

        for path in list(folder.iterdir()):
            path.rename(path.with_name(f"renamed-{path.name}"))

        def refuse(*args: object, **named: object) -> None:
            raise AssertionError("Ray was started")

        monkeypatch.setattr("pipeline.cluster.connect.connected", refuse)
        again = run(make_plan(batch=1), folder, view)
        assert again.computed == {}, "also what gave nothing at all is done"
        assert not again.rewritten

    def test_what_was_durable_when_a_run_ended_is_not_done_again(
        self,
        make_plan: Callable[..., Plan],
        films: Callable[..., Path],
        calls: Callable[[], dict[str, int]],
        view: PlainView,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        clips = 12
        folder = films(**{f"f{n}": {"shots": [[["slow"]] * 2]} for n in range(clips // 2)})
        plan, write = make_plan(batch=1), EventLog.write

        def end(log: EventLog, events: Iterable[Event]) -> None:
            told = list(events)
            write(log, told)
            if any(one["event"] == "batch" and one["stage"] == "words" for one in told):
                raise RunError("the run ends with its first captions")

        with monkeypatch.context() as broken:
            broken.setattr(EventLog, "write", end)
            with pytest.raises(RunError, match="first captions"):
                run(plan, folder, view)
        durable = len(Shelf(plan.tables[WORDS]).answers())
        assert durable > 0
        calls()
        result = run(plan, folder, view)
        # A worker of the run that ended may finish what it has in hand: then there is less to do.
        assert calls().get("words", 0) <= clips - durable
        assert result.computed.get("words", 0) <= clips - durable
        assert result.counts["clips"].ok == clips
