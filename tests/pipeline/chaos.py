"""Disturbances of runs, at random moments: what `test_chaos` does to `tv2tv run`.

A run is a real process with a Ray of its own. While it works one thing befalls it (`KINDS`); then
the same command runs again, as a user would, until it is left alone. `Round.check` says what must
hold in the end.

The moment is drawn as a number of table parts and a little time on top, so that all of a run is
hit, on fast machines and slow ones alike.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus.files import is_temporary
from corpus.ids import sha256_file
from pipeline.cluster.connect import OWN_FOLDER

KINDS = ("driver", "group", "worker", "raylet", "node", "term", "int", "disk", "raise")
BY_SCRIPT = {"node": "--second-node", "raise": "--moody"}  # see chaos_driver.py
SURVIVED = {"worker", "node"}  # the run goes on by itself
ASKED = {"term", "int"}  # it ends in good order
START_SECONDS = 6.0  # in which Ray starts: the first moment is drawn from these
JITTER_SECONDS = 0.4
LEAVE_SECONDS = 90.0  # in which processes of runs that ended must be gone
# These wait a minute for a GCS that was killed with their driver, then they go.
AGENT = re.compile(
    r"ray::(Dashboard|RuntimeEnv)Agent|.*/(dashboard|runtime_env/agent)/\w+\.py"
).match
SIGNALS = {"driver": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
BALLAST = "ballast"
# Names in the temporary folder that may stay: what Ray had there goes when the next run starts one,
# perhaps none was needed any more; reels (`stages.reading.reels`) go when an hour has passed.
SHARED = (OWN_FOLDER, "ray", "pymp-", "tv2tv-reels-")
RUN_SECONDS = 240.0
LOOK_SECONDS = 0.05
DISK = "size=64m"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Process:
    """A living process; ``started`` tells it from a later one of the same number."""

    pid: int
    started: str
    parent: int
    command: str


class Census:
    """All that ever descended from a run, as far as one looked often enough.

    No child subreaper: Ray's workers take a parent other than process 1 for a living raylet.
    """

    def __init__(self, root: int) -> None:
        self._members = {one for one in _living() if one.pid == root}

    def look(self) -> list[Process]:
        """Those alive now."""
        living = _living()
        known = {(one.pid, one.started) for one in self._members}
        found = [one for one in living if (one.pid, one.started) in known]
        parents = {one.pid for one in found}
        while more := [one for one in living if one.parent in parents and one not in found]:
            found += more
            parents = {one.pid for one in more}
        self._members.update(found)
        return found


def _living() -> list[Process]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            stat = (place / "stat").read_text().rpartition(")")[2].split()
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if stat[0] not in "ZX":
                found.append(Process(int(place.name), stat[19], int(stat[1]), command.strip()))
    return found


@dataclass(frozen=True)
class Run:
    process: subprocess.Popen[bytes]
    census: Census

    def works(self) -> bool:
        """Whether it has not ended yet; takes a moment, in which one looks around."""
        self.census.look()
        try:
            self.process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False


@dataclass
class Round:
    """One corpus and what befalls it.

    Attributes:
        room: folder of its own; the corpus is in it.
        temporary: of a short name, since Ray's sockets lie in it.
    """

    room: Path
    footage: Path
    temporary: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="c-", dir="/tmp")))
    log: list[str] = field(default_factory=list)
    censuses: list[Census] = field(default_factory=list)

    @property
    def corpus(self) -> Path:
        return self.room / "disk" / "corpus"

    def start(self, *options: str) -> Run:
        """A run; by the command line, or by chaos_driver.py if an option asks for that."""
        (self.room / "disk").mkdir(parents=True, exist_ok=True)
        script = any(option in BY_SCRIPT.values() for option in options)
        main = [str(Path(__file__).with_name("chaos_driver.py"))] if script else ["-m"]
        command = [*main, *([] if script else ["pipeline.cli", "run"]), "films"]
        named = ["--input", str(self.footage), "--corpus", str(self.corpus)]
        unset = {"RAY_TMPDIR", "RAY_ADDRESS"}
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        process = subprocess.Popen(
            [sys.executable, *command, *named, *options],
            env={
                **environment,
                "TMPDIR": str(self.temporary),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
            },
            stdout=(self.room / "stdout").open("w"),
            stderr=(self.room / "stderr").open("w"),
            start_new_session=True,
        )
        self.censuses.append(Census(process.pid))
        return Run(process, self.censuses[-1])

    def parts(self) -> int:
        return sum(1 for _ in (self.corpus / "tables").rglob("*-*.parquet"))

    def disturb(self, kind: str, parts: int, generator: random.Random) -> bool:
        """Run up to a moment and do it; False if the run was through before.

        Args:
            parts: that a whole run makes.
        """
        there = self.parts()
        target = there + int(generator.random() * max(parts - there, 0))
        if kind == "node":
            target = max(target, there + 1)  # one that dies while nodes are asked is refused
        wait = generator.uniform(0, JITTER_SECONDS if target > there else START_SECONDS)
        run = self.start(*([BY_SCRIPT[kind]] if kind in BY_SCRIPT else []))
        while run.works() and self.parts() < target:
            pass
        end = time.monotonic() + wait
        while run.works() and time.monotonic() < end:
            pass
        struck = kind == "raise" or (run.works() and self._strike(kind, run, generator))
        code = self.ended(run)
        self.log.append(f"{kind} at {target} parts + {wait:.2f} s: {struck=}, exit code {code}")
        (self.room / "disk" / BALLAST).unlink(missing_ok=True)
        if struck and kind in SURVIVED:
            assert code == 0, self.told(kind)
        if struck and kind in ASKED and target > 0:  # before, Ray may not have started yet
            assert code in (0, 130), self.told(f"{kind}: exit code {code}")
        return struck

    def _strike(self, kind: str, run: Run, generator: random.Random) -> bool:
        """False if the run was through first."""
        if kind == "disk":
            self._fill()
        elif kind == "group":
            os.killpg(run.process.pid, signal.SIGKILL)
        elif kind in SIGNALS:
            run.process.send_signal(SIGNALS[kind])
        else:
            while not (found := self._victims(kind, run)):
                if not run.works():
                    return False
            victim = generator.choice(sorted(found, key=lambda one: one.pid))
            self.log.append(f"kill -9 {victim.command[:60]}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
        return True

    def _victims(self, kind: str, run: Run) -> list[Process]:
        """Processes that Ray started, of one kind."""
        found = run.census.look()
        if kind == "worker":
            return [o for o in found if o.command.startswith("ray::") and not AGENT(o.command)]
        raylets = [one for one in found if "raylet/raylet " in one.command]
        if kind == "raylet":
            return raylets
        note = self.temporary / "second-node"
        return [one for one in raylets if note.exists() and str(one.pid) == note.read_text()]

    def _fill(self) -> None:
        """Nothing is left on the disk."""
        ballast = (self.room / "disk" / BALLAST).open("wb", buffering=0)
        with ballast, contextlib.suppress(OSError):
            while ballast.write(b"x" * 4096):
                pass

    def ended(self, run: Run) -> int:
        """Wait for the end of a run; its exit code. What it started may take longer (`leave`)."""
        end = time.monotonic() + RUN_SECONDS
        while run.works():
            if time.monotonic() > end:
                commands = [one.command[:100] for one in run.census.look()]
                self.leave(0)
                raise AssertionError(self.told(f"the run hangs: {commands}"))
        return run.process.returncode

    def leave(self, seconds: float = LEAVE_SECONDS) -> None:
        """See to it that nothing is left of any run."""
        end = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        assert not left, self.told(f"left behind: {[one.command[:100] for one in left]}")

    def _left(self) -> list[Process]:
        left = [one for census in self.censuses for one in census.look()]
        return [one for one in left if not AGENT(one.command)]

    def told(self, what: str) -> str:
        """What happened so far, for a failure."""
        said = [f"-- {name}:\n{(self.room / name).read_text()[-3000:]}" for name in OUTPUTS]
        return "\n".join([what, *self.log, *said])

    def finish(self) -> None:
        """The last run, undisturbed; `--retry`, since a stage that raised was blamed for it."""
        code = self.ended(self.start("--retry"))
        assert code == 0, self.told(f"the undisturbed run ended with {code}")
        self.leave()

    def check(self, shards: dict[str, str]) -> None:
        """What must hold after an undisturbed run: see the module's text.

        Args:
            shards: names and hashes of those of a corpus that nothing ever befell.
        """
        levels = self.levels()
        for name, level in levels.items():
            ended = sum(sum(level[key].values()) for key in ("filtered", "failed", "quarantined"))
            assert level["inputs"] == level["ok"] + ended + level["pending"], self.told(name)
            assert (level["pending"], level["quarantined"]) == (0, {}), self.told(f"{name} {level}")
        assert bytes_of(self.corpus) == shards, self.told("the shards are others")
        left = [path for path in self.corpus.rglob("*") if is_temporary(path.name)]
        left += [path for path in self.corpus.glob("*lock.json") if path.is_file()]
        left += self.corpus.glob("runs/*/notes/*/attempts/*")
        left += [p for p in self.temporary.iterdir() if not p.name.startswith(SHARED)]
        assert not left, self.told(f"left behind: {left}")
        shutil.rmtree(self.temporary, ignore_errors=True)

    def levels(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "status", str(self.corpus), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout)["levels"])


OUTPUTS: Sequence[str] = ("stdout", "stderr")


def bytes_of(corpus: Path) -> dict[str, str]:
    folder = corpus / "shards" / "main"
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own at ``folder``, where this user may mount one; gives whether."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
