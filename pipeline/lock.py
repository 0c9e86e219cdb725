"""One run per corpus: a lock file with a heartbeat, taken over when its owner is gone.

On the same host an owner is gone when its process is (the process start time tells a reused pid
from the owner); on another host, when its heartbeat is older than `STALE_SECONDS`.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from corpus.errors import UserError
from corpus.files import write_text

NAME = "lock.json"
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


class Lock:
    """``with Lock(corpus):`` holds the corpus; UserError when another run does.

    Attributes:
        lost: set when another run took the lock over, which happens only after this process could
            not beat for `STALE_SECONDS`; whoever holds a lost lock must stop writing.
    """

    def __init__(self, corpus: Path) -> None:
        self._path = corpus / NAME
        self._owner = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
        }
        self._stop = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="corpus-lock", daemon=True)

    def __enter__(self) -> "Lock":
        with _guard(self._path):
            held = _read(self._path)
            if held is not None and _alive(held):
                raise UserError(
                    f"another run holds {self._path.parent}: process {held['pid']} on "
                    f"{held['host']}; wait for it or stop it "
                    "(the lock of a dead run is taken over by itself)"
                )
            self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        with _guard(self._path):
            if self._mine():
                self._path.unlink()

    def _write(self) -> None:
        write_text(self._path, json.dumps({**self._owner, "heartbeat": time.time()}) + "\n")

    def _mine(self) -> bool:
        held = _read(self._path)
        return held is not None and held["token"] == self._owner["token"]

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(BEAT_SECONDS) and not self.lost.is_set():
            if self._beaten():
                last = time.monotonic()
            elif time.monotonic() - last > STALE_SECONDS:
                self.lost.set()

    def _beaten(self) -> bool:
        """One beat; False when the disk refuses, which may pass before the lock is stale."""
        try:
            with _guard(self._path):
                if self._mine():
                    self._write()
                else:
                    self.lost.set()
        except (OSError, UserError):
            return False
        return True


def _alive(held: dict[str, Any]) -> bool:
    if held["host"] == socket.gethostname():
        started = _started(held["pid"])
        return started is not None and started == held["started"]
    return time.time() - float(held["heartbeat"]) < STALE_SECONDS


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" where /proc is missing; None if it is gone
    (a zombie is: it was killed and only its parent has not noticed)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return "" if not Path("/proc/self/stat").exists() else None


def _read(path: Path) -> dict[str, Any] | None:
    """The owner as the lock names it; None without a lock. It is written atomically, so a lock
    that cannot be parsed was not written by us."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {name: held[name] for name in ("token", "host", "pid", "started", "heartbeat")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no lock of ours ({error!r}): delete it if no run is going on"
        ) from error


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Makes read-judge-write one step among the processes that share this file system."""
    with path.with_name(f".{NAME}.guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
