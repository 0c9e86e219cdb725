import errno
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from corpus import store
from corpus.errors import UserError
from pipeline.faults import RunError
from pipeline.ledger import lock as locks
from pipeline.ledger.lock import Lock
from pipeline.ledger.owner import NAME

HOLD = """
import sys, time
from pathlib import Path
from pipeline.ledger.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def rewrite(corpus: Path, **changed: Any) -> None:
    path = corpus / NAME
    with store._guard(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_a_corpus_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with Lock(tmp_path):
            assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()


def test_the_second_run_is_refused(tmp_path: Path) -> None:
    with Lock(tmp_path), pytest.raises(UserError, match=r"another run holds .*process \d+ on"):
        Lock(tmp_path).__enter__()
    assert not (tmp_path / NAME).exists()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            Lock(tmp_path).__enter__()
        holder.kill()
        time.sleep(0.2)  # killed, but not waited for: a zombie holds nothing
        with Lock(tmp_path):
            pass


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    begin, refused, held = threading.Barrier(8), list[UserError](), list[Lock]()

    def come() -> None:
        begin.wait()
        try:
            held.append(Lock(tmp_path).__enter__())
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].check()
    held[0].__exit__(None, None, None)


def test_a_reused_pid_is_not_the_owner(tmp_path: Path) -> None:
    with Lock(tmp_path):
        rewrite(tmp_path, started="12345")
        with Lock(tmp_path):
            pass


class TestAnotherHost:
    """Its clock says nothing about ours: what counts is whether its lock changes while we look."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "STALE_SECONDS", 0.4)
        monkeypatch.setattr(locks, "WATCH_SECONDS", 0.02)

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Path:
        owner = {"token": "t", "host": "elsewhere", "pid": 1, "started": "1", "heartbeat": 0.0}
        (tmp_path / NAME).write_text(json.dumps(owner))
        return tmp_path

    def test_an_owner_whose_clock_is_an_hour_behind_is_alive(self, elsewhere: Path) -> None:
        def beat() -> None:
            for beats in range(100):
                if done.wait(0.1):
                    return
                rewrite(elsewhere, heartbeat=time.time() - 3600 + beats)

        done = threading.Event()
        thread = threading.Thread(target=beat)
        thread.start()
        try:
            with pytest.raises(UserError, match="process 1 on elsewhere"):
                Lock(elsewhere).__enter__()
        finally:
            done.set()
            thread.join()

    def test_an_owner_whose_clock_is_an_hour_ahead_can_be_dead(self, elsewhere: Path) -> None:
        rewrite(elsewhere, heartbeat=time.time() + 3600)
        said: list[str] = []
        with Lock(elsewhere, said.append) as lock:
            lock.check()
        assert len(said) == 1 and "process 1 on elsewhere" in said[0]

    def test_who_takes_it_meanwhile_has_it(
        self, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A third run may take the lock between our last look and our hand on it."""
        watched = Lock._watched

        def late(lock: Lock) -> Any:
            silent = watched(lock)
            rewrite(elsewhere, host="third")
            return silent

        monkeypatch.setattr(Lock, "_watched", late)
        with pytest.raises(UserError, match="on third"):
            Lock(elsewhere).__enter__()


class TestLoss:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "BEAT_SECONDS", 0.02)

    def test_it_interrupts_whatever_is_going_on(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        with pytest.raises(RunError, match="was lost"), Lock(tmp_path) as lock:
            lock.check()
            rewrite(tmp_path, **{"token": "another"})
            time.sleep(30)
        assert time.monotonic() - begun < 15
        assert (tmp_path / NAME).exists(), "the new owner keeps it"

    def test_a_disk_that_refuses_for_too_long_is_a_loss(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, data: bytes) -> None:
            raise OSError(errno.EIO, "refused")

        monkeypatch.setattr(locks, "STALE_SECONDS", 0.3)
        with pytest.raises(RunError, match="was lost"), Lock(tmp_path):
            monkeypatch.setattr(store.files, "write_bytes", refuse)
            time.sleep(30)

    def test_it_interrupts_what_ignores_the_keyboard(self, tmp_path: Path) -> None:
        """A job that a script starts in the background is told to ignore Ctrl-C."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            begun = time.monotonic()
            with pytest.raises(RunError, match="was lost"), Lock(tmp_path):
                signal.raise_signal(signal.SIGINT)
                rewrite(tmp_path, **{"token": "another"})
                time.sleep(30)
            assert time.monotonic() - begun < 15
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    def test_an_interrupt_by_the_user_stays_one(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), Lock(tmp_path):
            raise KeyboardInterrupt

    def test_the_disk_is_asked_before_anything_is_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "BEAT_SECONDS", 60)  # no beat will notice
        with Lock(tmp_path) as lock:
            rewrite(tmp_path, **{"token": "another"})
            with pytest.raises(RunError, match="was lost"):
                lock.check()


def test_a_file_that_is_no_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("nonsense")
    with pytest.raises(UserError, match="no lock of ours"):
        Lock(tmp_path).__enter__()
