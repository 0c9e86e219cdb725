"""One run per corpus: a lock file with a heartbeat, taken over when its owner is gone.

On the same host an owner is gone when its process is (the process start time tells a reused pid
from the owner), and only its workers have to be waited for (`leash`); on another host, when its
lock stands still for `STALE_SECONDS` of our own time, since the clocks of two hosts need not agree.
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from corpus.errors import UserError
from corpus.store import Folder, store_at
from pipeline.faults import RunError
from pipeline.ledger.leash import Leash, wait_for_workers
from pipeline.ledger.owner import NAME, Owner, gone, here, read_owner, this_process

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
WATCH_SECONDS = 1.0


class Lock:
    """``with Lock(corpus):`` holds the corpus; UserError when another run does.

    The lock can be lost: to another run, after this process was held up for `STALE_SECONDS`, or to
    a disk that refuses beats for nearly as long. The main thread is then interrupted wherever it
    is, and the block ends with a RunError. What replaces something that others read asks `check`
    right before.

    Args:
        say: gets a sentence when it takes time to tell whether another host's run is alive, or for
            workers to leave.
    """

    def __init__(self, corpus: Folder, say: Callable[[str], None] = lambda text: None) -> None:
        self._store = store_at(corpus)
        self._where = self._store.place()
        self._say = say
        self._owner = this_process()
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="corpus-lock", daemon=True)

    def __enter__(self) -> "Lock":
        silent = self._watched()
        while not self._mine():
            held, version = read_owner(self._store)
            if held is not None and held != silent and not gone(held):
                raise UserError(
                    f"another run holds {self._where}: process {held['pid']} on "
                    f"{held['host']}; wait for it or stop it "
                    "(the lock of a dead run is taken over by itself)"
                )
            self._swap(version)  # if another was quicker, the next look sees who
        self._hear_of_loss()
        self._thread.start()
        try:
            wait_for_workers(self._store, self._say)
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()
        if self._lost.is_set() and (error is None or isinstance(error, KeyboardInterrupt)):
            raise self._loss() from error

    @property
    def leash(self) -> Leash:
        """What ends workers with this lock."""
        return Leash(self._store, self._owner)

    def check(self) -> None:
        """RunError unless the lock is still ours, by what the disk says now."""
        if self._lost.is_set() or not self._mine():
            raise self._loss()

    def _hear_of_loss(self) -> None:
        """Where Ctrl-C is ignored, as in ``nohup tv2tv run ... &``, a loss still interrupts."""
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ):
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._lost.is_set():
            raise KeyboardInterrupt

    def _let_go(self) -> None:
        self._stop.set()
        self._thread.join()
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._mine():
            self._store.remove(NAME)

    def _loss(self) -> RunError:
        return RunError(
            f"the lock of {self._where} was lost: this process could not renew it for too "
            "long, and another run may work there now; run again when that has ended"
        )

    def _watched(self) -> Owner | None:
        """The lock of another host, if it stood still for as long as an owner may be silent."""
        first, _ = read_owner(self._store)
        if first is None or here(first):
            return None
        self._say(
            f"process {first['pid']} on {first['host']} holds {self._where}: "
            f"watching for up to {STALE_SECONDS:.0f} s whether it is alive"
        )
        begun = time.monotonic()
        while time.monotonic() - begun < STALE_SECONDS:
            time.sleep(WATCH_SECONDS)
            if read_owner(self._store)[0] != first:
                return None
        return first

    def _swap(self, version: str | None) -> None:
        """Write our name over what has this version, if it still does."""
        text = json.dumps({**self._owner, "heartbeat": time.time()}) + "\n"
        self._store.swap(NAME, text.encode(), version)

    def _mine(self) -> bool:
        held, _ = read_owner(self._store)
        return held is not None and held["token"] == self._owner["token"]

    def _beat(self) -> None:
        last = time.monotonic()
        patience = STALE_SECONDS - 2 * BEAT_SECONDS  # give up before another may take over
        while not self._stop.wait(BEAT_SECONDS):
            beaten = self._beaten()
            if beaten:
                last = time.monotonic()
            elif beaten is False or time.monotonic() - last > patience:
                self._lost.set()
                main = threading.main_thread().ident
                if main is not None and not self._stop.is_set():
                    signal.pthread_kill(main, signal.SIGINT)
                return

    def _beaten(self) -> bool | None:
        """One beat; False when the lock is another's, None when the disk refuses: that may pass."""
        try:
            held, version = read_owner(self._store)
            if held is None or held["token"] != self._owner["token"]:
                return False
            self._swap(version)
            return self._mine()
        except (OSError, UserError):
            return None
