"""One worker of one stage, as Ray Data's `map_batches` calls it.

A worker answers the records whose turn it is, makes the answers durable as one part, and
only then passes on what `Stage.advance` gives. Records whose turn comes later pass through.

What a worker survives:

* an exception on a batch: its records are tried one by one. One that raises again is quarantined
  (``exception``), unless nothing ever worked; or put off, if the exception is `passing`, and then
  nothing of it is stored (see `pipeline.faults`). A film that is not what its manifest says is
  quarantined, too: its name is that of what the manifest says;
* its own death (a crash in native code, the memory killer): Ray starts it again with the same
  batch. Attempt marks on disk tell which records were in work; they are tried alone, and one that
  kills its worker a second time is quarantined (``killed_worker``).
"""

import atexit
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from corpus.rows import Row
from corpus.store import Folder
from pipeline.faults import Faults, Marks, PutOff, RunError, fatal, passing, systemic, told
from pipeline.inputs.fetching import NotAsNamed
from pipeline.inputs.naming import check_unchanged
from pipeline.ledger.leash import Leash
from pipeline.ledger.replay import silent
from pipeline.ledger.shelf import Finder
from pipeline.ledger.tables import Table
from pipeline.streaming.flow import flow
from pipeline.telemetry.events import Event, Meter
from pipeline.telemetry.metrics import counting
from stages.stage import Record, Stage

LEAVE_SECONDS = 10
WAITS = (0.5, 2.0)  # seconds before a record that met a passing fault is tried again
MOST_PUT_OFF = 8  # records in a row; then it is no accident, and waiting for each takes for ever
Unit = tuple[str, Record]


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        position: of the stage in the plan.
        notes: folder of this run and stage for attempt marks and faults.
        report: called with the events of `pipeline.telemetry.events`.
    """

    stage: Stage
    position: int
    table: Table
    notes: Folder
    report: Callable[[Event], None]


class Crew:
    """Workers of neighbouring stages in one process: a batch goes through them one after the other.

    A stage that cannot open is told of by the first batch: what a constructor raises, Ray prints
    on the user's screen.

    Args:
        leash: ends the process with its run.
    """

    def __init__(self, jobs: Sequence[Job], leash: Leash) -> None:
        leash.tie()
        atexit.register(_leave_in_time)
        self._workers: list[Worker] = []
        self._refused: Exception | None = None
        try:
            self._workers += map(Worker, jobs)
        except Exception as error:
            self._refused = error

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        if self._refused is not None:
            raise self._refused
        batches: Iterator[pa.Table] = iter([batch])
        for worker in self._workers:
            batches = chain.from_iterable(map(worker, batches))
        yield from batches


class Worker:
    """Holds one opened stage."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stage = job.stage
        self._marks = Marks(job.notes)
        self._faults = Faults(job.notes, job.stage.name)
        self._put_off = 0  # in a row
        self._finder = Finder(job.table)
        self._report = counting(job.report)
        with fatal(job.notes):
            self._stage.open()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        with fatal(self._job.notes):
            yield from self._answered(batch)

    def _answered(self, batch: pa.Table) -> Iterator[pa.Table]:
        turn = pc.equal(batch["next_stage"], self._job.position)
        later = batch.filter(pc.invert(turn))
        if later.num_rows:
            yield later
        records = [json.loads(text) for text in batch.filter(turn)["record"].to_pylist()]
        size = self._stage.resources.batch
        for start in range(0, len(records), size):
            onward = self._advance(records[start : start + size])
            yield flow([(self._job.position + 1, record) for record in onward])

    def _advance(self, records: Sequence[Record]) -> list[Record]:
        meter = Meter(self._stage)
        units = {self._stage.key(record): record for record in records}
        answers = self._stored(units)
        computed = [unit for unit in units.items() if unit[0] not in answers]
        if computed:
            answers |= self._answers(computed)
        onward = [
            item
            for key, record in units.items()
            if key in answers
            for item in self._stage.advance(record, answers[key])
        ]
        for event in meter.events(units, answers, onward, {key for key, _ in computed}):
            self._report(event)
        return onward

    def _stored(self, units: dict[str, Record]) -> dict[str, list[Row]]:
        """Rows that were durable before."""
        return self._finder.find({key: _video(record) for key, record in units.items()})

    def _answers(self, units: Sequence[Unit]) -> dict[str, list[Row]]:
        """Compute and store; or read, where this very batch became durable before a worker died.

        A record that was put off has no rows.
        """
        keys = [key for key, _ in units]
        part = self._job.table.part(keys)
        if self._job.table.has(part):
            return self._job.table.read_part(part)
        if self._marks.attempts(*keys):
            return {key: rows for unit in units for key, rows in self._alone(unit).items()}
        with self._marks.working(keys):
            try:
                answers = zip(keys, self._process([record for _, record in units]), strict=True)
                found = list(answers)
            except Exception as error:
                if systemic(error):
                    raise
                found = [answer for unit in units for answer in self._guarded(unit)]
        return self._write(units, found)

    def _alone(self, unit: Unit) -> dict[str, list[Row]]:
        """A record that was in work when a worker died: a part of its own, at most two attempts."""
        key, record = unit
        part = self._job.table.part([key])
        if self._job.table.has(part):
            return self._job.table.read_part(part)
        if self._marks.attempts(key) >= Marks.ALLOWED:
            message = f"the {self._stage.name} worker died twice while working on it"
            found = [(key, self._stage.end(record, "quarantined", "killed_worker", message))]
        else:
            with self._marks.working([key]):
                found = self._guarded(unit)
        stored = self._write([unit], found)
        self._marks.forget(key)
        return stored

    def _write(
        self, units: Sequence[Unit], answers: Sequence[tuple[str, list[Row]]]
    ) -> dict[str, list[Row]]:
        videos = {key: _video(record) for key, record in units}
        found = [(key, videos[key], rows) for key, rows in answers]
        return self._job.table.write(found) if found else {}

    def _guarded(self, unit: Unit) -> list[tuple[str, list[Row]]]:
        """One record by itself: its answer, or none if it was put off after some patience."""
        key, record = unit
        for wait in (*WAITS, None):
            try:
                return [(key, self._process([record])[0])]
            except Exception as error:
                if systemic(error):
                    raise
                if isinstance(error, NotAsNamed) and record.get("sha256"):
                    return [(key, self._stage.end(record, "quarantined", error.reason, str(error)))]
                if not passing(error):
                    self._faults.raised(key, error)
                    self._put_off = 0
                    message = f"{type(error).__name__}: {error}"
                    return [(key, self._stage.end(record, "quarantined", "exception", message))]
                if wait is None:
                    self._wait_for_better(key, record, error)
                else:
                    time.sleep(wait)
        return []

    def _wait_for_better(self, key: str, record: Record, error: Exception) -> None:
        """Put a record off; when it is one of many in a row, stop the run."""
        item = str(record["clip_id"] if "clip_id" in record else record["uri"])
        PutOff(self._stage.name, key, item, told(error)).note(self._job.notes)
        self._put_off += 1
        if self._put_off >= MOST_PUT_OFF:
            raise RunError(
                f"stage {self._stage.name} could not work on {MOST_PUT_OFF} records in a row; "
                f"on {item}: {told(error)}\n"
                "No record is blamed, what is done stays: mend the cause and run again."
            ) from error

    def _process(self, records: Sequence[Record]) -> list[list[Row]]:
        shown = [self._stage.seen(record) for record in records]
        answers = self._stage.process(shown)
        if len(answers) != len(records):
            raise RunError(
                f"stage {self._stage.name} answered {len(answers)} of {len(records)} records: "
                "a fault of the stage"
            )
        for record, seen, rows in zip(records, shown, answers, strict=True):
            missing = silent(self._stage.subjects(record), rows)
            if missing:
                raise RunError(
                    f"stage {self._stage.name} says nothing about {missing}: a fault of the stage"
                )
            # A bad word about a film is believed only if its bytes can be read and are the ones.
            blamed = any(row.outcome in ("failed", "quarantined") for row in rows)
            check_unchanged(record, seen, reread=blamed)
        self._faults.worked()
        self._put_off = 0
        return answers


def _video(record: Record) -> str:
    return str(record["video_id"])


def _leave_in_time() -> None:
    """Have the kernel end this process if its exit takes too long.

    A leaving Ray 2.60 worker can deadlock while its event loop is torn down (a publisher posts into
    the loop that is being destroyed); unnoticed by Ray, it would stay for ever with its memory.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LEAVE_SECONDS)
