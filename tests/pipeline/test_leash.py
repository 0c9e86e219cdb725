"""Workers end with their run, and the next run waits for those that are left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corpus.errors import UserError
from corpus.store import LocalStore
from pipeline.faults import RunError
from pipeline.ledger import leash as leashes
from pipeline.ledger.leash import Leash, wait_for_workers
from pipeline.ledger.lock import Lock
from pipeline.ledger.owner import NAME

# A run that is killed leaves a worker with nobody above it: here that worker is just a process.
DRIVER = """
import os, sys, time
from pathlib import Path
from pipeline.ledger import leash
from pipeline.ledger.lock import Lock

def worker(tie):
    leash.LOOK_SECONDS = 0.05
    tie.tie()
    print("tied", flush=True)
    time.sleep(60)

with Lock(Path(sys.argv[1])) as lock:
    if os.fork() == 0:
        worker(lock.leash)
    time.sleep(60)
"""


@contextmanager
def run_with_a_worker(corpus: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", DRIVER, str(corpus)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "tied\n"
        yield driver
        driver.kill()


def leash(corpus: Path) -> Leash:
    with Lock(corpus) as lock:
        return lock.leash


def left(corpus: Path) -> bool:
    """Whether a worker has not left."""
    try:
        wait_for_workers(LocalStore(corpus), lambda text: None)
    except UserError:
        return True
    return False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leashes, "LEAVE_SECONDS", 0.5)


def test_a_worker_ends_with_its_driver_and_the_next_run_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_with_a_worker(tmp_path) as driver:
        assert left(tmp_path), "its run goes on"
        monkeypatch.setattr(leashes, "LEAVE_SECONDS", 30.0)
        driver.kill()
        driver.wait()
        with Lock(tmp_path):
            monkeypatch.setattr(leashes, "LEAVE_SECONDS", 0.0)
            assert not left(tmp_path)


def test_a_worker_ends_when_another_run_took_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_with_a_worker(tmp_path):
        (tmp_path / NAME).unlink()
        monkeypatch.setattr(leashes, "LEAVE_SECONDS", 30.0)
        assert not left(tmp_path)


def test_a_worker_that_cannot_leave_is_named_and_the_corpus_is_free_again(tmp_path: Path) -> None:
    with run_with_a_worker(tmp_path) as driver:
        (worker,) = children(driver.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            driver.kill()
            driver.wait()
            with pytest.raises(UserError, match=rf"still at work on .*\(processes {worker}\)"):
                Lock(tmp_path).__enter__()
            assert not (tmp_path / NAME).exists()
        finally:
            os.kill(worker, signal.SIGKILL)


def test_who_comes_after_the_end_of_its_run_does_nothing(tmp_path: Path) -> None:
    late = leash(tmp_path)
    with pytest.raises(RunError, match="this worker leaves"):
        late.tie()
    with Lock(tmp_path), pytest.raises(RunError, match="this worker leaves"):
        late.tie()


def test_a_process_of_that_number_in_another_container_says_nothing(tmp_path: Path) -> None:
    with Lock(tmp_path) as lock:
        owner = {**lock.leash.owner, "space": "pid:[1]", "pid": 999_999_999}
        assert not Leash(LocalStore(tmp_path), owner)._over(read=True)
        owner["space"] = lock.leash.owner["space"]
        assert Leash(LocalStore(tmp_path), owner)._over(read=False)


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found
