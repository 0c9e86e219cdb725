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
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from corpus.errors import UserError
from corpus.store import Folder, Store, store_at

PUT_OFF, FAULTS, BROKEN, WORKED, FATAL = "put_off", "faults", "broken", "worked", "fatal.json"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


class RunError(Exception):
    """The run cannot go on, and no input is to blame; its text says what to do."""


def systemic(error: Exception) -> bool:
    """Whether an exception says that no record can be worked on: the disk is full, the stage is
    broken, a caption backend refuses."""
    # only needed once something went wrong
    from stages.captioning.backend import BindingError, Unusable

    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return isinstance(error, RunError | BindingError | Unusable | ImportError)


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


def tidy(notes: Folder) -> None:
    """After a run that came to its end: notes are kept only where records were quarantined."""
    store = store_at(notes)
    if not _below(store, FAULTS):
        store.clear()


@contextmanager
def fatal(notes: Folder) -> Iterator[None]:
    """Leave a note of an exception that ends the run: Ray wraps it in pages of its own."""
    try:
        yield
    except Exception as error:
        note = {"user": isinstance(error, UserError), "text": told(error)}
        store_at(notes).write_text(FATAL, json.dumps(note))
        raise


def read_fatal(notes: Folder) -> UserError | RunError | None:
    """What `fatal` noted in a stage's folder below ``notes``, if anything."""
    store = store_at(notes)
    for name in (each for each in store.names() if each.endswith(f"/{FATAL}")):
        note = json.loads(store.read_text(name))
        return (UserError if note["user"] else RunError)(note["text"])
    return None


class Marks:
    """Attempts per key: one file per attempt, gone when the attempt ended without a death."""

    ALLOWED = 2

    def __init__(self, notes: Folder) -> None:
        self._store = store_at(notes).at("attempts")

    def attempts(self, *keys: str) -> int:
        """How often workers died, or are at work, with these keys."""
        return len(self._left(keys))

    def forget(self, key: str) -> None:
        self._store.remove(*self._left([key]))

    @contextmanager
    def working(self, keys: Sequence[str]) -> Iterator[None]:
        """Marks that stay only if this process dies; an exception is no death."""
        before = self._left(keys)
        died = Counter(name.partition(".")[0] for name in before)
        marks = [f"{key}.{died[key] + 1}" for key in keys]
        self._store.touch(*marks)
        try:
            yield
        finally:
            self._store.remove(*before, *marks)

    def _left(self, keys: Collection[str]) -> list[str]:
        """Marks of these keys: one listing, since there are few, where questions are dear."""
        return [name for name in self._store.names() if name.partition(".")[0] in keys]


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

    def note(self, notes: Folder) -> None:
        """Leave it in the folder of its stage for the driver."""
        store_at(notes).write_text(f"{PUT_OFF}/{self.key}", json.dumps(asdict(self)))


def read_put_off(notes: Folder) -> list[PutOff]:
    """What was put off in any stage below ``notes``, in order of stage and item."""
    store = store_at(notes)
    found = [PutOff(**json.loads(store.read_text(name))) for name in _below(store, PUT_OFF)]
    return sorted(found, key=lambda one: (one.stage, one.item))


class Faults:
    """Exceptions of one stage in one run.

    While no record of the stage has ever worked, the third that raises at the same place stops
    the run: a missing model or a bug must not quarantine the world. The driver then frees the
    records that were quarantined for it (`blameless`), once no worker can write any more.
    """

    SAME = 3

    def __init__(self, notes: Folder, stage: str) -> None:
        self._store = store_at(notes)
        self._stage = stage
        self._known_to_work = False

    def worked(self) -> None:
        """A record of this stage was answered."""
        if not self._works():
            self._store.touch(WORKED)
            self._known_to_work = True

    def raised(self, key: str, error: Exception) -> None:
        """Note that a record raised, before it is quarantined.

        Raises:
            RunError: it is the third that raised this and nothing ever worked.
        """
        what, where = f"{type(error).__name__}: {error}", _place(error)
        trace = "".join(traceback.format_exception(error))
        note = {"what": what, "where": where, "traceback": trace}
        self._store.write_text(f"{FAULTS}/{key}", json.dumps(note, indent=1))
        if self._works():
            return
        same = _raised_at(self._store, where)
        if len(same) < self.SAME:
            return
        self._store.write_text(BROKEN, where)
        raise RunError(
            f"stage {self._stage} raised the same for each of its first {len(same)} records: "
            f"{what}\nNo record is blamed for it; mend the cause and run again."
        ) from error

    def _works(self) -> bool:
        """Asked for every batch, so the disk is asked only until it says yes."""
        self._known_to_work = self._known_to_work or self._store.has(WORKED)
        return self._known_to_work


def blameless(notes: Folder) -> dict[str, set[str]]:
    """Keys by stage that raised what stopped the run: they must not stay quarantined for it."""
    store = store_at(notes)
    stages = [name.split("/")[0] for name in store.names() if name.endswith(f"/{BROKEN}")]
    return {
        stage: _raised_at(store.at(stage), store.read_text(f"{stage}/{BROKEN}")) for stage in stages
    }


def _raised_at(stage: Store, where: str) -> set[str]:
    """Keys of the faults in the folder of a stage that were raised at one place."""
    noted = {name: json.loads(stage.read_text(name)) for name in stage.names(f"{FAULTS}/")}
    return {
        name.removeprefix(f"{FAULTS}/") for name, note in noted.items() if note["where"] == where
    }


def _place(error: Exception) -> str:
    """Type and line: messages name the record, so they differ where the fault is the same."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {frame.filename}:{frame.lineno}"


def _below(notes: Store, folder: str) -> list[str]:
    """Files in this folder of any stage."""
    return [name for name in notes.names() if f"/{folder}/" in name]
