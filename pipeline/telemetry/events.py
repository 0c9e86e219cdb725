"""The log of a run: ``runs/<run id>/events.jsonl``, one JSON object per line, whole lines only.

Every event has ``event`` (its kind) and ``time`` (seconds since 1970). The kinds are the classes
below, their fields those of the file. Fields may be added within a `SCHEMA`; readers skip kinds and
fields that they do not know. A log whose writer was killed ends early, at worst in half a line:
`read_events` gives what is whole. The log is for people and tools; a run itself never reads it back
(what is done stands in the tables).
"""

import contextlib
import json
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

from corpus.errors import UserError
from corpus.rows import Row
from stages.stage import Record, Stage

SCHEMA = 1
LONGEST = 500  # characters of a message
BAD = ("failed", "quarantined")

Event = dict[str, Any]


class Begin(TypedDict):
    """First line. ``schema``: of the log; ``tool``: version; ``inputs``: listed files."""

    event: str
    time: float
    schema: int
    tool: str
    recipe: str
    inputs: int


class Cluster(TypedDict):
    """Ray is there: logical ``cpus`` and ``gpus``, and ``workers``, the most that work at once.
    None is written by a run that finds everything done."""

    event: str
    time: float
    cpus: float
    gpus: float
    workers: int


class Batch(TypedDict):
    """Some records were answered together, durably.

    ``worker`` is host:pid; ``begun`` (seconds since 1970) and ``seconds`` say when, ``cpu`` is the
    processor time of it, children included. Of the ``records``, ``computed`` were not read from
    tables; ``onward`` records go to the next stage. ``outcomes`` counts rows by outcome, and
    records that were put off as ``put off``; ``reasons`` counts rows that are not ok by
    ``outcome:reason``. ``bytes`` of media were written. ``told`` is what the stage has to say of
    the work (`stages.stage.Stage.told`), often nothing.
    """

    event: str
    time: float
    stage: str
    worker: str
    begun: float
    seconds: float
    cpu: float
    records: int
    computed: int
    onward: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    bytes: int
    told: dict[str, Any]


class Failure(TypedDict):
    """One item failed or was quarantined; filtered ones are only counted. ``item`` is the uri of a
    file or the id of a clip."""

    event: str
    time: float
    stage: str
    item: str
    outcome: str
    reason: str
    message: str


class PutOff(TypedDict):
    """A record could not be worked on now: nothing is stored of it, the next run takes it up."""

    event: str
    time: float
    stage: str
    key: str
    item: str
    why: str


class Stopped(TypedDict):
    """The run ended before its end, by an ``error`` or a signal; what is durable stays."""

    event: str
    time: float
    error: str


class End(TypedDict):
    """The run came to its end: ``levels`` as `tv2tv status --json` prints them, units of work
    ``computed`` by stage, and how many records were ``put_off``."""

    event: str
    time: float
    levels: dict[str, Any]
    computed: dict[str, int]
    put_off: int
    shards_rewritten: bool


KINDS: dict[str, type] = {
    "begin": Begin,
    "cluster": Cluster,
    "batch": Batch,
    "failure": Failure,
    "put_off": PutOff,
    "stopped": Stopped,
    "end": End,
}


def event(kind: str, **details: Any) -> Event:
    """An event of now."""
    return {"event": kind, "time": time.time(), **details}


def failures(
    stage: str, records: Mapping[str, Record], answers: Mapping[str, Sequence[Row]]
) -> list[Event]:
    """One event per unit of work that failed or was quarantined: its first such row.

    Args:
        records, answers: by key.
    """
    found = []
    for key, rows in answers.items():
        row = next((row for row in rows if row.outcome in BAD), None)
        if row is not None:
            text = (row.message or "")[:LONGEST]
            details = {"outcome": row.outcome, "reason": row.reason, "message": text}
            found.append(event("failure", stage=stage, item=item_of(records[key]), **details))
    return found


class Meter:
    """Watches one batch in its worker, from when it is made."""

    def __init__(self, stage: Stage[Any]) -> None:
        self._stage = stage
        self._begun, self._started = time.time(), time.monotonic()
        self._spent = cpu_seconds()

    def events(
        self,
        records: Mapping[str, Record],
        answers: Mapping[str, Sequence[Row]],
        onward: Sequence[Record],
        computed: Collection[str],
    ) -> list[Event]:
        """``failure`` events of what was computed, then the event ``batch``.

        Args:
            records, answers: by key; what was put off has no answer.
            computed: keys that were not read from tables.
        """
        rows = [row for rows in answers.values() for row in rows]
        outcomes = Counter[str](row.outcome for row in rows)
        reasons = Counter(f"{row.outcome}:{row.reason}" for row in rows if row.outcome != "ok")
        named = {**outcomes, "put off": len(records) - len(answers)}
        fresh = {key: rows for key, rows in answers.items() if key in computed}
        batch = event(
            "batch",
            stage=self._stage.name,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            begun=self._begun,
            seconds=time.monotonic() - self._started,
            cpu=cpu_seconds() - self._spent,
            records=len(records),
            computed=len(computed),
            onward=len(onward),
            outcomes={name: count for name, count in named.items() if count},
            reasons=dict(reasons),
            bytes=self._written(onward) if fresh else 0,
            told=self._stage.told(),
        )
        return [*failures(self._stage.name, records, fresh), batch]

    def _written(self, onward: Sequence[Record]) -> int:
        """Bytes of the media files that these records go on with."""
        if self._stage.makes is None:
            return 0
        store = self._stage.context.media.store
        return sum(store.size(name) or 0 for name in {one[self._stage.makes] for one in onward})


def cpu_seconds() -> float:
    """Processor seconds of this process so far, and of its children that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def item_of(record: Record) -> str:
    """How a person names what a record is about."""
    return str(record["clip_id"] if "clip_id" in record else record["uri"])


class EventLog:
    """Appends events to a file, whole lines only; used in a ``with``, it notes what ends that."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            text = f"{type(error).__name__}: {error}"[:LONGEST]
            with contextlib.suppress(OSError):  # what ends the run counts for more
                self.write([event("stopped", error=text)])

    def write(self, events: Iterable[Event]) -> None:
        text = "".join(json.dumps(one) + "\n" for one in events)
        if text:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)


def read_events(path: Path) -> Iterator[Event]:
    """All whole events of a log, one at a time; none where there is no log.

    Raises:
        UserError: it is damaged, or of a later schema.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                if not text.endswith("\n"):
                    return  # still being written, or its writer was killed
                one = json.loads(text)
                if one["event"] == "begin" and one.get("schema", 0) > SCHEMA:
                    raise UserError(f"{path} has schema {one['schema']}, this tool reads {SCHEMA}")
                yield one
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): run again to write a new one") from error
