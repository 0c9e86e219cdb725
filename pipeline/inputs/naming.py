"""Naming: every listed file gets the name that its bytes give it, and what was named before is not
read again.
"""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from corpus.errors import UserError
from corpus.ids import ID_LENGTH, sha256_file, video_id
from corpus.store import Folder, store_at
from pipeline.faults import systemic, told
from pipeline.inputs.addresses import Refused
from pipeline.inputs.fetching import Fetcher
from pipeline.inputs.names_table import NamesTable
from pipeline.inputs.sources import Listing, Source, SourceConfig
from pipeline.inputs.uris import is_remote, stored
from stages.stage import Record

BATCH = 256  # files that are asked for at once
# What is wrong with a path, and stays so; anything else may be a mount that is away.
LASTING = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.ENXIO),
}


def identify(listing: Listing, config: SourceConfig, cache: Folder, *, rehash: bool) -> Listing:
    """Name every listed file by its bytes, and end those that cannot become videos.

    A file whose path, size and mtime (or remote version) stand in ``cache`` is not read again,
    unless ``rehash``.
    A remote file whose manifest tells its SHA-256 is named by that, and fetched by whoever works on
    it (`fetching.Fetcher`). Of files with the same bytes the first in order stays; the others end
    as ``duplicate``.
    """
    known = NamesTable(store_at(cache))
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


def _identify(source: Source, known: NamesTable, fetch: Fetcher) -> Source:
    """Size, mtime, bytes and timeline of one file; whatever goes wrong becomes its outcome."""
    if source.outcome != "ok":
        return source
    source = _identify_far(source, known, fetch) if is_remote(source.path) else _hash(source, known)
    if source.sha256 and source.video_id and not source.sha256.startswith(source.video_id):
        message = f"the SHA-256 of its bytes begins with {source.video_id}, not {source.sha256}"
        source = source.ended("quarantined", "sha256", f"{message} as its manifest says")
    if source.timeline is None or source.outcome != "ok":
        return source
    try:
        far = is_remote(source.timeline)
        sha256 = fetch.look(source.timeline).sha256 if far else sha256_file(Path(source.timeline))
        return replace(source, timeline_sha256=sha256)
    except Refused as error:
        return source.ended(
            "failed", "timeline", f"its timeline {stored(source.timeline)}: {error}"
        )
    except OSError as error:
        return _unread(source, error, "timeline", f"its timeline {stored(source.timeline)}: ")


def _hash(source: Source, known: NamesTable) -> Source:
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
        return _unread(source, error, "unreadable")


def _unread(source: Source, error: OSError, reason: str, of: str = "") -> Source:
    """The end of a file that cannot be opened, or, where that may pass, its wait for a next run."""
    if systemic(error):
        raise error
    if error.errno in LASTING:
        return source.ended("failed", reason, f"{of}{error.strerror}")
    return replace(source, outcome="pending", message=f"{of}{told(error)}")


def _identify_far(source: Source, known: NamesTable, fetch: Fetcher) -> Source:
    if source.sha256:
        return replace(source, video_id=source.sha256[:ID_LENGTH])
    before = known.far(source.path)
    if before and before.version and (before.size, before.version) == (source.size, source.version):
        return replace(source, video_id=before.sha256)  # as the listing of its folder says
    try:
        found = fetch.look(source.path, before)
    except Refused as error:
        return source.ended("failed", error.reason, str(error))
    except OSError as error:
        return _unread(source, error, "unreadable")
    source = replace(source, size=found.size, mtime_ns=found.modified, version=found.version)
    if found.size == 0:
        return source.ended("failed", "empty", "the file has no bytes")
    return replace(source, video_id=found.sha256[:ID_LENGTH])


def _without_duplicates(sources: Sequence[Source]) -> Iterator[Source]:
    """Whose bytes were read stays rather than who only says what they are."""
    kept: dict[str | None, Source] = {}
    for source in sorted(sources, key=lambda one: bool(one.sha256) and is_remote(one.path)):
        if source.outcome == "ok":
            kept.setdefault(source.video_id, source)
    for source in sources:
        other = kept.get(source.video_id)
        if source.outcome != "ok" or other is None or other is source:
            yield source
        else:
            yield source.ended("filtered", "duplicate", f"the same bytes as {other.uri}")


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
