"""Where a corpus keeps its files: a folder, or a place on an object store.

A `Store` knows files by *names*: relative to its root, with forward slashes. A name holds nothing
or a whole file, also after kill -9: locally by fsync and rename, remotely because one PUT under the
final name is all there is. Whoever needs a file on disk asks `Store.local`, which fetches remote
ones into a cache of this machine (`corpus.cache`).
"""

import fcntl
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlparse

from corpus import files
from corpus.errors import UserError
from corpus.ids import sha256_bytes


@dataclass(frozen=True)
class Stat:
    """A file as a listing tells of it.

    Attributes:
        size: bytes.
        modified: nanoseconds since 1970 by the store's own clock, as fine as that is.
        version: another one for other content: an ETag, or size and time; for comparing only.
    """

    size: int
    modified: int
    version: str


class Store(ABC):
    """Files under one root. Stores are small and can be pickled: every worker has its own."""

    @abstractmethod
    def at(self, name: str) -> "Store":
        """The store of what lies in the folder ``name``."""

    @abstractmethod
    def place(self, name: str = "") -> str:
        """Path or URI of a file, for people."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """A local path with the file's bytes, to be read only, and soon: the file itself, or a
        fetched copy. OSError, at the latest when it is opened, where there is none."""

    def locals(self, names: Iterable[str]) -> list[Path]:
        """`local` of many, in order."""
        return [self.local(name) for name in names]

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary local path; what it holds at the end of the block becomes the file.
        After an exception the file is what it was."""

    @abstractmethod
    def replacing(self, last: str, ready: Callable[[], None]) -> AbstractContextManager["Store"]:
        """Give a store to write anew all that lies here; ``last`` is the file that is written last
        and names the others. A reader of ``last`` finds the old set, none, or the new one, never a
        mixture. ``ready`` is called before what stands there is touched; raises to stop that."""

    @abstractmethod
    def folder(self) -> AbstractContextManager[Path]:
        """A local folder for files that grow, such as logs: they are in the store when the block
        ends, however it does, and soon after they grew."""

    @abstractmethod
    def stat(self, name: str) -> Stat | None:
        """None where there is no file."""

    @abstractmethod
    def files(self, prefix: str = "") -> dict[str, Stat]:
        """All finished files, at any depth, whose names begin with ``prefix``, in order."""

    @abstractmethod
    def glance(self) -> Callable[[str], bool]:
        """A function that tells of many names whether they have bytes now, or a moment ago."""

    @abstractmethod
    def remove(self, *names: str) -> None:
        """Take files away that are there."""

    @abstractmethod
    def touch(self, *names: str) -> None:
        """Leave empty files that outlive this process; a power cut may take them."""

    @abstractmethod
    def clear(self) -> None:
        """Take all files away."""

    @abstractmethod
    def swap(self, name: str, data: bytes, version: str | None) -> str | None:
        """Write a small file if its version is still this one (None: it is not there), in one step
        among all who do so. Returns the new version, or None if it was another."""

    @abstractmethod
    def read_versioned(self, name: str) -> tuple[bytes, str] | None:
        """A small file and its version for `swap`; None where there is none."""

    @abstractmethod
    def sweep(self) -> None:
        """Clear away what killed writers left. Only for the process that holds the corpus."""

    # -- made of the above ------------------------------------------------------------------

    def size(self, name: str) -> int | None:
        """Bytes; None where there is no file."""
        found = self.stat(name)
        return None if found is None else found.size

    def has(self, name: str) -> bool:
        return self.stat(name) is not None

    def names(self, prefix: str = "") -> list[str]:
        """Names of `files`, sorted."""
        return list(self.files(prefix))

    def read(self, name: str) -> bytes:
        """FileNotFoundError where there is no file."""
        return self.local(name).read_bytes()

    def read_text(self, name: str) -> str:
        return self.read(name).decode("utf-8")

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as temporary:
            temporary.write_bytes(data)

    def write_text(self, name: str, text: str) -> None:
        self.write(name, text.encode("utf-8"))


@dataclass(frozen=True)
class LocalStore(Store):
    """A folder. It need not be there before the first file is written."""

    root: Path

    def at(self, name: str) -> "LocalStore":
        return LocalStore(self.root / name)

    def place(self, name: str = "") -> str:
        return str(self.root / name)

    def local(self, name: str) -> Path:
        return self.root / name

    def writing(self, name: str) -> AbstractContextManager[Path]:
        return files.writing(self.root / name)

    @contextmanager
    def replacing(self, last: str, ready: Callable[[], None]) -> Iterator[Store]:
        with files.writing_folder(self.root) as building:
            yield LocalStore(building)
            ready()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        yield self.root

    def stat(self, name: str) -> Stat | None:
        try:
            found = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not S_ISREG(found.st_mode):
            return None
        return Stat(found.st_size, found.st_mtime_ns, f"{found.st_size}-{found.st_mtime_ns}")

    def files(self, prefix: str = "") -> dict[str, Stat]:
        found = {}
        for place, folders, names in os.walk(self.root / prefix.rpartition("/")[0]):
            folders[:] = [each for each in folders if not each.startswith(".")]
            within = Path(place).relative_to(self.root)
            for name in ((within / each).as_posix() for each in names if each[0] != "."):
                stat = self.stat(name) if name.startswith(prefix) else None
                if stat is not None:
                    found[name] = stat
        return dict(sorted(found.items()))

    def glance(self) -> Callable[[str], bool]:
        root = f"{self.root}{os.sep}"

        def there(name: str) -> bool:
            """As `size`; asked of every file of a corpus, so without `Path`."""
            try:
                found = os.stat(root + name)  # noqa: PTH116
            except (FileNotFoundError, NotADirectoryError):
                return False
            return S_ISREG(found.st_mode) and found.st_size > 0

        return there

    def remove(self, *names: str) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def touch(self, *names: str) -> None:
        for path in (self.root / name for name in names):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def swap(self, name: str, data: bytes, version: str | None) -> str | None:
        path = self.root / name
        with _guard(path):
            held = self.read_versioned(name)
            if (held and held[1]) != version:
                return None
            files.write_bytes(path, data)
        return sha256_bytes(data)

    def read_versioned(self, name: str) -> tuple[bytes, str] | None:
        try:
            data = (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        return data, sha256_bytes(data)

    def sweep(self) -> None:
        files.sweep(self.root)


Folder = Store | Path
# Schemes of stores that all machines see alike, and the library that each needs.
OBJECT_STORES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
}


def store_at(place: Path | str | Store) -> Store:
    """The store of a path or URI."""
    if isinstance(place, Store):
        return place
    text = str(place)
    if "://" not in text:
        return LocalStore(Path(text).expanduser().resolve())
    if is_file_uri(text):
        return LocalStore(file_path(text))
    if not text.partition("://")[2].strip("/"):
        raise UserError(f"{text} names no bucket: write {text.rstrip('/')}//bucket/name")
    from corpus.remote import RemoteStore, filesystem  # fsspec is not needed otherwise

    filesystem(text)  # whoever misses a library learns it now
    return RemoteStore(text.rstrip("/"))


def is_file_uri(text: str) -> bool:
    return text[:7].lower() == "file://"


def file_path(uri: str) -> Path:
    """Path of a file:// URI; UserError if it is of another machine."""
    parts = urlparse(uri)
    if parts.netloc not in ("", "localhost"):
        raise UserError(f"{uri} is on the machine {parts.netloc}: a local URI has three slashes")
    return Path(unquote(parts.path))


def local_root(store: Store) -> Path:
    """The folder of a local store; UserError for another."""
    if isinstance(store, LocalStore):
        return store.root
    raise UserError(f"{store.place()} is no local folder, and this needs one: copy it first")


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Makes read-judge-write one step among the processes that share this file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
