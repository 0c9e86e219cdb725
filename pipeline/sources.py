"""Inputs: from a folder, a file or a manifest to a listing of videos, each named by its bytes.

A *manifest* is a .jsonl, .csv or .parquet file with a column ``uri`` (a path, relative to the
manifest's folder) and, optionally, ``timeline`` (same rule). All other columns (licence, title,
language, the user's own) are carried along as ``meta``.

Without a manifest, a timeline lies beside its video: ``film.mp4`` and ``film.timeline.jsonl``.
"""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from corpus.errors import UserError
from corpus.ids import canonical_json, sha256_file, video_id
from corpus.rows import Outcome
from corpus.store import Folder, Store, store_at
from pipeline.manifest import MANIFEST_SUFFIXES, read_manifest
from stages.stage import Record

LISTING = "inputs.parquet"
CACHE = "sources.parquet"
TIMELINE_SUFFIX = ".timeline.jsonl"
SAVE_EVERY = 256  # newly hashed files between two saves of the cache
MEDIA_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".ogv", ".mxf", ".vob", ".y4m"),
)


class SourceConfig(BaseModel):
    """How inputs are found.

    Attributes:
        suffixes: file name endings that count as media in a folder, lower case with the dot.
        hash_workers: files read at once while naming them by content.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES
    hash_workers: int = 4


@dataclass(frozen=True)
class Source:
    """One listed file.

    Attributes:
        uri: how the input names it: relative to the folder or manifest, with forward slashes.
        path: absolute local path.
        size, mtime_ns: what the file system said when it was listed; -1 if it said nothing.
        video_id: hash of its bytes; None when they could not be had.
        outcome, reason, message: ok, or why it never becomes a video.
        meta: the user's columns.
        timeline, timeline_sha256: its sidecar, if it has one.
    """

    uri: str
    path: str
    size: int = -1
    mtime_ns: int = -1
    video_id: str | None = None
    outcome: Outcome = "ok"
    reason: str | None = None
    message: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    timeline: str | None = None
    timeline_sha256: str | None = None

    def ended(self, outcome: Outcome, reason: str, message: str) -> "Source":
        return replace(self, outcome=outcome, reason=reason, message=message)

    def record(self) -> Record:
        """What the first stage gets."""
        stamp = ("video_id", "uri", "path", "size", "mtime_ns")
        return {n: getattr(self, n) for n in (*stamp, "meta", "timeline", "timeline_sha256")}


@dataclass(frozen=True)
class Listing:
    """All listed files in the order of their uris, and how many files were no media."""

    sources: tuple[Source, ...]
    ignored: int = 0

    def records(self) -> Iterator[Record]:
        """One record per distinct video."""
        return (source.record() for source in self.sources if source.outcome == "ok")

    def limit(self, count: int | None) -> "Listing":
        return replace(self, sources=self.sources[:count])


def list_sources(given: Path | str, config: SourceConfig) -> Listing:
    """List what ``--input`` names, without reading a video.

    Raises:
        UserError: nothing is there, the manifest is malformed, or there is no media in the folder.
    """
    path = Path(given).expanduser()
    # A link to a file keeps its own name, which says what kind of file it is.
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    if not path.exists():
        raise UserError(f"--input {given} does not exist: name a folder, a video or a manifest")
    if path.is_dir():
        return _folder(path, given, config)
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        rows = [_nameable(_listed(path.parent, row)) for row in read_manifest(path)]
        return Listing(tuple(sorted(rows, key=lambda source: source.uri)))
    if path.suffix.lower() not in config.suffixes:
        raise UserError(
            f"--input {given} is neither media ({' '.join(config.suffixes)}) "
            f"nor a manifest ({' '.join(MANIFEST_SUFFIXES)}): rename it or list it in a manifest"
        )
    return Listing((_nameable(_beside(path, path.name)),))


def identify(listing: Listing, config: SourceConfig, cache: Folder, *, rehash: bool) -> Listing:
    """Name every listed file by its bytes, and end those that cannot become videos.

    A file whose path, size and mtime stand in ``cache`` is not read again, unless ``rehash``.
    Of files with the same bytes the first in order stays; the others end as ``duplicate``.
    """
    table = store_at(cache)
    known = {} if rehash else _read_cache(table)
    named: list[Source] = []
    with ThreadPoolExecutor(config.hash_workers) as pool:
        for start in range(0, len(listing.sources), SAVE_EVERY):
            batch = listing.sources[start : start + SAVE_EVERY]
            fresh = list(pool.map(lambda source: _identify(source, known), batch))
            named += fresh
            _remember(table, fresh, forget=rehash)
    return replace(listing, sources=tuple(_without_duplicates(named)))


def check_unchanged(record: Record, *, reread: bool) -> None:
    """Raise unless the files that a record names still are what they were when they were named.

    Args:
        record: of a video, or of a clip, whose source file is out of the question.
        reread: believe no size and mtime, but read the bytes.

    Raises:
        OSError: one cannot be read now.
        UserError: one was replaced.
    """
    if "path" in record:
        path = Path(record["path"])
        stat = path.stat()
        same = (stat.st_size, stat.st_mtime_ns) == (record["size"], record["mtime_ns"])
        if (reread or not same) and video_id(path) != record["video_id"]:
            raise UserError(f"{path} was replaced while it was worked on: run again")
    sidecar = record.get("timeline")
    looked = sidecar and (reread or "path" in record)  # it is small, but clips are many
    if looked and sha256_file(Path(str(sidecar))) != record["timeline_sha256"]:
        raise UserError(f"{sidecar} was replaced while it was worked on: run again")


def write_listing(run: Folder, listing: Listing) -> None:
    """Store a listing as ``inputs.parquet`` of a run."""
    rows = [{**asdict(s), "meta": canonical_json(s.meta)} for s in listing.sources]
    schema = _LISTING.with_metadata({"ignored": str(listing.ignored)})
    with store_at(run).writing(LISTING) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def read_listing(run: Folder) -> Listing:
    table = pq.read_table(store_at(run).local(LISTING))
    rows = ({**row, "meta": json.loads(row["meta"])} for row in table.to_pylist())
    return Listing(tuple(Source(**row) for row in rows), int(table.schema.metadata[b"ignored"]))


_LISTING = pa.schema(
    [
        *((name, pa.string()) for name in ("uri", "path")),
        *((name, pa.int64()) for name in ("size", "mtime_ns")),
        *((name, pa.string()) for name in ("video_id", "outcome", "reason", "message", "meta")),
        *((name, pa.string()) for name in ("timeline", "timeline_sha256")),
    ]
)
_CACHE = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("video_id", pa.string()),
    ]
)
_Stamp = tuple[str, int, int]


def _folder(root: Path, given: Path | str, config: SourceConfig) -> Listing:
    files = sorted(_files(root), key=lambda path: path.relative_to(root).as_posix())
    media = [path for path in files if path.suffix.lower() in config.suffixes]
    if not media:
        raise UserError(
            f"--input {given} holds no media ({len(files)} other files): "
            f"these endings count: {' '.join(config.suffixes)}"
        )
    sources = [_beside(path, path.relative_to(root).as_posix()) for path in media]
    known = {str(path) for path in media} | {source.timeline for source in sources}
    ignored = sum(str(path) not in known for path in files)
    return Listing(tuple(map(_nameable, sources)), ignored)


def _files(root: Path) -> Iterator[Path]:
    """Files below ``root``, links followed, each folder visited once, hidden ones left out."""
    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _beside(path: Path, uri: str) -> Source:
    timeline = path.parent / (path.stem + TIMELINE_SUFFIX)
    return Source(uri, str(path), timeline=str(timeline) if timeline.is_file() else None)


def _nameable(source: Source) -> Source:
    """The source, or its end if its name is no text: file systems hold any bytes, tables UTF-8."""
    names = {"uri": source.uri, "path": source.path, "timeline": source.timeline}
    shown: dict[str, Any] = {kind: name and _escaped(name) for kind, name in names.items()}
    if shown == names:
        return source
    message = "its name, or that of a folder or timeline, is no UTF-8 text: rename it"
    return replace(source, **shown).ended("failed", "unreadable_name", message)


def _escaped(name: str) -> str:
    """A name as text: bytes that are none become ``\\udce9`` and the like."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _listed(base: Path, row: dict[str, Any]) -> Source:
    meta = {name: value for name, value in row.items() if name not in ("uri", "timeline")}
    path = _local(base, row["uri"])
    if row.get("timeline"):
        return Source(row["uri"], str(path), meta=meta, timeline=str(_local(base, row["timeline"])))
    return replace(_beside(path, row["uri"]), meta=meta)


def _local(base: Path, uri: str) -> Path:
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    if "://" in uri:
        raise UserError(f"{uri}: only local files can be read; download it and name its path")
    return Path(os.path.normpath(base / uri))


def _identify(source: Source, known: dict[_Stamp, str]) -> Source:
    """Size, mtime, bytes and timeline of one file; whatever goes wrong becomes its outcome."""
    if source.outcome != "ok":
        return source
    path = Path(source.path)
    try:
        stat = path.stat()
        source = replace(source, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if not path.is_file():
            return source.ended("failed", "unreadable", "it is not an ordinary file")
        if stat.st_size == 0:
            return source.ended("failed", "empty", "the file has no bytes")
        stamp = (source.path, source.size, source.mtime_ns)
        source = replace(source, video_id=known.get(stamp) or video_id(path))
    except OSError as error:
        return source.ended("failed", "unreadable", str(error.strerror or error))
    if source.timeline is None:
        return source
    try:
        return replace(source, timeline_sha256=sha256_file(Path(source.timeline)))
    except OSError as error:
        return source.ended("failed", "timeline", f"its timeline {source.timeline}: {error}")


def _without_duplicates(sources: Iterable[Source]) -> Iterator[Source]:
    first: dict[str, str] = {}
    for source in sources:
        if source.outcome != "ok" or source.video_id is None:
            yield source
        elif source.video_id in first:
            message = f"the same bytes as {first[source.video_id]}"
            yield source.ended("filtered", "duplicate", message)
        else:
            first[source.video_id] = source.uri
            yield source


def _read_cache(table: Store) -> dict[_Stamp, str]:
    if not table.has(CACHE):
        return {}
    try:
        rows = pq.read_table(table.local(CACHE), schema=_CACHE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{table.place(CACHE)} cannot be read ({error}): delete this file and run again; "
            "all inputs are then read anew to name them"
        ) from error
    return {(row["path"], row["size"], row["mtime_ns"]): row["video_id"] for row in rows}


def _remember(table: Store, sources: Iterable[Source], *, forget: bool) -> None:
    """Add the stamps of ``sources`` to the cache; ``forget`` replaces what it says of them."""
    known = _read_cache(table)
    fresh = {(s.path, s.size, s.mtime_ns): s.video_id for s in sources if s.video_id}
    if all(stamp in known for stamp in fresh) and not forget:
        return
    merged = sorted({**known, **fresh}.items())
    rows = [(*stamp, video) for stamp, video in merged]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    with table.writing(CACHE) as temporary:
        pq.write_table(pa.table(columns, schema=_CACHE), temporary)
