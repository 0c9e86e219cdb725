"""A listed file (`Source`), all of them (`Listing`), how they are found (`SourceConfig`), and the
file in which a run keeps them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from corpus.errors import UserError
from corpus.ids import canonical_json
from corpus.rows import Outcome
from corpus.store import Folder, store_at
from pipeline.faults import PutOff
from pipeline.inputs.addresses import RemoteConfig
from pipeline.inputs.uris import stored
from pipeline.inputs.where import Condition
from stages.stage import Record

LISTING = "inputs.parquet"
MEDIA_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".ogv", ".mxf", ".vob", ".y4m"),
)
_LISTING = pa.schema(
    [
        *((name, pa.string()) for name in ("uri", "path")),
        *((name, pa.int64()) for name in ("size", "mtime_ns")),
        *((name, pa.string()) for name in ("video_id", "outcome", "reason", "message", "meta")),
        *((name, pa.string()) for name in ("timeline", "timeline_sha256", "version", "sha256")),
    ]
)


class SourceConfig(BaseModel):
    """How inputs are found.

    Attributes:
        suffixes: file name endings that count as media in a folder, lower case with the dot.
        hash_workers: files read at once while naming them by content.
        where: what a manifest's columns must be, by name; see `pipeline.inputs.where`.
        remote: which remote files may be fetched, and how.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES
    hash_workers: int = Field(default=4, ge=1)
    where: dict[str, Condition] = {}
    remote: RemoteConfig = RemoteConfig()


@dataclass(frozen=True)
class Source:
    """One listed file.

    Attributes:
        uri: how the input names it: relative to the folder or manifest, with forward slashes.
        path: absolute local path, or URI of a remote file.
        size, mtime_ns: what the file system said when it was listed; -1 if it said nothing.
        version: of a remote file: what tells whether it changes, such as an ETag.
        sha256: what its manifest says that its bytes hash to. A remote file is then named by that,
            and whoever fetches it first sees whether it is true.
        video_id: hash of its bytes; None when they could not be had.
        outcome, reason, message: ok, or why it is no video: never, or ``pending``, when its bytes
            could not be had now.
        meta: the user's columns.
        timeline, timeline_sha256: its sidecar, if it has one.
    """

    uri: str
    path: str
    size: int = -1
    mtime_ns: int = -1
    video_id: str | None = None
    outcome: Outcome | Literal["pending"] = "ok"
    reason: str | None = None
    message: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    timeline: str | None = None
    timeline_sha256: str | None = None
    version: str | None = None
    sha256: str | None = None

    def ended(self, outcome: Outcome, reason: str, message: str) -> "Source":
        return replace(self, outcome=outcome, reason=reason, message=message)

    def record(self) -> Record:
        """What the first stage gets."""
        stamp = ("video_id", "uri", "path", "size", "mtime_ns", "sha256")
        return {n: getattr(self, n) for n in (*stamp, "meta", "timeline", "timeline_sha256")}


@dataclass(frozen=True)
class Listing:
    """All listed files in the order of their uris, and how many files were no media."""

    sources: tuple[Source, ...]
    ignored: int = 0

    def records(self) -> Iterator[Record]:
        """One record per distinct video."""
        return (source.record() for source in self.sources if source.outcome == "ok")

    def put_off(self) -> list[PutOff]:
        """Files whose bytes could not be had now."""
        waiting = [source for source in self.sources if source.outcome == "pending"]
        return [PutOff("source", s.path, s.uri, s.message or "") for s in waiting]

    def limit(self, count: int | None) -> "Listing":
        return replace(self, sources=self.sources[:count])


def write_listing(run: Folder, listing: Listing) -> None:
    """Store a listing as ``inputs.parquet`` of a run."""
    rows = [
        {**asdict(s), "path": stored(s.path), "meta": canonical_json(s.meta)}
        for s in listing.sources
    ]
    schema = _LISTING.with_metadata({"ignored": str(listing.ignored)})
    with store_at(run).writing(LISTING) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def read_listing(run: Folder) -> Listing:
    """What `write_listing` stored; UserError where that is damaged."""
    store = store_at(run)
    try:
        table = pq.read_table(store.local(LISTING))
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{store.place(LISTING)} cannot be read ({error}): run again to write a new one"
        ) from error
    rows = ({**row, "meta": json.loads(row["meta"])} for row in table.to_pylist())
    return Listing(tuple(Source(**row) for row in rows), int(table.schema.metadata[b"ignored"]))
