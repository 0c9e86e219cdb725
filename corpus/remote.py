"""A `Store` on any file system that fsspec knows: S3, GCS, ... ; bytes pass through a local cache.

Object stores have no rename, and need none: a PUT under the final name appears whole or not at all.
Credentials come from where the file system's own library looks for them (environment, profile,
instance); none are taken from a URI, logged or stored.

A copy in the cache (`corpus.cache`) is named by the object's URI and version, so an object that
changed is fetched again.
"""

import errno
import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec

from corpus import files
from corpus.cache import copy_path, is_copied, is_small, trim_cache, unfinished, unfinished_folder
from corpus.errors import UserError
from corpus.ids import content_id
from corpus.store import OBJECT_STORES, Stat, Store
from corpus.uploading import Uploads

TRANSFERS = 16  # at once, where many files are fetched
UPLOAD_SECONDS = 30.0  # how far the files of `folder` may lag behind
Got = TypeVar("Got")


@dataclass(frozen=True)
class RemoteStore(Store):
    """Files below a URI such as ``s3://bucket/corpus``."""

    uri: str

    def at(self, name: str) -> "RemoteStore":
        return RemoteStore(self.place(name))

    def place(self, name: str = "") -> str:
        return f"{self.uri}/{name}".rstrip("/")

    def local(self, name: str) -> Path:
        found = self.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.place(name))
        return self._fetched(name, found)

    def locals(self, names: Iterable[str]) -> list[Path]:
        listed = self.files()

        def one(name: str) -> Path:
            return self._fetched(name, listed[name]) if name in listed else self.local(name)

        return _at_once(one, list(names))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with unfinished(Path(name).name) as temporary:
            yield temporary
            self.put(name, temporary)

    def put(self, name: str, path: Path) -> Stat | None:
        """Upload a file, in one step or not at all, and take it into the cache if it is small: then
        nothing is left at ``path``."""
        with self._asked(name) as (fs, target):
            fs.put_file(str(path), target)
        stat = self.stat(name)
        if stat is not None and is_small(stat.size):
            kept = self._cached(name, stat)
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)
        return stat

    @contextmanager
    def replacing(self, last: str, ready: Callable[[], None]) -> Iterator[Store]:
        ready()
        before = self.names()
        self.remove(last)
        uploads = Uploads(self)
        try:
            yield _Rewriting(self.uri, last, ready, frozenset(before), uploads)
        finally:
            uploads.close()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        done, sent = threading.Event(), dict[str, tuple[int, int]]()
        place = unfinished_folder()

        def follow() -> None:
            while not done.wait(UPLOAD_SECONDS):
                with suppress(OSError):  # the next round, or the last, sends it
                    self._send(place, sent)

        thread = threading.Thread(target=follow, name="upload", daemon=True)
        thread.start()
        try:
            yield place
        finally:
            done.set()
            thread.join()
            self._send(place, sent)
            shutil.rmtree(place, ignore_errors=True)

    def stat(self, name: str) -> Stat | None:
        try:
            with self._asked(name) as (fs, path):
                info = fs.info(path)
        except FileNotFoundError:
            return None
        return _stat(info) if info["type"] == "file" else None

    def files(self, prefix: str = "") -> dict[str, Stat]:
        try:
            with self._asked(prefix.rpartition("/")[0]) as (fs, path):
                listed = fs.find(path.rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        root = f"{_path(self.uri)}/"
        names = {path.removeprefix(root): info for path, info in listed.items()}
        return {name: _stat(names[name]) for name in sorted(names) if name.startswith(prefix)}

    def glance(self) -> Callable[[str], bool]:
        """One listing answers for all files of a kind, where one question each would take hours."""
        listed: dict[str, set[str]] = {}

        def has_bytes(name: str) -> bool:
            kind = "/".join(name.split("/")[:-2])
            if kind not in listed:
                found = self.files(f"{kind}/" if kind else "")
                listed[kind] = {name for name, stat in found.items() if stat.size}
            return name in listed[kind]

        return has_bytes

    def remove(self, *names: str) -> None:
        def one(name: str) -> None:
            with suppress(FileNotFoundError), self._asked(name) as (fs, path):
                fs.rm_file(path)

        _at_once(one, names)

    def touch(self, *names: str) -> None:
        def one(name: str) -> None:
            with self._asked(name) as (fs, path):
                fs.pipe_file(path, b"")

        _at_once(one, names)

    def clear(self) -> None:
        self.remove(*self.names())

    def swap(self, name: str, data: bytes, version: str | None) -> str | None:
        """On S3 a conditional PUT; elsewhere only creation is one step, and what is there already
        is compared and then written."""
        held = self.read_versioned(name)
        if (held and held[1]) != version:
            return None
        try:
            with self._asked(name) as (fs, path):
                if version is None:
                    fs.pipe_file(path, data, mode="create")
                elif _scheme(self.uri) in ("s3", "s3a"):
                    fs.pipe_file(path, data, IfMatch=version)
                else:
                    fs.pipe_file(path, data)
        except OSError:
            held = self.read_versioned(name)
            if held is None or held[0] != data:  # else it was written, and only the answer lost
                if (held and held[1]) == version:
                    raise
                return None
            return held[1]
        found = self.stat(name)
        return None if found is None else found.version

    def read_versioned(self, name: str) -> tuple[bytes, str] | None:
        while True:
            before = self.stat(name)
            if before is None:
                return None
            with suppress(FileNotFoundError):
                data = self.read(name)
                if self.stat(name) == before:
                    return data, before.version

    def read(self, name: str) -> bytes:
        with self._asked(name) as (fs, path):
            return bytes(fs.cat_file(path))

    def sweep(self) -> None:
        """Here, and parts of uploads that were cut off: no files there, but S3 charges for them."""
        trim_cache()
        if _scheme(self.uri) in ("s3", "s3a"):
            with suppress(OSError), self._asked("") as (fs, path):  # not everyone may list them
                bucket, _, key = path.partition("/")
                about = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
                for one in fs.call_s3("list_multipart_uploads", **about).get("Uploads", ()):
                    fs.abort_mpu(bucket, one["Key"], one["UploadId"])

    def save(self, name: str, place: Path) -> None:
        """Fetch a file to a place of the caller's."""
        with self._asked(name) as (fs, path):
            fs.get_file(path, str(place))

    def _send(self, place: Path, sent: dict[str, tuple[int, int]]) -> None:
        """Upload what grew in a local folder."""
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            name, found = path.relative_to(place).as_posix(), path.stat()
            if sent.get(name) != (found.st_size, found.st_mtime_ns):
                with self._asked(name) as (fs, target):
                    fs.put_file(str(path), target)
                sent[name] = (found.st_size, found.st_mtime_ns)

    def _fetched(self, name: str, stat: Stat) -> Path:
        cached = self._cached(name, stat)
        if is_copied(cached, stat.size):
            return cached
        with files.writing(cached) as temporary:
            self.save(name, temporary)
            if temporary.stat().st_size != stat.size:
                raise OSError(errno.EIO, "it changed while it was fetched", self.place(name))
        trim_cache(after=stat.size)
        return cached

    def _cached(self, name: str, stat: Stat) -> Path:
        return copy_path(content_id(self.place(name), stat.size, stat.version), name)

    @contextmanager
    def _asked(self, name: str) -> Iterator[tuple[Any, str]]:
        """File system and path of a name; what the library raises becomes an OSError, so that the
        pipeline knows it for something that may pass."""
        fs = filesystem(self.uri)
        try:
            yield fs, _path(self.place(name))
        except (OSError, UserError):
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise OSError(errno.EIO, told, self.place(name)) from error


@dataclass(frozen=True)
class _Rewriting(RemoteStore):
    """A store whose files are all written anew, ``last`` last: when all others are there, and what
    lay there before and was not written is gone."""

    last: str
    ready: Callable[[], None]
    before: frozenset[str]
    uploads: Uploads
    written: set[str] = field(default_factory=set)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        if name != self.last:
            with self.uploads.writing(name) as temporary:
                yield temporary
                self.ready()  # who has lost the corpus meanwhile overwrites no other's files
            self.written.add(name)
            return
        with super().writing(name) as temporary:
            yield temporary
            self.uploads.wait()
            self.ready()
            self.remove(*sorted(self.before - self.written - {self.last}))
        self.uploads.forget()


def _at_once(do: Callable[[str], Got], names: Sequence[str]) -> list[Got]:
    """Answers in order; requests wait for the net most of their time."""
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(min(TRANSFERS, len(names))) as pool:
        return list(pool.map(do, names))


def filesystem(uri: str) -> Any:
    """The fsspec file system of a URI, without a memory of listings.

    Raises:
        UserError: no library for it, or the URI holds credentials.
    """
    if urlsplit(uri).username or urlsplit(uri).password:
        where = uri.rpartition("@")[2]
        raise UserError(f"{where}: credentials do not belong in a URI; give them by environment")
    return _filesystem(_scheme(uri))


@functools.cache
def _filesystem(scheme: str) -> Any:
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        library = OBJECT_STORES.get(scheme)
        if library is None and isinstance(error, ValueError):
            raise UserError(f"{scheme}:// is no file system that fsspec knows") from error
        how = "pip install 'tv2tv[remote]'" if library == "s3fs" else f"pip install {library}"
        what = f"install it: {how}" if library else str(error)
        raise UserError(f"{scheme}:// needs a library that is not there: {what}") from error
    except TypeError as error:  # ftp://, sftp:// and the like need a host before any path
        known = ", ".join(f"{name}://" for name in OBJECT_STORES)
        raise UserError(f"{scheme}:// is no object store; these are: {known}") from error


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]


def _path(uri: str) -> str:
    return str(filesystem(uri)._strip_protocol(uri)).rstrip("/")


def _stat(info: dict[str, Any]) -> Stat:
    times = ("LastModified", "last_modified", "mtime", "updated", "created")
    when = next((info[name] for name in times if info.get(name) is not None), 0)
    seconds = when.timestamp() if isinstance(when, datetime) else float(when or 0)
    size, modified = int(info["size"] or 0), int(seconds * 10**9)
    tags = ("ETag", "etag", "md5Hash", "content_md5")
    version = next((str(info[name]) for name in tags if info.get(name)), f"{size}-{modified}")
    return Stat(size, modified, version)
