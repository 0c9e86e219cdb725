"""Workers end with the run that they work for, however that ends.

A driver that is killed takes its local Ray along, and a cluster ends the workers of a lost driver;
but both take their time, and neither promises it. So every worker looks by itself whether its run
still holds the corpus, and the next run waits for workers that are left before it begins: else
they would write into its tables, and hold the memory that its own workers need.

How a run knows that workers are left: each has a shared `flock` on one file of the corpus, which
the kernel takes back when the process ends. On an object store there are no such locks; workers
look there as well, and what a late one writes is what the next run would write.
"""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.store import LocalStore, Store
from pipeline.faults import RunError
from pipeline.ledger.owner import Owner, gone, read_owner

WORKERS = ".workers.guard"
LOOK_SECONDS = 1.0  # between looks at the driver's process
LOOKS_PER_READ = 10  # of a lock that is far away
LEAVE_SECONDS = 60.0  # that a run waits for workers of an earlier one


@dataclass(frozen=True)
class Leash:
    """What ties a worker to the run that holds a corpus.

    Attributes:
        owner: the run, as its lock names it.
    """

    store: Store
    owner: Owner

    def tie(self) -> None:
        """End this process as soon as the run is over; once per worker.

        Raises:
            RunError: it is over.
        """
        handle = _share(self.store)  # before the look: a run that begins now sees one or the other
        if self._over(read=True):
            if handle is not None:
                os.close(handle)
            raise RunError(f"another run holds {self.store.place()}, or none: this worker leaves")
        threading.Thread(target=self._watch, name="leash", daemon=True).start()

    def _watch(self) -> None:
        looks, every = 0, 1 if isinstance(self.store, LocalStore) else LOOKS_PER_READ
        while not self._over(read=looks % every == 0):
            time.sleep(LOOK_SECONDS)
            looks += 1
        os.kill(os.getpid(), signal.SIGKILL)  # in the middle of whatever it does

    def _over(self, *, read: bool) -> bool:
        if gone(self.owner):
            return True
        if not read:
            return False
        try:
            held, _ = read_owner(self.store)
        except (OSError, UserError):
            return False  # a disk that refuses may be well again in a moment
        return held is None or held["token"] != self.owner["token"]


def wait_for_workers(store: Store, say: Callable[[str], None]) -> None:
    """Wait for the workers of earlier runs to leave a corpus.

    Raises:
        UserError: they do not; names their processes.
    """
    if not isinstance(store, LocalStore):
        return
    path = store.root / WORKERS
    end, told = time.monotonic() + LEAVE_SECONDS, False
    with path.open("a") as file:
        while not _locked(file):
            if time.monotonic() > end:
                raise UserError(
                    f"workers of a run that ended are still at work on {store.place()}"
                    f"{_named(path)}: end them and run again"
                )
            if not told:
                say("waiting for workers of a run that ended to leave")
                told = True
            time.sleep(LOOK_SECONDS / 10)


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _share(store: Store) -> int | None:
    """Hold the file of all workers, until its handle is closed or this process ends."""
    if not isinstance(store, LocalStore):
        return None
    handle = os.open(store.root / WORKERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def _named(path: Path) -> str:
    """Processes of this machine that hold a file, as Linux tells them; "" where it does not."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        inode = str(path.stat().st_ino)
    except OSError:
        return ""
    fields = [line.replace("->", "").split() for line in lines]
    found = sorted({f[4] for f in fields if f[1] == "FLOCK" and f[5].rpartition(":")[2] == inode})
    return f" (processes {', '.join(found)})" if found else ""
