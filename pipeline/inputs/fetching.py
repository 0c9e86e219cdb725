"""Fetching: remote inputs come into the cache of this machine, and are named by their bytes.

A film is fetched once to be named, by as many downloads at once as the recipe allows, and again by
the worker that needs it where the cache (`corpus.cache`) no longer has it. One whose manifest tells
its SHA-256 has its name by that, and is fetched by workers alone. The cache is bounded,
so a run needs no more room for films than that and what is being fetched.
"""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from corpus.cache import copy_path, is_copied, trim_cache, unfinished
from corpus.errors import UserError
from corpus.ids import ID_LENGTH, sha256_file
from corpus.remote import RemoteStore
from pipeline.faults import systemic
from pipeline.inputs.addresses import WEB, Refused, RemoteConfig, TooSlow, check_uri, opened
from pipeline.inputs.uris import stored

WAIT, FACTOR = 0.5, 4.0  # seconds before the second try; how much longer before each next
NOT_MODIFIED = 304
Got = TypeVar("Got")


@dataclass(frozen=True)
class Known:
    """A remote file as it was found.

    Attributes:
        version: what tells whether it changed: an ETag, a time; None if the server gives none.
        sha256: of its bytes.
    """

    size: int
    modified: int
    version: str | None
    sha256: str


class NotAsNamed(UserError):
    """A file that is not what it was listed as: it was replaced, or its manifest is wrong.

    Attributes:
        reason: ``sha256``, or why it is refused (`addresses.Refused`).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Fetcher:
    """Fetches what a policy allows. Small and without state: every worker has one."""

    config: RemoteConfig

    def __call__(self, uri: str, name: str) -> str:
        """Path of a local copy of a file.

        Args:
            name: SHA-256 of its bytes, or the beginning of it.

        Raises:
            OSError: it cannot be had now.
            NotAsNamed: it is not there, or has other bytes.
        """
        copy = copy_path(name[:ID_LENGTH], uri)
        if not is_copied(copy):
            try:
                found = self.look(uri)
            except Refused as error:
                raise NotAsNamed(
                    error.reason, f"{stored(uri)} cannot be fetched: {error}"
                ) from error
            if not found.sha256.startswith(name):
                other = f"the SHA-256 of its bytes is {found.sha256}, not {name}"
                raise NotAsNamed("sha256", f"{stored(uri)} is not what was listed: {other}")
        return str(copy)

    def look(self, uri: str, known: Known | None = None) -> Known:
        """Name a file by its bytes; what is ``known`` is believed while its version stays.

        Raises:
            Refused: the policy forbids it, it is too large, or it is not there.
            OSError: it cannot be had now, after some patience.
        """
        return self._patiently(lambda: self._look(uri, known))

    def _patiently(self, get: Callable[[], Got]) -> Got:
        for number in range(self.config.tries - 1):
            try:
                return get()
            except OSError as error:
                if systemic(error) or isinstance(error, TooSlow):
                    raise
                time.sleep(WAIT * FACTOR**number)
        return get()

    def _look(self, uri: str, known: Known | None) -> Known:
        parts = check_uri(uri, self.config)
        fetch = _from_web if parts.scheme in WEB else _from_store
        with unfinished("film") as temporary:
            found = fetch(uri, known, temporary, self.config)
            if found is None:
                assert known is not None  # noqa: S101 - nothing else can be unchanged
                return known
            named = replace(found, sha256=sha256_file(temporary))
            copy = copy_path(named.sha256[:ID_LENGTH], uri)
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(copy)
        trim_cache(after=named.size)
        return named


def _from_web(uri: str, known: Known | None, place: Path, config: RemoteConfig) -> Known | None:
    """Fetch by HTTP; None if what is known is still good."""
    with opened(uri, config, known.version if known else None) as answer, place.open("wb") as file:
        if answer.status == NOT_MODIFIED:
            if known is None:
                raise OSError(f"{stored(uri)}: the server says 304 to who has nothing")
            return None
        size = answer.save(file)
        _keep(file)
        return Known(size, -1, answer.validator, "")


def _from_store(uri: str, known: Known | None, place: Path, config: RemoteConfig) -> Known | None:
    """Fetch by fsspec; None if what is known is still good."""
    store = RemoteStore(uri)
    stat = store.stat("")
    if stat is None:
        raise Refused("not_found", "there is no such object")
    if stat.size > config.max_bytes:
        raise Refused("too_large", f"{stat.size} bytes, {config.max_bytes} are allowed")
    if known is not None and (known.size, known.version) == (stat.size, stat.version):
        return None
    store.save("", place)
    with place.open("rb") as file:
        if os.fstat(file.fileno()).st_size != stat.size:
            raise OSError(errno.EIO, "it changed while it was fetched", stored(uri))
        _keep(file)
    return Known(stat.size, stat.modified, stat.version, "")


def _keep(file: IO[bytes]) -> None:
    """A copy is believed by its name alone, so it must survive a power cut whole."""
    file.flush()
    os.fsync(file.fileno())
