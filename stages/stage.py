"""The stage contract.

A stage is a small class from *records* to *rows*. A record is one unit of work, a JSON-able dict:

* unit ``video``: the columns of the source row and of every stage before, plus ``shots`` (a list
  of dicts) once the shots stage has spoken;
* unit ``clip``: the clip's columns, plus ``segments`` (a list of dicts) once the segments stage
  has spoken.

`Stage.process` answers every record with rows (`corpus.rows`), and `Stage.advance` says, purely
from record and rows, which records the next stage gets. The pipeline uses `advance` on live rows
and on rows read back from tables alike: that is all there is to resume, to `tv2tv status`, and to
what the shards stage reads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import content_id, fingerprint
from corpus.layout import Media
from corpus.rows import Level, Outcome, Row
from corpus.store import Folder

Record = dict[str, Any]


class StageConfig(BaseModel):
    """Base of every stage's config model: frozen; unknown keys are errors, and so are numbers that
    are none, since nothing is below a threshold of NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=StageConfig)


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs, at least.

    Attributes:
        cpus, gpus: fractions are allowed.
        memory: bytes, 0 = not declared.
        batch: records per `process` call; each batch becomes one durable part file.
        max_workers: upper bound of the actor pool.
        patient: whether it waits for a whole batch, as stages with a GPU do, instead of taking what
            has arrived.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    batch: int = 1
    max_workers: int = 1024
    patient: bool = False


def _unfetched(uri: str, name: str) -> str:
    raise UserError(f"{uri} is remote, and nothing here fetches it")


@dataclass(frozen=True)
class Context:
    """What every stage may know of its surroundings.

    Attributes:
        fetch: gives a local path for the URI of a remote file whose SHA-256 begins so.
    """

    media: Media
    clock: Clock
    seed: int = 0
    fetch: Callable[[str, str], str] = _unfetched


class Stage(ABC, Generic[C]):
    """One step of the pipeline.

    Class attributes:
        name: the recipe's key and the table's folder.
        version: changed by hand whenever the same config would give other results.
        unit: what one record is.
        level: the level of the entities in the rows.
        reads: record columns that determine the result; they make the key, by content.
        aids: columns that `process` gets besides, where there are any, and that can change no
            result: where a file lies, what a time limit is reckoned from.
        writes: the stage's own columns.
        makes: the column of the records it passes on that names the media file it made, if any.
        Config: its config model.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    unit: ClassVar[Literal["video", "clip"]]
    level: ClassVar[Level]
    reads: ClassVar[tuple[str, ...]]
    aids: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[pa.Schema]
    makes: ClassVar[str | None] = None
    Config: ClassVar[type[StageConfig]]

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context

    # -- declared ---------------------------------------------------------------------------

    @property
    def resources(self) -> Resources:
        return Resources()

    @property
    def wanted(self) -> bool:
        """Whether the recipe asks for it: a plan has no stage that would do nothing."""
        return True

    def identity(self) -> dict[str, Any]:
        """Settings that can change the output. Override to leave out time limits and the like,
        and to add model ids, revisions and tool builds."""
        return self.config.model_dump(mode="json")

    def agree(self, earlier: Mapping[str, "Stage[Any]"]) -> None:
        """Raise UserError if its settings do not go with those of stages before it, by name."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            self.name, self.version, {"clock": self.context.clock.to_json(), **self.identity()}
        )

    def content(self, record: Record) -> Record:
        """What determines the result. Override to leave out parts of a column."""
        return {column: record[column] for column in self.reads}

    def key(self, record: Record) -> str:
        """Name of this unit of work: the content it reads, never the decisions that chose it."""
        return content_id(self.name, self.content(record))

    def seen(self, record: Record) -> Record:
        """All that `process` gets of a record: nothing that the key does not name, but `aids`.

        Files are at hand: remote ones are fetched now.
        """
        aids = {column: record[column] for column in self.aids if column in record}
        for column, name in (("path", "video_id"), ("timeline", "timeline_sha256")):
            if "://" in (aids.get(column) or ""):
                aids[column] = self.context.fetch(aids[column], record[name])
        return {**aids, **self.content(record)}

    @abstractmethod
    def subjects(self, record: Record) -> list[str]:
        """Ids of the entities whose fate this unit of work decides, in order."""

    # -- done in a worker -------------------------------------------------------------------

    def open(self) -> None:
        """Called once per worker before the first `process`: load models here."""

    @abstractmethod
    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        """Rows per record, in order; every subject of a record appears in its rows.

        What follows from a record's bytes becomes rows (`end`), also where it is bad. What depends
        on the machine, on a path or on a person is raised (OSError, MemoryError, UserError): it is
        tried again, then left for the next run, and never stored. Any other exception is a bug.
        What is said of a film that went away or was replaced meanwhile is thrown away.
        """

    def told(self) -> dict[str, Any]:
        """What the work since the last call was like, for the run's log; never a result."""
        return {}

    # -- pure -------------------------------------------------------------------------------

    def end(self, record: Record, outcome: Outcome, reason: str, message: str) -> list[Row]:
        """Rows that end all subjects of a record in the same way."""
        return [
            Row(
                self.level, parent=subject, id=None, outcome=outcome, reason=reason, message=message
            )
            for subject in self.subjects(record)
        ]

    @abstractmethod
    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        """Records for the next stage; [] when nothing of this unit goes on."""


class VideoStage(Stage[C]):
    """Unit: one video file."""

    unit = "video"
    aids: ClassVar[tuple[str, ...]] = ("path", "uri")

    def subjects(self, record: Record) -> list[str]:
        return [record["video_id"]]


class ClipStage(Stage[C]):
    """Unit: one normalised clip.

    A row about a clip names no parent: the same clip may come from another shot tomorrow.
    """

    unit = "clip"
    aids: ClassVar[tuple[str, ...]] = ("clip",)

    def subjects(self, record: Record) -> list[str]:
        return [record["clip_id"]]

    def clip_path(self, record: Record) -> Path:
        return self.context.media.path(record["clip"])


class GateStage(ClipStage[C]):
    """A row stage that decides over all clips that have arrived, not over one.

    Its rows are stored nowhere: `ledger.replay` asks for them anew each time, so a decision is
    always that of the clips which are there, and never of the order in which they came. Nothing
    behind it is begun before everything ahead of it is done.
    """

    @abstractmethod
    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        """Rows per record of all that have arrived; the same in any order. Pure."""

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)


def merged(record: Record, rows: Sequence[Row]) -> list[Record]:
    """`advance` of a stage that adds columns to its unit: one ok row, or the unit ended."""
    (row,) = rows
    return [{**record, **row.columns}] if row.outcome == "ok" else []


def children(record: Record, rows: Sequence[Row], name: str, id_column: str) -> list[Record]:
    """`advance` of a stage that gives its unit a list of children: the ok rows, in order."""
    found = [{id_column: row.id, **row.columns} for row in rows if row.outcome == "ok" and row.id]
    return [{**record, name: found}] if found else []


def by_id(rows: Sequence[Row]) -> Mapping[str, Row]:
    return {row.id: row for row in rows if row.id is not None}


class CorpusStage(ABC, Generic[C]):
    """A step that reads finished clip records, all of them, in id order.

    Its result never depends on the order in which work was done. Unlike a row stage it runs once,
    in the driver, after conservation has been checked.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Config: ClassVar[type[StageConfig]]

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def run(
        self,
        records: Mapping[str, Record],
        folder: Folder,
        header: dict[str, Any],
        ready: Callable[[], None] = lambda: None,
    ) -> bool:
        """Make the result in ``folder``; False when it was already there and is up to date.

        Args:
            records: finished clip records by clip id, in that order. They may lie on disk: read
                them one after the other, as often as needed.
            folder: where the result lies.
            header: ``clock``, ``codec``, ``recipe`` and ``fingerprints`` (stage to fingerprint);
                ``counts`` of the corpus, which alone make nothing anew; stored with the result.
            ready: called when the result is whole and about to replace what stands there; raises
                if it must not.
        """
