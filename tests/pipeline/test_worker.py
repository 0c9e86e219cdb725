"""One worker without Ray: what it makes durable, and what it survives."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus.errors import UserError
from corpus.rows import Row
from pipeline.faults import Marks, RunError, read_put_off
from pipeline.inputs.listing import list_sources
from pipeline.inputs.naming import identify
from pipeline.inputs.sources import SourceConfig
from pipeline.ledger.compaction import compact
from pipeline.ledger.shelf import Shelf
from pipeline.plan import Plan
from pipeline.streaming.worker import MOST_PUT_OFF, Job, Worker, flow
from pipeline.telemetry.events import Event
from stages.stage import Record

MakePlan = Callable[..., Plan]
WORDS = 4  # position of the stage in the fake plan
STUCK = """
import atexit, ctypes
from pipeline.streaming import worker
worker.LEAVE_SECONDS = 1
atexit.register(worker._leave_in_time)
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.pause, ctypes.c_void_p), None, None)
"""


def clip(number: int, word: str) -> Record:
    segment = {"segment_id": f"s{number}", "a": 0}
    ids = {"clip_id": f"c{number}", "shot_id": "s", "video_id": "v"}
    return {**ids, "segments": [segment], "words": [word]}


class Bench:
    """A worker of one stage, its table and its events."""

    def __init__(self, plan: Plan, notes: Path, position: int = WORDS) -> None:
        self.stage, self.table = plan.stages[position], plan.tables[position]
        self.events = list[Event]()
        self.notes = notes
        self.position = position

    def worker(self) -> Worker:
        return Worker(Job(self.stage, self.position, self.table, self.notes, self.events.append))

    def stored(self) -> dict[str, list[Row]]:
        return Shelf(self.table).answers()

    def keys(self, *records: Record) -> list[str]:
        return [self.stage.key(record) for record in records]

    def parts(self) -> int:
        return len(self.table.parts())


@pytest.fixture
def bench(make_plan: MakePlan, tmp_path: Path) -> Bench:
    return Bench(make_plan(batch=2), tmp_path / "notes" / "words")


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
    compact(bench.table, many=1)
    rows = answered(bench.worker(), clip(2, "y"), clip(3, "z"))
    assert len(rows) == 2
    assert calls() == {"words": 1}
    assert bench.events[-1]["computed"] == 1


def test_a_record_that_raises_is_quarantined_among_its_batch(bench: Bench) -> None:
    answered(bench.worker(), clip(0, "x"))
    rows = answered(bench.worker(), clip(1, "raise"), clip(2, "y"))
    assert len(rows) == 1
    assert bench.parts() == 2
    (bad,) = bench.stored()[bench.keys(clip(1, "raise"))[0]]
    assert (bad.outcome, bad.reason) == ("quarantined", "exception")
    assert bad.message == "ValueError: this film asked for it"


def test_one_of_a_thousand_that_raises_takes_no_other_with_it(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    bench = Bench(make_plan(batch=64), tmp_path / "notes" / "words")
    answered(bench.worker(), clip(-1, "x"))
    clips = [clip(number, "raise" if number == 500 else "x") for number in range(1000)]
    onward = answered(bench.worker(), *clips)
    assert len(onward) == 999
    outcomes = [rows[0].outcome for rows in bench.stored().values()]
    assert (outcomes.count("ok"), outcomes.count("quarantined")) == (1000, 1)


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.streaming.worker.WAITS", (0.0, 0.0))


@pytest.mark.usefixtures("no_waits")
class TestPuttingOff:
    def test_of_what_the_machine_could_not_do_nothing_is_stored(self, bench: Bench) -> None:
        rows = answered(bench.worker(), clip(1, "away"), clip(2, "y"))
        assert len(rows) == 1
        assert set(bench.stored()) == set(bench.keys(clip(2, "y")))
        assert bench.events[-1]["outcomes"] == {"ok": 1, "put off": 1}
        (one,) = read_put_off(bench.notes.parent)
        assert (one.stage, one.item) == ("words", "c1")
        assert one.why == "OSError: [Errno 116] the mount is away"

    def test_what_passes_by_itself_leaves_no_trace(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = [OSError(5, "EIO"), MemoryError(), UserError("clip is gone")]
        process = bench.stage.process

        def moody(records: Sequence[Record]) -> list[list[Row]]:
            if tries:
                raise tries.pop()
            return process(records)

        worker = bench.worker()
        monkeypatch.setattr(bench.stage, "process", moody)
        assert len(answered(worker, clip(1, "x"))) == 1
        assert not tries
        assert read_put_off(bench.notes.parent) == []
        assert bench.parts() == 1

    def test_the_next_run_takes_it_up(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(what: str | None) -> None:
            raise FileNotFoundError(2, "No such file", "clip.mp4")

        with monkeypatch.context() as today:
            today.setattr(bench.stage, "trouble", away)
            assert answered(bench.worker(), clip(1, "x")) == []
        assert bench.stored() == {}
        assert len(answered(bench.worker(), clip(1, "x"))) == 1

    def test_many_in_a_row_stop_the_run(self, bench: Bench) -> None:
        away = [clip(n, "away") for n in range(MOST_PUT_OFF)]
        answered(bench.worker(), *away[1:], clip(99, "x"), away[0])
        with pytest.raises(RunError, match=r"8 records in a row.*on c7.*the mount is away"):
            answered(bench.worker(), *away)
        assert bench.parts() == 1

    def test_a_full_disk_stops_the_run_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(what: str | None) -> None:
            raise OSError(errno.ENOSPC, "disk full")

        worker = bench.worker()
        monkeypatch.setattr(bench.stage, "trouble", full)
        with pytest.raises(OSError, match="disk full"):
            answered(worker, clip(1, "x"))
        assert read_put_off(bench.notes.parent) == []


@pytest.mark.usefixtures("no_waits")
class TestFilmsThatChange:
    """The probe of the fake plan, on real files."""

    @pytest.fixture
    def probe(self, make_plan: MakePlan, tmp_path: Path) -> Bench:
        return Bench(make_plan(), tmp_path / "notes" / "probe", position=0)

    @pytest.fixture
    def film(self, films: Callable[..., Path]) -> Path:
        return films(a={"shots": []}) / "a.mp4"

    def record(self, film: Path) -> Record:
        config, cache = SourceConfig(), film.parent.parent / "cache.parquet"
        (record,) = identify(list_sources(film, config), config, cache, rehash=True).records()
        return record

    def test_one_that_went_away_is_not_blamed(
        self, probe: Bench, film: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As ffmpeg's answer to a missing file: no exception, just a bad word."""
        record, worker = self.record(film), probe.worker()
        bad = [probe.stage.end(record, "failed", "no_frames", "")]
        monkeypatch.setattr(probe.stage, "process", lambda records: bad)
        film.rename(film.with_suffix(".away"))
        assert answered(worker, record, position=0) == []
        assert probe.parts() == 0
        film.with_suffix(".away").rename(film)
        answered(worker, record, position=0)
        assert probe.parts() == 1, "what is said of the bytes that are there counts"

    def test_one_that_was_replaced_gets_no_results(self, probe: Bench, film: Path) -> None:
        record = self.record(film)
        film.write_text('{"shots": [], "name": "another film"}')
        assert answered(probe.worker(), record, position=0) == []
        assert probe.parts() == 0
        (one,) = read_put_off(probe.notes.parent)
        assert one.why == f"{film} was replaced while it was worked on: run again"

    def test_one_that_was_only_touched_is_the_same(self, probe: Bench, film: Path) -> None:
        record = self.record(film)
        os.utime(film, ns=(1, 1))
        assert len(answered(probe.worker(), record, position=0)) == 1

    def test_a_timeline_counts_as_well(self, probe: Bench, film: Path) -> None:
        sidecar = film.with_suffix(".timeline.jsonl")
        sidecar.write_text("{}")
        record = self.record(film)
        sidecar.write_text("{} ")
        assert answered(probe.worker(), record, position=0) == []
        (one,) = read_put_off(probe.notes.parent)
        assert str(sidecar) in one.why


def test_after_a_death_records_are_tried_alone_and_twice_at_most(bench: Bench) -> None:
    good, bad = clip(1, "x"), clip(2, "kill")
    marks = Marks(bench.notes)
    for key, deaths in zip(bench.keys(good, bad), (1, Marks.ALLOWED), strict=True):
        for number in range(1, deaths + 1):
            marks._store.touch(f"{key}.{number}")
    rows = answered(bench.worker(), good, bad)
    assert len(rows) == 1
    assert bench.parts() == 2, "each in a part of its own"
    (row,) = bench.stored()[bench.keys(bad)[0]]
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
