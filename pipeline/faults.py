"""What went wrong in a run, as small files that all workers of a stage share.

Marks say which records are in work, so that a worker that died can be blamed on one of them. Faults
tell a bad record from a broken stage.
"""

import errno
import json
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from corpus.errors import UserError
from corpus.files import write_text

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


class RunError(Exception):
    """The run cannot go on, and no input is to blame; its text says what to do."""


def systemic(error: Exception) -> bool:
    """Whether an exception says something about the machine or the stage, not about a record."""
    from stages.captioning.backend import BindingError  # only needed once something went wrong

    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return isinstance(error, RunError | BindingError | ImportError | MemoryError)


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
        known = isinstance(error, UserError | RunError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        note = {"user": isinstance(error, UserError), "text": text}
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


class Faults:
    """Exceptions of one stage in one run.

    While no record of the stage has ever worked, the third that raises at the same place stops
    the run: a missing model or a bug must not quarantine the world. The records that were
    quarantined for it until then are set free again.
    """

    SAME = 3

    def __init__(self, notes: Path, stage: str) -> None:
        self._folder = notes / "faults"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._worked = notes / "worked"
        self._stage = stage

    def worked(self) -> None:
        """A record of this stage was answered."""
        if not self._worked.exists():
            self._worked.touch()

    def raised(self, key: str, error: Exception, part: Path) -> None:
        """Note that a record raised and will be quarantined in ``part``.

        Raises:
            RunError: it is the third that raised this and nothing ever worked.
        """
        what, where = f"{type(error).__name__}: {error}", _place(error)
        trace = "".join(traceback.format_exception(error))
        note = {"what": what, "where": where, "part": str(part), "traceback": trace}
        write_text(self._folder / key, json.dumps(note, indent=1))
        if self._worked.exists():
            return
        noted = [json.loads(path.read_text()) for path in self._folder.iterdir() if _whole(path)]
        same = [note for note in noted if note["where"] == where]
        if len(same) < self.SAME:
            return
        for note in same:
            Path(note["part"]).unlink(missing_ok=True)
        raise RunError(
            f"stage {self._stage} raised the same for each of its first {len(same)} records: "
            f"{what}\nNo record is blamed for it; mend the cause and run again."
        ) from error


def _place(error: Exception) -> str:
    """Type and line: messages name the record, so they differ where the fault is the same."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {frame.filename}:{frame.lineno}"


def _whole(path: Path) -> bool:
    return not path.name.startswith(".")
