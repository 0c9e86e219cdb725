"""Listing: from a folder, a glob, a file or a manifest to the videos that it names. No video is
read; any of them may be remote (`pipeline.inputs.fetching`).

A *manifest* is a .jsonl, .csv or .parquet file with a column ``uri`` (a path, relative to the
manifest's folder) and, optionally, ``timeline`` (same rule) and ``sha256`` (of the video's bytes).
All other columns (licence, title, language, the user's own) are carried along as ``meta``, and
``source.where`` may choose by them.

Without a manifest, a timeline lies beside its video: ``film.mp4`` and ``film.timeline.jsonl``. A
remote video that a manifest lists has the timeline that its row names, or none.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from corpus.errors import UserError
from corpus.store import file_path, is_file_uri, store_at
from pipeline.inputs.addresses import WEB, Refused, check_uri
from pipeline.inputs.fetching import Fetcher
from pipeline.inputs.manifest import COLUMNS, MANIFEST_SUFFIXES, read_manifest
from pipeline.inputs.sources import Listing, Source, SourceConfig
from pipeline.inputs.uris import is_glob, is_remote, matcher, split_glob, stored
from pipeline.inputs.where import Where, check_columns, refusal

TIMELINE_SUFFIX = ".timeline.jsonl"


def list_sources(given: Path | str, config: SourceConfig) -> Listing:
    """List what ``--input`` names, without reading a video.

    Raises:
        UserError: nothing is there, the manifest is malformed, there is no media in the folder, or
            ``where`` asks for a column that is not there.
        OSError: a folder or a remote manifest cannot be had now.
    """
    listing = _far(str(given), config) if is_remote(str(given)) else _near(given, config)
    check_columns((source.meta for source in listing.sources), config.where)
    return replace(listing, sources=tuple(_wanted(s, config.where) for s in listing.sources))


def _wanted(source: Source, where: Where) -> Source:
    why = refusal(source.meta, where) if source.outcome == "ok" else None
    return source if why is None else source.ended("filtered", "metadata", why)


def _near(given: Path | str, config: SourceConfig) -> Listing:
    path = file_path(str(given)) if is_file_uri(str(given)) else Path(given).expanduser()
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


def _glob(given: Path | str, text: str, config: SourceConfig) -> Listing:
    base, pattern = split_glob(text)
    if not Path(base).is_dir():
        raise UserError(f"--input {given}: there is no folder {base}")
    return _folder(Path(base).resolve(), given, config, pattern)


def _folder(root: Path, given: Path | str, config: SourceConfig, pattern: str = "**") -> Listing:
    fits, closed = matcher(pattern), list[Path]()
    found = ((path.relative_to(root).as_posix(), path) for path in _files(root, closed))
    files = sorted((name, path) for name, path in found if fits(name))
    media = [(name, path) for name, path in files if path.suffix.lower() in config.suffixes]
    if not media and not closed:
        raise _no_media(given, len(files), config)
    sources = [_beside(path, name) for name, path in media]
    if "/" in pattern or "**" in pattern:
        sources += [_closed(path, f"{path.relative_to(root).as_posix()}/") for path in closed]
    known = {str(path) for _, path in media} | {source.timeline for source in sources}
    ignored = sum(str(path) not in known for _, path in files)
    return Listing(tuple(map(_nameable, sources)), ignored)


def _closed(path: Path, uri: str) -> Source:
    return Source(uri, str(path)).ended("failed", "unreadable", "this folder may not be listed")


def _files(root: Path, closed: list[Path]) -> Iterator[Path]:
    """Files below ``root``, links followed, each folder visited once, hidden ones left out.

    Args:
        closed: gets the folders that may not be listed.

    Raises:
        OSError: a folder cannot be listed now.
    """

    def unlisted(error: OSError) -> None:
        if not isinstance(error, PermissionError | FileNotFoundError):
            raise error
        closed.append(Path(str(error.filename)))

    visited: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=unlisted, followlinks=True):
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


def _no_media(given: Path | str, others: int, config: SourceConfig) -> UserError:
    return UserError(
        f"--input {given} holds no media ({others} other files): "
        f"these endings count: {' '.join(config.suffixes)}"
    )


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
    fits, listed = matcher(pattern), store.files()
    if not listed:
        raise UserError(f"--input {given} does not exist: there is no file below {store.place()}")
    names = [name for name in listed if fits(name) and "/." not in f"/{name}"]
    media = [name for name in names if Path(name).suffix.lower() in config.suffixes]
    if not media:
        raise _no_media(given, len(names), config)

    def beside(name: str) -> Source:
        timeline = name.removesuffix(Path(name).suffix) + TIMELINE_SUFFIX
        found, stat = store.place(timeline) if timeline in listed else None, listed[name]
        film = Source(name, store.place(name), stat.size, stat.modified, version=stat.version)
        return replace(film, timeline=found)

    sources = tuple(_nameable(beside(name)) for name in media)
    known = {*media, *(s.timeline.removeprefix(f"{store.place()}/") for s in sources if s.timeline)}
    return Listing(sources, sum(name not in known for name in names))


def _manifest(path: Path, base: str) -> Listing:
    """Args:
    base: folder or URI that the rows' names are relative to.
    """
    rows = [_nameable(_listed(base, row)) for row in read_manifest(path)]
    return Listing(tuple(sorted(rows, key=lambda source: source.uri)))


def _listed(base: str, row: dict[str, Any]) -> Source:
    meta = {name: value for name, value in row.items() if name not in COLUMNS}
    sha256 = (row.get("sha256") or "").lower() or None
    named = Source(stored(row["uri"]), stored(row["uri"]), meta=meta, sha256=sha256)
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
    if is_file_uri(uri):
        if is_remote(base):
            raise Refused("refused", "a remote manifest names a local file")
        try:
            return str(file_path(uri))
        except UserError as error:
            raise Refused("refused", str(error)) from error
    if not is_remote(base):
        return os.path.normpath(Path(base) / uri)
    return urljoin(f"{base}/", uri) if base.partition("://")[0] in WEB else _below(base, uri)


def _below(base: str, uri: str) -> str:
    scheme, _, folder = base.partition("://")
    return f"{scheme}://{os.path.normpath(f'{folder}/{uri}')}"


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
