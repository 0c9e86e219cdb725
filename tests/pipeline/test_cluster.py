"""A Ray of our own: it starts whole or not at all, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster.connect import _temporary
from pipeline.cluster.signals import interrupts_later, terminations_interrupt

# An interrupt in the middle of what Ray builds natively: the place that used to crash.
INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from ray._private.gc_collect_manager import PythonGCThread
from pipeline.cluster.connect import connected

build = PythonGCThread.__init__

def interrupted(self, **given):
    os.kill(os.getpid(), signal.SIGINT)
    build(self, **given)

PythonGCThread.__init__ = interrupted
try:
    with connected([], Path(sys.argv[1]), verbose=False):
        print("it goes on", flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts_later():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_termination_is_an_interrupt_and_waits_as_one() -> None:
    before = signal.getsignal(signal.SIGTERM)
    reached = False
    with pytest.raises(KeyboardInterrupt), terminations_interrupt():
        with interrupts_later():
            signal.raise_signal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray puts its own while it starts
            reached = True
        raise AssertionError("it was lost")
    assert reached
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_start_that_is_interrupted_ends_whole_and_leaves_nothing(
    short: Path, tmp_path: Path
) -> None:
    named = {key: value for key, value in os.environ.items() if key != "RAY_TMPDIR"}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "ray.log")],
        env={**named, "TMPDIR": str(short)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 130, done.stderr
    assert "it goes on" not in done.stdout
    assert list(short.iterdir()) == []
    end = time.monotonic() + 20
    while (left := processes_of(short)) and time.monotonic() < end:
        time.sleep(0.5)
    assert left == []


def test_what_a_killed_driver_left_is_cleared_and_what_a_living_one_has_stays(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    left = short / "tv2tv-run-left"
    (left / "session").mkdir(parents=True)
    with _temporary() as mine:
        assert mine is not None and left.exists(), "its maker may be about to hold it"
        for folder in (left, Path(mine)):
            os.utime(folder, (1, 1))
        with _temporary():
            assert Path(mine).exists() and not left.exists()
    assert list(short.iterdir()) == []


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder: all of Ray's do, with its sockets."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if str(folder) in line:
            found.append(line)
    return found
