"""Inputs: from a folder, a glob, a file or a manifest to a listing of videos, each named by its
bytes. Any of them may be remote (`pipeline.inputs.remote`).

A *manifest* is a .jsonl, .csv or .parquet file with a column ``uri`` (a path, relative to the
manifest's folder) and, optionally, ``timeline`` (same rule). All other columns (licence, title,
language, the user's own) are carried along as ``meta``, and ``source.where`` may choose by them.

Without a manifest, a timeline lies beside its video: ``film.mp4`` and ``film.timeline.jsonl``. A
remote video that a manifest lists has the timeline that its row names, or none.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urljoin, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from corpus.errors import UserError
from corpus.ids import ID_LENGTH, canonical_json, sha256_file, video_id
from corpus.rows import Outcome
from corpus.store import Folder, Store, store_at
from pipeline.faults import PutOff, systemic, told
from pipeline.inputs.addresses import WEB, Refused, RemoteConfig, check_uri
from pipeline.inputs.manifest import MANIFEST_SUFFIXES, read_manifest
from pipeline.inputs.remote import (
    Fetcher,
    Known,
    is_glob,
    is_remote,
    matcher,
    split_glob,
    stored,
)
from pipeline.inputs.where import Condition, Where, check_columns, refusal
from stages.stage import Record

LISTING = "inputs.parquet"
CACHE = "sources.parquet"
TIMELINE_SUFFIX = ".timeline.jsonl"
BATCH = 256  # files that are asked for at once
SAVE_SECONDS = 10.0  # about as much of naming may be lost in a kill
MEDIA_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".ogv", ".mxf", ".vob", ".y4m"),
)


class SourceConfig(BaseModel):
    """How inputs are found.

    Attributes:
        suffixes: file name endings that count as media in a folder, lower case with the dot.
        hash_workers: files read at once while naming them by content.
        where: what a manifest's columns must be, by name; see `pipeline.inputs.where`.
        remote: which remote files may be fetched, and how.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES
    hash_workers: int = 4
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

    def put_off(self) -> list[PutOff]:
        """Files whose bytes could not be had now."""
        waiting = [source for source in self.sources if source.outcome == "pending"]
        return [PutOff("source", s.path, s.uri, s.message or "") for s in waiting]

    def limit(self, count: int | None) -> "Listing":
        return replace(self, sources=self.sources[:count])


def list_sources(given: Path | str, config: SourceConfig) -> Listing:
    """List what ``--input`` names, without reading a video.

    Raises:
        UserError: nothing is there, the manifest is malformed, there is no media in the folder, or
            ``where`` asks for a column that is not there.
        OSError: a remote folder or manifest cannot be had now.
    """
    listing = _far(str(given), config) if is_remote(str(given)) else _near(given, config)
    check_columns((source.meta for source in listing.sources), config.where)
    return replace(listing, sources=tuple(_wanted(s, config.where) for s in listing.sources))


def _wanted(source: Source, where: Where) -> Source:
    why = refusal(source.meta, where) if source.outcome == "ok" else None
    return source if why is None else source.ended("filtered", "metadata", why)


def _near(given: Path | str, config: SourceConfig) -> Listing:
    path = Path(str(given).removeprefix("file://")).expanduser()
    if is_glob(str(path)) and not path.exists():
        return _glob(given, str(path), config)
    # A link to a file keeps its own name, which says what kind of file it is.
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    if not path.exists():
        raise UserError(f"--input {given} does not exist: name a folder, a video or a manifest")
    if path.is_dir():
        return _folder(path, given, config)
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        return _manifest(path, str(path.parent))
    if path.suffix.lower() not in config.suffixes:
        raise UserError(
            f"--input {given} is neither media ({' '.join(config.suffixes)}) "
            f"nor a manifest ({' '.join(MANIFEST_SUFFIXES)}): rename it or list it in a manifest"
        )
    return Listing((_nameable(_beside(path, path.name)),))


def _far(given: str, config: SourceConfig) -> Listing:
    """What a URI names: a manifest, a video, or, but not on the web, a folder or a glob."""
    try:
        parts = check_uri(given, config.remote)
        suffix = Path(parts.path).suffix.lower()
        if suffix in MANIFEST_SUFFIXES and not is_glob(parts.path):
            fetch = Fetcher(config.remote)
            copy = Path(fetch(given, fetch.look(given).sha256))
            base = given.partition("?")[0] if parts.scheme in WEB else given
            return _manifest(copy, base.rpartition("/")[0])
    except Refused as error:
        raise UserError(f"--input {stored(given)}: {error}") from error
    if parts.scheme not in WEB:
        return _far_folder(given, config)
    if suffix not in config.suffixes:
        raise UserError(
            f"--input {stored(given)} is neither media ({' '.join(config.suffixes)}) nor a "
            f"manifest ({' '.join(MANIFEST_SUFFIXES)}); folders cannot be listed on the web"
        )
    return Listing((Source(stored(given), given),))


def _far_folder(given: str, config: SourceConfig) -> Listing:
    scheme, _, rest = given.partition("://")
    base, pattern = split_glob(rest) if is_glob(rest) else (rest.rstrip("/"), "**")
    store = store_at(f"{scheme}://{base}")
    if store.has(""):
        return Listing((Source(given.rpartition("/")[2], given),))
    fits, listed = matcher(pattern), store.names()
    names = [name for name in listed if fits(name) and "/." not in f"/{name}"]
    media = [name for name in names if Path(name).suffix.lower() in config.suffixes]
    if not media:
        raise _no_media(given, len(names), config)
    there = set(listed)

    def beside(name: str) -> Source:
        timeline = name.removesuffix(Path(name).suffix) + TIMELINE_SUFFIX
        found = store.place(timeline) if timeline in there else None
        return Source(name, store.place(name), timeline=found)

    sources = tuple(_nameable(beside(name)) for name in media)
    known = {*media, *(s.timeline.removeprefix(f"{store.place()}/") for s in sources if s.timeline)}
    return Listing(sources, sum(name not in known for name in names))


def _manifest(path: Path, base: str) -> Listing:
    """Args:
    base: folder or URI that the rows' names are relative to.
    """
    rows = [_nameable(_listed(base, row)) for row in read_manifest(path)]
    return Listing(tuple(sorted(rows, key=lambda source: source.uri)))


def _no_media(given: Path | str, others: int, config: SourceConfig) -> UserError:
    return UserError(
        f"--input {given} holds no media ({others} other files): "
        f"these endings count: {' '.join(config.suffixes)}"
    )


def identify(listing: Listing, config: SourceConfig, cache: Folder, *, rehash: bool) -> Listing:
    """Name every listed file by its bytes, and end those that cannot become videos.

    A file whose path, size and mtime (or remote version) stand in ``cache`` is not read again,
    unless ``rehash``.
    Of files with the same bytes the first in order stays; the others end as ``duplicate``.
    """
    known = _Cache(store_at(cache))
    if rehash:
        known.forget(listing.sources)
    fetch = Fetcher(config.remote)
    named: list[Source] = []
    far = any(is_remote(source.path) for source in listing.sources)
    with ThreadPoolExecutor(config.remote.downloads if far else config.hash_workers) as pool:
        for start in range(0, len(listing.sources), BATCH):
            batch = listing.sources[start : start + BATCH]
            for source in pool.map(lambda source: _identify(source, known, fetch), batch):
                named.append(source)
                known.remember(source)
    known.save()
    return replace(listing, sources=tuple(_without_duplicates(named)))


def check_unchanged(record: Record, seen: Record, *, reread: bool) -> None:
    """Raise unless the files that a record names still are what they were when they were named.

    A copy of a remote file was checked when it was fetched.

    Args:
        record: of a video, or of a clip, whose source file is out of the question.
        seen: what the stage got of it, with local paths.
        reread: believe no size and mtime, but read the bytes.

    Raises:
        OSError: one cannot be read now.
        UserError: one was replaced.
    """
    if "path" in record:
        path = Path(str(seen.get("path", record["path"])))
        same = is_remote(record["path"]) or _stamp(path) == (record["size"], record["mtime_ns"])
        if (reread or not same) and video_id(path) != record["video_id"]:
            raise UserError(f"{path} was replaced while it was worked on: run again")
    sidecar = str(seen.get("timeline", record.get("timeline")) or "")
    # It is small, but clips are many.
    looked = sidecar and not is_remote(sidecar) and (reread or "path" in record)
    if looked and sha256_file(Path(sidecar)) != record["timeline_sha256"]:
        raise UserError(f"{sidecar} was replaced while it was worked on: run again")


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


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
    table = pq.read_table(store_at(run).local(LISTING))
    rows = ({**row, "meta": json.loads(row["meta"])} for row in table.to_pylist())
    return Listing(tuple(Source(**row) for row in rows), int(table.schema.metadata[b"ignored"]))


_LISTING = pa.schema(
    [
        *((name, pa.string()) for name in ("uri", "path")),
        *((name, pa.int64()) for name in ("size", "mtime_ns")),
        *((name, pa.string()) for name in ("video_id", "outcome", "reason", "message", "meta")),
        *((name, pa.string()) for name in ("timeline", "timeline_sha256", "version")),
    ]
)
_CACHE = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("video_id", pa.string()),
        ("version", pa.string()),
    ]
)


def _folder(root: Path, given: Path | str, config: SourceConfig, pattern: str = "**") -> Listing:
    fits = matcher(pattern)
    found = ((path.relative_to(root).as_posix(), path) for path in _files(root))
    files = sorted((name, path) for name, path in found if fits(name))
    media = [(name, path) for name, path in files if path.suffix.lower() in config.suffixes]
    if not media:
        raise _no_media(given, len(files), config)
    sources = [_beside(path, name) for name, path in media]
    known = {str(path) for _, path in media} | {source.timeline for source in sources}
    ignored = sum(str(path) not in known for _, path in files)
    return Listing(tuple(map(_nameable, sources)), ignored)


def _glob(given: Path | str, text: str, config: SourceConfig) -> Listing:
    base, pattern = split_glob(text)
    if not Path(base).is_dir():
        raise UserError(f"--input {given}: there is no folder {base}")
    return _folder(Path(base).resolve(), given, config, pattern)


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


def _listed(base: str, row: dict[str, Any]) -> Source:
    meta = {name: value for name, value in row.items() if name not in ("uri", "timeline")}
    named = Source(stored(row["uri"]), stored(row["uri"]), meta=meta)
    try:
        path = _resolved(base, row["uri"])
        given = row.get("timeline")
        timeline = _resolved(base, given) if given else None
    except Refused as error:
        return named.ended("failed", error.reason, str(error))
    if timeline is None and not is_remote(path):
        timeline = _beside(Path(path), row["uri"]).timeline
    return replace(named, path=path, timeline=timeline)


def _resolved(base: str, uri: str) -> str:
    """Where a manifest's row points to; one from elsewhere names no files of this machine."""
    if is_remote(uri):
        return uri
    if uri.startswith("file://"):
        if is_remote(base):
            raise Refused("refused", "a remote manifest names a local file")
        return unquote(urlparse(uri).path)
    if not is_remote(base):
        return os.path.normpath(Path(base) / uri)
    return urljoin(f"{base}/", uri) if base.partition("://")[0] in WEB else _below(base, uri)


def _below(base: str, uri: str) -> str:
    scheme, _, folder = base.partition("://")
    return f"{scheme}://{os.path.normpath(f'{folder}/{uri}')}"


def _identify(source: Source, known: "_Cache", fetch: Fetcher) -> Source:
    """Size, mtime, bytes and timeline of one file; whatever goes wrong becomes its outcome."""
    if source.outcome != "ok":
        return source
    source = _identify_far(source, known, fetch) if is_remote(source.path) else _hash(source, known)
    if source.timeline is None or source.outcome != "ok":
        return source
    try:
        far = is_remote(source.timeline)
        sha256 = fetch.look(source.timeline).sha256 if far else sha256_file(Path(source.timeline))
        return replace(source, timeline_sha256=sha256)
    except (OSError, Refused) as error:
        message = f"its timeline {stored(source.timeline)}: {error}"
        return source.ended("failed", "timeline", message)


def _hash(source: Source, known: "_Cache") -> Source:
    path = Path(source.path)
    try:
        stat = path.stat()
        source = replace(source, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if not path.is_file():
            return source.ended("failed", "unreadable", "it is not an ordinary file")
        if stat.st_size == 0:
            return source.ended("failed", "empty", "the file has no bytes")
        before = known.near(source.path, source.size, source.mtime_ns)
        return replace(source, video_id=before or video_id(path))
    except OSError as error:
        return source.ended("failed", "unreadable", str(error.strerror or error))


def _identify_far(source: Source, known: "_Cache", fetch: Fetcher) -> Source:
    try:
        found = fetch.look(source.path, known.far(source.path))
    except Refused as error:
        return source.ended("failed", error.reason, str(error))
    except OSError as error:
        if systemic(error):
            raise
        return replace(source, outcome="pending", message=told(error))
    source = replace(source, size=found.size, mtime_ns=found.modified, version=found.version)
    if found.size == 0:
        return source.ended("failed", "empty", "the file has no bytes")
    return replace(source, video_id=found.sha256[:ID_LENGTH])


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


class _Cache:
    """What was named before: local files by path, size and mtime; remote ones by URI."""

    def __init__(self, table: Store) -> None:
        self._table = table
        self._rows = {_place(row): row for row in _read_cache(table)}
        self._saved, self._changed = time.monotonic(), False

    def near(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Name of a local file in this state."""
        row = self._rows.get((path, size, mtime_ns))
        return None if row is None else row["video_id"]

    def far(self, uri: str) -> Known | None:
        """A remote file as it was last."""
        row = self._rows.get((stored(uri), -1, -1))
        if row is None:
            return None
        return Known(row["size"], row["mtime_ns"], row["version"], row["video_id"])

    def forget(self, sources: Iterable[Source]) -> None:
        """Forget all that is known of these files."""
        paths = {stored(source.path) for source in sources}
        self._rows = {place: row for place, row in self._rows.items() if place[0] not in paths}
        self._changed = True

    def remember(self, source: Source) -> None:
        """Add what was found, and save it now and then: to write all of it takes its time."""
        tells = source.version is not None or not is_remote(source.path)
        if source.video_id is None or not tells:
            return
        row = {name: getattr(source, name) for name in _CACHE.names}
        row["path"] = stored(source.path)
        self._changed |= self._rows.get(_place(row)) != row
        self._rows[_place(row)] = row
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        if not self._changed:
            return
        rows = [row for _, row in sorted(self._rows.items())]
        with self._table.writing(CACHE) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=_CACHE), temporary)
        self._saved, self._changed = time.monotonic(), False


def _read_cache(table: Store) -> list[dict[str, Any]]:
    if not table.has(CACHE):
        return []
    try:
        return pq.read_table(table.local(CACHE), schema=_CACHE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{table.place(CACHE)} cannot be read ({error}): delete this file and run again; "
            "all inputs are then read anew to name them"
        ) from error


def _place(row: dict[str, Any]) -> tuple[str, int, int]:
    """Rows for other states of a local file stay (it may come back); of a remote one the last."""
    far = is_remote(row["path"])
    return row["path"], *((-1, -1) if far else (row["size"], row["mtime_ns"]))
