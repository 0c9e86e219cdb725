"""One worker without Ray: what it makes durable, and what it survives."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.faults import Marks, RunError
from pipeline.plan import Plan
from pipeline.worker import Event, Job, Worker, flow
from stages.stage import Record

MakePlan = Callable[..., Plan]
WORDS = 4  # position of the stage in the fake plan
STUCK = """
import atexit, ctypes
from pipeline import worker
worker.LEAVE_SECONDS = 1
atexit.register(worker._leave_in_time)
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.pause, ctypes.c_void_p), None, None)
"""


def clip(number: int, word: str) -> Record:
    segment = {"segment_id": f"s{number}", "a": 0}
    return {"clip_id": f"c{number}", "segments": [segment], "words": [word], "shot_id": "s"}


class Bench:
    """A words worker, its table and its events."""

    def __init__(self, plan: Plan, notes: Path) -> None:
        self.stage, self.table, self.events = plan.stages[WORDS], plan.tables[WORDS], list[Event]()
        self.notes = notes

    def worker(self, known: dict[str, str] | None = None) -> Worker:
        report = self.events.append
        return Worker(Job(self.stage, WORDS, self.table, self.notes, known or {}, report))

    def keys(self, *records: Record) -> list[str]:
        return [self.stage.key(record) for record in records]

    def parts(self) -> int:
        return len(list(self.table.folder.glob("part-*")))


@pytest.fixture
def bench(make_plan: MakePlan, tmp_path: Path) -> Bench:
    return Bench(make_plan(batch=2), tmp_path / "notes")


def answered(worker: Worker, *records: Record, position: int = WORDS) -> list[dict[str, Any]]:
    tables = list(worker(flow([(position, record) for record in records])))
    return pa.concat_tables(tables).to_pylist()


def test_each_batch_is_one_part_and_goes_on(bench: Bench) -> None:
    rows = answered(bench.worker(), clip(1, "x"), clip(2, "y"), clip(3, "z"))
    assert [row["next_stage"] for row in rows] == [WORDS + 1] * 3
    assert bench.parts() == 2
    assert [(event["records"], event["computed"]) for event in bench.events] == [(2, 2), (1, 1)]


def test_records_of_later_stages_pass(bench: Bench) -> None:
    rows = answered(bench.worker(), clip(1, "x"), position=WORDS + 1)
    assert [row["next_stage"] for row in rows] == [WORDS + 1]
    assert bench.parts() == 0


def test_a_repeated_batch_is_read_not_computed(
    bench: Bench, calls: Callable[[], dict[str, int]]
) -> None:
    first = answered(bench.worker(), clip(1, "x"), clip(2, "y"))
    assert calls() == {"words": 2}
    assert answered(bench.worker(), clip(1, "x"), clip(2, "y")) == first
    assert calls() == {}


def test_what_was_durable_before_the_run_is_read_whatever_its_batch(
    bench: Bench, calls: Callable[[], dict[str, int]]
) -> None:
    answered(bench.worker(), clip(1, "x"), clip(2, "y"))
    calls()
    known = bench.table.read().parts
    rows = answered(bench.worker(known), clip(2, "y"), clip(3, "z"))
    assert len(rows) == 2
    assert calls() == {"words": 1}
    assert bench.events[-1]["computed"] == 1


def test_a_record_that_raises_is_quarantined_among_its_batch(bench: Bench) -> None:
    answered(bench.worker(), clip(0, "x"))
    rows = answered(bench.worker(), clip(1, "raise"), clip(2, "y"))
    assert len(rows) == 1
    assert bench.parts() == 2
    (bad,) = bench.table.read().answers[bench.keys(clip(1, "raise"))[0]]
    assert (bad.outcome, bad.reason) == ("quarantined", "exception")
    assert bad.message == "ValueError: this film asked for it"


def test_after_a_death_records_are_tried_alone_and_twice_at_most(bench: Bench) -> None:
    good, bad = clip(1, "x"), clip(2, "kill")
    marks = Marks(bench.notes)
    for key, deaths in zip(bench.keys(good, bad), (1, Marks.ALLOWED), strict=True):
        (bench.notes / "attempts" / key).write_text("x" * deaths)
    rows = answered(bench.worker(), good, bad)
    assert len(rows) == 1
    assert bench.parts() == 2, "each in a part of its own"
    (row,) = bench.table.read().answers[bench.keys(bad)[0]]
    assert (row.outcome, row.reason) == ("quarantined", "killed_worker")
    assert [marks.attempts(key) for key in bench.keys(good, bad)] == [0, 0]


def test_a_stage_that_forgets_a_record_stops_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = bench.worker()
    monkeypatch.setattr(bench.stage, "process", lambda records: [[] for _ in records])
    with pytest.raises(RunError, match="says nothing about"):
        answered(worker, clip(1, "x"))
    monkeypatch.setattr(bench.stage, "process", lambda records: [])
    with pytest.raises(RunError, match="answered 0 of 1 records"):
        answered(worker, clip(1, "x"))
    assert bench.parts() == 0


def test_a_worker_that_cannot_leave_is_ended(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], timeout=30, check=False)
    assert done.returncode == -14, "SIGALRM"
