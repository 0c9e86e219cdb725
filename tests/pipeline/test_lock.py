import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import UserError
from pipeline import lock as locks
from pipeline.lock import Lock

HOLD = """
import sys, time
from pathlib import Path
from pipeline.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def rewrite(corpus: Path, **changed: Any) -> None:
    path = corpus / locks.NAME
    with locks._guard(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_a_corpus_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with Lock(tmp_path):
            assert (tmp_path / locks.NAME).exists()
    assert not (tmp_path / locks.NAME).exists()


def test_the_second_run_is_refused(tmp_path: Path) -> None:
    with Lock(tmp_path), pytest.raises(UserError, match=r"another run holds .*process \d+ on"):
        Lock(tmp_path).__enter__()
    assert not (tmp_path / locks.NAME).exists()


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


def test_a_reused_pid_is_not_the_owner(tmp_path: Path) -> None:
    with Lock(tmp_path):
        rewrite(tmp_path, started="12345")
        with Lock(tmp_path):
            pass


@pytest.mark.parametrize(("age", "refused"), [(30.0, True), (90.0, False)])
def test_another_host_is_judged_by_its_heartbeat(tmp_path: Path, age: float, refused: bool) -> None:
    with Lock(tmp_path):
        rewrite(tmp_path, host="elsewhere", heartbeat=time.time() - age)
        if refused:
            with pytest.raises(UserError, match="elsewhere"):
                Lock(tmp_path).__enter__()
        else:
            with Lock(tmp_path):
                pass


def test_an_owner_notices_that_it_lost_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    with Lock(tmp_path) as lock:
        time.sleep(0.05)
        assert not lock.lost.is_set()
        rewrite(tmp_path, heartbeat=0, **{"token": "another"})
        assert lock.lost.wait(5)
    assert (tmp_path / locks.NAME).exists(), "the new owner keeps it"


def test_a_file_that_is_no_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / locks.NAME).write_text("nonsense")
    with pytest.raises(UserError, match="no lock of ours"):
        Lock(tmp_path).__enter__()
