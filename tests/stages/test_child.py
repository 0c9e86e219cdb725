"""Children end, one way or another, and their parent knows how."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from stages.reading.child import STDERR_KEPT, Child, ChildTrouble, Limits, Trouble, run, twice

LIMITS = Limits(seconds=20, memory=4 << 30)
QUICK = Limits(seconds=0.3, memory=4 << 30)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def gone(pid: int) -> bool:
    """Whether a process has ended (or is a zombie of someone else's)."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_output_and_exit_code() -> None:
    ended, out = run(python("import sys; print('here'); sys.exit(3)"), LIMITS)
    assert (ended.how, ended.code, ended.trouble, out) == ("exited", 3, None, b"here\n")


def test_a_disk_that_fails_is_trouble_though_the_child_ends_well() -> None:
    code = "import os, sys; sys.stderr.write('Error during demuxing: ' + os.strerror({}))"
    for number in (errno.EIO, errno.ESTALE, errno.ENOTCONN):
        ended, _ = run(python(code.format(number)), LIMITS)
        assert (ended.how, ended.code, ended.trouble) == ("exited", 0, "crash")
    ended, _ = run(python(code.format(errno.EINVAL)), LIMITS)
    assert ended.trouble is None


def test_want_of_memory_is_trouble_though_the_child_goes_on() -> None:
    code = "import os, sys; sys.stderr.write('[dec] ' + os.strerror(12)); print('fewer pictures')"
    ended, _ = run(python(code), LIMITS)
    assert (ended.how, ended.code, ended.trouble) == ("exited", 0, "memory")


def test_arguments_are_never_a_shell_line(tmp_path: Path) -> None:
    name = f"$(touch {tmp_path}/bad); -x\n'"
    _, out = run([*python("import sys; sys.stdout.write(sys.argv[1])"), name], LIMITS)
    assert out.decode() == name and not list(tmp_path.iterdir())


def test_a_crash_names_its_signal() -> None:
    ended, _ = run(python("import os; os.kill(os.getpid(), 11)"), LIMITS)
    assert (ended.how, ended.code, ended.trouble) == ("crashed", signal.SIGSEGV, "crash")
    assert "SIGSEGV" in ended.describe()


def test_what_a_child_said_is_told_without_places_in_memory() -> None:
    ended, _ = run(
        python("import sys; sys.exit('[out#0 @ 0x55924e1cc080] nothing written')"), LIMITS
    )
    assert ended.describe() == "exit code 1: [out#0] nothing written"


def test_a_hang_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid))\n"
        "time.sleep(600)"
    )
    ended, _ = run(python(code), Limits(seconds=1.5, memory=4 << 30))
    assert (ended.how, ended.trouble) == ("timeout", "timeout")
    assert gone(int(note.read_text()))


def test_a_stray_grandchild_does_not_outlive_a_child_that_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib\n"
        "n = subprocess.DEVNULL\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdin=n, stdout=n, stderr=n)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid))"
    )
    ended, _ = run(python(code), LIMITS)
    assert ended.how == "exited"
    assert gone(int(note.read_text()))


def test_a_child_that_closes_its_output_and_stays_is_killed() -> None:
    ended, _ = run(python("import os, time; os.close(1); os.close(2); time.sleep(600)"), QUICK)
    assert ended.trouble == "timeout"


def test_spinning_without_output_is_killed() -> None:
    ended, _ = run(python("while True: pass"), QUICK)
    assert ended.trouble == "timeout"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need prlimit")
def test_memory_is_limited() -> None:
    code = "import time; time.sleep(0.2); x = bytearray(3 << 30)"
    ended, _ = run(python(code), Limits(seconds=20, memory=1 << 30))
    assert ended.trouble == "memory"


def test_endless_output_is_refused() -> None:
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with pytest.raises(ChildTrouble) as caught:
        run(python(code), LIMITS, most=1 << 20)
    assert caught.value.reason == "memory"


def test_long_complaints_are_cut_in_the_middle_and_counted() -> None:
    code = (
        "import sys\nsys.stderr.write('first\\n')\n"
        "for i in range(20000): sys.stderr.write('some damage\\n')\n"
        "sys.stderr.write('last')"
    )
    heard: list[bytes] = []
    with Child(python(code), LIMITS, lambda line: bool(heard.append(line))) as child:
        ended = child.finish()
    assert heard == [b"first\n", *[b"some damage\n"] * 20000, b"last"]
    assert ended.stderr.startswith("first") and ended.stderr.endswith("last")
    assert len(ended.stderr) <= 2 * STDERR_KEPT + 16


def test_what_the_listener_takes_is_not_kept() -> None:
    code = (
        "import sys, time\n"
        "for text in ('ta', 'ken\\nke', 'pt\\n', 'x' * 100000, 'taken\\n', 'end'):\n"
        "    sys.stderr.write(text); sys.stderr.flush(); time.sleep(0.05)"
    )
    with Child(python(code), LIMITS, lambda line: line == b"taken\n") as child:
        ended = child.finish()
    assert ended.stderr.startswith("kept\nxxx") and ended.stderr.endswith("end")
    assert "taken" not in ended.stderr


def test_pictures_are_read_whole_and_the_end_is_seen() -> None:
    code = "import sys, time\nfor b in b'abcdefgh': sys.stdout.buffer.write(bytes([b]) * 50000)"
    with Child(python(code), LIMITS) as child:
        got = []
        buffer = bytearray(100_000)
        while (size := child.read_into(memoryview(buffer))) == len(buffer):
            got.append((buffer[0], buffer[-1]))
        ended = child.finish()
    assert got == [(ord(a), ord(b)) for a, b in ("ab", "cd", "ef", "gh")]
    assert size == 0 and ended.code == 0


def test_what_gives_no_output_is_killed_whatever_it_complains() -> None:
    code = (
        "import sys, time\nprint('one', flush=True)\n"
        "while True: sys.stderr.write('damage\\n'); sys.stderr.flush(); time.sleep(0.01)"
    )
    ended, out = run(python(code), Limits(seconds=600, memory=4 << 30, stall=0.5))
    assert (ended.trouble, out) == ("timeout", b"one\n")


def test_listening_to_endless_complaints_is_waiting() -> None:
    heard = 0

    def listen(line: bytes) -> bool:
        nonlocal heard
        heard += 1
        assert heard < 1_000, "it is listened to for ever"
        time.sleep(0.01)
        return True

    code = "import os\nwhile True: os.write(2, b'damage ' * 500 + b'\\n')"
    with Child(python(code), Limits(seconds=600, memory=4 << 30, stall=0.5), listen) as child:
        assert child.finish().trouble == "timeout"


def test_slow_output_is_no_stall() -> None:
    code = "import time\nfor n in range(8): print(n, flush=True); time.sleep(0.3)"
    ended, out = run(python(code), Limits(seconds=600, memory=4 << 30, stall=1.5))
    assert ended.how == "exited" and len(out.split()) == 8


def test_our_own_time_between_reads_does_not_count() -> None:
    code = "import sys\nfor _ in range(4): sys.stdout.buffer.write(b'x' * 100000)"
    with Child(python(code), Limits(seconds=1.0, memory=4 << 30)) as child:
        buffer = bytearray(100_000)
        for _ in range(4):
            assert child.read_into(memoryview(buffer)) == len(buffer)
            time.sleep(0.4)
        assert child.finish().how == "exited"


def test_leaving_early_kills_the_child() -> None:
    with Child(python("import time; print('x', flush=True); time.sleep(600)"), LIMITS) as child:
        pid = child._process.pid
        assert next(child.chunks()) == b"x\n"
    assert gone(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need prlimit")
def test_children_live_under_a_limit_that_was_handed_down_to_us() -> None:
    """`ulimit -t 30`: it may not be raised again, not even where we would give more time."""
    root = Path(__file__).resolve().parents[2]
    code = (
        f"import resource, sys; sys.path.append({str(root)!r})\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (30, 30))\n"
        "from stages.reading.child import Limits, run\n"
        "tell = 'import time, resource as r; time.sleep(0.5); print(r.getrlimit(r.RLIMIT_CPU))'\n"
        "print(run([sys.executable, '-c', tell], Limits(40, 4 << 30))[1].decode())"
    )
    ended, out = run(python(code), Limits(seconds=60, memory=8 << 30))
    assert (ended.code, out.split()) == (0, [b"(30,", b"30)"]), ended.stderr


def test_nothing_is_left_of_a_child_that_cannot_be_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def refuse(pid: int, limits: Limits) -> None:
        started.append(pid)
        raise PermissionError("not allowed to raise maximum limit")

    monkeypatch.setattr("stages.reading.child._limit", refuse)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(PermissionError):
        Child(python("import time; time.sleep(600)"), LIMITS)
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(started[0], 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


@pytest.mark.parametrize(("reason", "second"), [("timeout", 0.5), ("crash", 1.0), ("memory", 1.0)])
def test_trouble_comes_twice_but_a_hang_is_waited_for_less(reason: Trouble, second: float) -> None:
    shares = []

    def attempt(share: float) -> None:
        shares.append(share)
        raise ChildTrouble(reason, "nothing came")

    with pytest.raises(ChildTrouble):
        twice(attempt)
    assert shares == [1.0, second]
    assert Limits(8.0, 1 << 30, stall=4.0).part(second) == Limits(
        8.0 * second, 1 << 30, stall=4.0 * second
    )


def test_trouble_is_tried_twice_and_no_more() -> None:
    calls: list[float] = []

    def attempt(share: float) -> int:
        calls.append(share)
        if len(calls) < bound:
            raise ChildTrouble("crash", "bang")
        return len(calls)

    bound = 2
    assert twice(attempt) == 2
    calls.clear()
    bound = 3
    with pytest.raises(ChildTrouble):
        twice(attempt)
    assert len(calls) == 2
