"""What went wrong in a run, as small files that all workers of a stage share.

Three kinds of exception are told apart. What is `systemic` stops the run at once. What is `passing`
says something about a path, the machine or its resources: the record is put off, which means that
nothing is stored of it and the next run takes it up. Anything else is the record's own fault, and
is stored.

Marks say which records are in work, so that a worker that died can be blamed on one of them. Faults
tell a bad record from a broken stage. `PutOff` says which records wait for a better day.
"""

import errno
import json
import shutil
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from corpus.errors import UserError
from corpus.files import write_text

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


class RunError(Exception):
    """The run cannot go on, and no input is to blame; its text says what to do."""


def systemic(error: Exception) -> bool:
    """Whether an exception says that no record can be worked on: the disk is full, the stage is
    broken."""
    from stages.captioning.backend import BindingError  # only needed once something went wrong

    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return isinstance(error, RunError | BindingError | ImportError)


def passing(error: Exception) -> bool:
    """Whether an exception need not come again with the same bytes: a mount is away, memory is
    short, a file was replaced.

    What is too large for every machine counts as passing, too: nothing tells it from bad luck.
    """
    no_memory = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)  # torch's
    return no_memory or isinstance(error, OSError | MemoryError | UserError)


def told(error: Exception) -> str:
    """An exception for a person: what is meant for one says enough by itself."""
    known = isinstance(error, UserError | RunError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def tidy(notes: Path) -> None:
    """After a run that came to its end: notes are kept only where records were quarantined."""
    if not any(notes.glob("*/faults/*")):
        shutil.rmtree(notes, ignore_errors=True)


@contextmanager
def fatal(notes: Path) -> Iterator[None]:
    """Leave a note of an exception that ends the run: Ray wraps it in pages of its own."""
    try:
        yield
    except Exception as error:
        note = {"user": isinstance(error, UserError), "text": told(error)}
        write_text(notes / "fatal.json", json.dumps(note))
        raise


def read_fatal(notes: Path) -> UserError | RunError | None:
    """What `fatal` noted in a stage's folder below ``notes``, if anything."""
    for path in sorted(notes.glob("*/fatal.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        return (UserError if note["user"] else RunError)(note["text"])
    return None


class Marks:
    """Attempts per key: one byte per attempt, gone when the attempt ended without a death."""

    ALLOWED = 2

    def __init__(self, notes: Path) -> None:
        self._folder = notes / "attempts"
        self._folder.mkdir(parents=True, exist_ok=True)

    def attempts(self, key: str) -> int:
        """How often a worker died, or is at work, with this key."""
        try:
            return (self._folder / key).stat().st_size
        except FileNotFoundError:
            return 0

    def forget(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    @contextmanager
    def working(self, keys: Sequence[str]) -> Iterator[None]:
        """Marks that stay only if this process dies; an exception is no death."""
        for key in keys:
            with (self._folder / key).open("a") as file:
                file.write("x")
        try:
            yield
        finally:
            for key in keys:
                self.forget(key)


@dataclass(frozen=True)
class PutOff:
    """A record that could not be worked on in this run, by no fault of its own.

    Attributes:
        stage, key: name of the stage, and of the unit of work.
        item: the uri or the clip's id, for a person.
        why: what was raised last.
    """

    stage: str
    key: str
    item: str
    why: str

    def note(self, notes: Path) -> None:
        """Leave it in the folder of its stage for the driver."""
        write_text(notes / "put_off" / self.key, json.dumps(asdict(self)))


def read_put_off(notes: Path) -> list[PutOff]:
    """What was put off in any stage below ``notes``, in order of stage and item."""
    found = [PutOff(**json.loads(path.read_text())) for path in _whole(notes.glob("*/put_off/*"))]
    return sorted(found, key=lambda one: (one.stage, one.item))


class Faults:
    """Exceptions of one stage in one run.

    While no record of the stage has ever worked, the third that raises at the same place stops
    the run: a missing model or a bug must not quarantine the world. The driver then frees the
    records that were quarantined for it (`blameless`), once no worker can write any more.
    """

    SAME = 3

    def __init__(self, notes: Path, stage: str) -> None:
        self._folder = notes / "faults"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._worked = notes / "worked"
        self._broken = notes / "broken"
        self._stage = stage

    def worked(self) -> None:
        """A record of this stage was answered."""
        if not self._worked.exists():
            self._worked.touch()

    def raised(self, key: str, error: Exception) -> None:
        """Note that a record raised, before it is quarantined.

        Raises:
            RunError: it is the third that raised this and nothing ever worked.
        """
        what, where = f"{type(error).__name__}: {error}", _place(error)
        trace = "".join(traceback.format_exception(error))
        note = {"what": what, "where": where, "traceback": trace}
        write_text(self._folder / key, json.dumps(note, indent=1))
        if self._worked.exists():
            return
        same = _raised_at(self._folder, where)
        if len(same) < self.SAME:
            return
        write_text(self._broken, where)
        raise RunError(
            f"stage {self._stage} raised the same for each of its first {len(same)} records: "
            f"{what}\nNo record is blamed for it; mend the cause and run again."
        ) from error


def blameless(notes: Path) -> dict[str, set[str]]:
    """Keys by stage that raised what stopped the run: they must not stay quarantined for it."""
    return {
        path.parent.name: _raised_at(path.parent / "faults", path.read_text())
        for path in notes.glob("*/broken")
    }


def _raised_at(faults: Path, where: str) -> set[str]:
    noted = {path.name: json.loads(path.read_text()) for path in _whole(faults.iterdir())}
    return {key for key, note in noted.items() if note["where"] == where}


def _place(error: Exception) -> str:
    """Type and line: messages name the record, so they differ where the fault is the same."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {frame.filename}:{frame.lineno}"


def _whole(paths: Iterable[Path]) -> list[Path]:
    """Without files that are just being written."""
    return [path for path in paths if not path.name.startswith(".")]
