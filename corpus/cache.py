"""The cache of this machine: local copies of remote files, and files that are still being made.

It lies in the temporary folder (`CACHE` names another), is shared by all processes of this user on
this machine, and holds about `CACHE_GB` GiB: what was used longest ago goes first, but nothing that
was used within the last minute. A copy is named by its key, which says what bytes it holds.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corpus.errors import UserError

CACHE, CACHE_GB = "TV2TV_CACHE", "TV2TV_CACHE_GB"
KEEP_SECONDS = 60.0  # what was used so lately may be about to be opened
LOOK_EVERY = 64  # looks at the whole cache per filling of it


def cache_folder() -> Path:
    """Where copies and unfinished files lie, readable by this user only."""
    given = os.environ.get(CACHE)
    folder = Path(given or Path(tempfile.gettempdir()) / f"tv2tv-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to another user: name another folder with {CACHE}")
    return folder


def is_small(size: int) -> bool:
    """Whether a file of so many bytes hardly counts in the cache."""
    return size < _limit() / LOOK_EVERY


def _limit() -> float:
    """Bytes."""
    return float(os.environ.get(CACHE_GB, "16")) * 2**30


@contextmanager
def unfinished(name: str) -> Iterator[Path]:
    """A file for this process to write; named by it, so that others know when it is left over."""
    handle, path = tempfile.mkstemp(
        dir=_unfinished(), prefix=f"{os.getpid()}-", suffix=f"-{name[-80:]}"
    )
    os.close(handle)
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)


def unfinished_folder() -> Path:
    """A folder for this process to fill and to remove."""
    return Path(tempfile.mkdtemp(dir=_unfinished(), prefix=f"{os.getpid()}-"))


def _unfinished() -> Path:
    """Where files and folders lie that a process is at work on; their names begin with its pid."""
    folder = cache_folder() / "unfinished"
    folder.mkdir(exist_ok=True)
    return folder


def _is_left_over(path: Path) -> bool:
    try:
        os.kill(int(path.name.partition("-")[0]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def copy_path(key: str, name: str) -> Path:
    """Where the copy with this key lies, or will lie; its file name is the last part of ``name``,
    as far as any file system takes it."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.rpartition("/")[2])[-80:]
    return cache_folder() / "copies" / key[:2] / key / (plain.lstrip(".") or "file")


def is_copied(copy: Path, size: int | None = None) -> bool:
    """Whether a copy is there; it then counts as just used."""
    with suppress(FileNotFoundError):
        if size is None or copy.stat().st_size == size:
            os.utime(copy)
            return True
    return False


_fetched = 0  # bytes since this process last looked at the whole cache


def trim_cache(*, after: int | None = None) -> None:
    """Take away what dead processes left, and the oldest copies beyond the limit.

    Args:
        after: bytes that have just come in; the cache is only looked at when they add up.
    """
    global _fetched
    _fetched += after or 0
    if after is not None and _fetched < _limit() / LOOK_EVERY:
        return
    _fetched = 0
    root = cache_folder()
    for path in root.glob("unfinished/*"):
        if _is_left_over(path):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
    found = []
    for path in root.glob("copies/*/*/*"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            found.append((stat.st_mtime, stat.st_size, path))
    total, now = sum(size for _, size, _ in found), time.time()
    for used, size, path in sorted(found):
        if total <= _limit() or now - used < KEEP_SECONDS:
            return
        path.unlink(missing_ok=True)
        with suppress(OSError):  # another process has just put a copy there
            path.parent.rmdir()
        total -= size
