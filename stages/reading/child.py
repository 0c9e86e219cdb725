"""Run a command that reads untrusted bytes, so that it can neither hang, eat nor crash its parent.

Every child has its own session, so that killing it also kills what it started; a budget of seconds
that we are willing to wait for it; and, where the system has ``prlimit`` (Linux), hard limits on
CPU seconds and address space. How it ended is a value, never an exception.
"""

import contextlib
import errno
import fcntl
import math
import os
import re
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeVar

STDERR_KEPT = 8192  # bytes of the beginning and of the end; a broken film can complain for hours
_READ = 1 << 16
_PIPE = 1 << 20  # bytes that a child may be ahead of us: fewer turns between the two
_AFTER_A_HANG = 0.5  # of the patience of the first try
_GRACE = 5.0  # seconds for a child that closed its output to leave
_OUT_OF_MEMORY = ("Cannot allocate memory", "MemoryError", "bad_alloc")
_PLACE = re.compile(r" @ 0x[0-9a-f]+")  # in the names that ffmpeg gives its parts
# What a decoder says of a disk or a mount that fails; it then takes the film for a shorter one.
_UNREAD = tuple(map(os.strerror, (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)))

Trouble = Literal["timeout", "memory", "crash"]
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        seconds: time that we wait for it, in all; time we spend on its output does not count.
        memory: bytes of address space; threads and file maps count as well.
        stall: seconds that it may be without output, whatever it says on stderr.
    """

    seconds: float
    memory: int
    stall: float = math.inf

    def part(self, share: float) -> "Limits":
        """The same with a share of the patience."""
        return Limits(self.seconds * share, self.memory, self.stall * share)


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        how: ``exited`` by itself, ``crashed`` by a signal, or killed by us on ``timeout``.
        code: exit code, or the signal's number.
        stderr: what it said; the middle is cut out when it was long.
    """

    how: Literal["exited", "crashed", "timeout"]
    code: int
    stderr: str

    @property
    def trouble(self) -> Trouble | None:
        """What befell the child; None when it decided to end, well or not."""
        if self.how == "timeout" or (self.how == "crashed" and self.code == signal.SIGXCPU):
            return "timeout"
        if self.how == "crashed" and self.code == signal.SIGKILL:
            return "memory"  # not by us, and nobody else kills: the system was out of memory
        if any(sign in self.stderr for sign in _OUT_OF_MEMORY):
            return "memory"  # also where it went on: it then left out what it had no memory for
        unread = any(sign in self.stderr for sign in _UNREAD)
        return "crash" if unread or self.how == "crashed" else None

    def describe(self) -> str:
        """One line for a message; the same each time, so without places in memory."""
        name = signal.Signals(self.code).name if self.how == "crashed" else str(self.code)
        how = {"exited": f"exit code {name}", "crashed": f"died of {name}"}.get(self.how, "killed")
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return f"{how}: {_PLACE.sub('', lines[-1])[:300]}" if lines else how


class ChildTrouble(Exception):
    """A child crashed, ran out of time or out of memory."""

    def __init__(self, reason: Trouble, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Child:
    """A running child whose output is read piece by piece.

    ::

        with Child(command, limits) as child:
            while child.read_into(buffer): ...
            ended = child.finish()

    Args:
        listen: gets every line of stderr as it comes; `Ended.stderr` has those that it does not
            take, by answering True.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        listen: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._limits = limits
        self._listen = listen
        self._line = b""  # the beginning of one
        self._waited = 0.0
        self._silent = 0.0  # of that, since the last output
        self._timed_out = False
        self._head = bytearray()
        self._tail = bytearray()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: S101
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        self._selector = selectors.DefaultSelector()
        try:
            _limit(self._process.pid, limits)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with contextlib.suppress(OSError):  # many pipes, and none may be large any more
                    fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, _PIPE)
            for handle in (self._out, self._err):
                os.set_blocking(handle, False)
                self._selector.register(handle, selectors.EVENT_READ)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer from stdout; fewer bytes than asked only where the output ends."""
        filled = 0
        while filled < len(buffer) and self._open(self._out):
            if self._wait():
                with contextlib.suppress(BlockingIOError):
                    got = os.readv(self._out, [buffer[filled:]])
                    filled += got
                    if not got:
                        self._selector.unregister(self._out)
        return filled

    def chunks(self) -> Iterator[bytes]:
        """Stdout in pieces of any size."""
        while self._open(self._out):
            if self._wait():
                with contextlib.suppress(BlockingIOError):
                    chunk = os.read(self._out, _READ)
                    if chunk:
                        yield chunk
                    else:
                        self._selector.unregister(self._out)

    def finish(self) -> Ended:
        """Take what is left of both outputs and say how the child ended."""
        for _ in self.chunks():
            pass
        while self._open(self._err):
            self._wait()
        started = time.monotonic()
        while not self._timed_out and not self._left():
            if time.monotonic() - started > min(_GRACE, self._limits.seconds):
                self._timed_out = True
            time.sleep(0.001)
        self._kill()
        code = self._process.wait()
        stderr = bytes(self._head) + (b"\n[...]\n" if self._tail else b"") + bytes(self._tail)
        how: Literal["exited", "crashed", "timeout"] = "crashed" if code < 0 else "exited"
        return Ended(
            how="timeout" if self._timed_out else how,
            code=abs(code),
            stderr=stderr.decode(errors="replace"),
        )

    # -- inside -----------------------------------------------------------------------------

    def _open(self, handle: int) -> bool:
        return handle in self._selector.get_map()

    def _end(self) -> None:
        """Kill the child, wait for it, and close our ends of its pipes."""
        self._kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _wait(self) -> bool:
        """Wait for output; True when stdout has some. At the end of our patience: kill."""
        started = time.monotonic()
        ready = self._selector.select(max(0.0, self._patience()))
        handles = {key.fd for key, _ in ready}
        if self._err in handles:
            self._hear()
        waited = time.monotonic() - started  # listening is waiting: a child may babble for ever
        self._waited += waited
        if self._out in handles:
            self._silent = 0.0
            return True
        self._silent += waited
        if self._patience() <= 0:
            self._timed_out = True
            self._kill()
            for handle in list(self._selector.get_map()):
                self._selector.unregister(handle)
        return False

    def _patience(self) -> float:
        """Seconds that we go on waiting for output."""
        whole = self._limits.seconds - self._waited
        return min(whole, self._limits.stall - self._silent)

    def _hear(self) -> None:
        """Keep the beginning and the end of stderr."""
        said = os.read(self._err, _READ)
        if not said:
            self._selector.unregister(self._err)
        if self._listen is not None:
            lines = (self._line + said).splitlines(keepends=True)
            whole = not said or (bool(lines) and lines[-1].endswith(b"\n"))
            # What goes on without an end is no line of a decoder; it is not hoarded.
            self._line = b"" if whole or len(lines[-1]) > STDERR_KEPT else lines.pop()
            said = b"".join(line for line in lines if not self._listen(line))
        room = STDERR_KEPT - len(self._head)
        self._head += said[:room]
        self._tail = (self._tail + said[room:])[-STDERR_KEPT:]

    def _left(self) -> bool:
        """Whether the child has ended. It is not reaped yet: its group's number stays its own."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _kill(self) -> None:
        """Kill the child's whole group, as long as its number cannot belong to another."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def run(command: Sequence[str], limits: Limits, most: int = 1 << 24) -> tuple[Ended, bytes]:
    """Run a child to its end; returns how it ended and its stdout.

    Raises:
        ChildTrouble: it wrote more than ``most`` bytes.
    """
    with Child(command, limits) as child:
        output = bytearray()
        for chunk in child.chunks():
            output += chunk
            if len(output) > most:
                raise ChildTrouble("memory", f"{command[0]} wrote more than {most} bytes")
        return child.finish(), bytes(output)


def twice(attempt: Callable[[float], T]) -> T:
    """Try once more after any trouble: a film that fails twice is bad.

    Args:
        attempt: gets its share of the limits' patience (`Limits.part`): all of it, but less after
            a hang. What only waited for a disk that was away needs little the second time; what
            hangs, hangs again, and both tries together must stay under a minute.
    """
    try:
        return attempt(1.0)
    except ChildTrouble as error:
        return attempt(_AFTER_A_HANG if error.reason == "timeout" else 1.0)


def _limit(pid: int, limits: Limits) -> None:
    """Limit a running child from outside: code between fork and exec can deadlock under threads."""
    if not hasattr(resource, "prlimit"):
        return
    cpu = math.ceil(limits.seconds) + 1
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (limits.memory, limits.memory),
        resource.RLIMIT_CORE: (0, 0),
    }
    with contextlib.suppress(ProcessLookupError):
        for what, both in wanted.items():
            # We may ourselves be under a limit, and nobody may raise what was handed down.
            _, most = resource.prlimit(pid, what)
            if most != resource.RLIM_INFINITY:
                both = min(both[0], most), min(both[1], most)
            resource.prlimit(pid, what, both)
