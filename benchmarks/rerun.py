"""What does a run with nothing to do cost? The `tv2tv` command itself, on many thousand clips.

``python -m benchmarks rerun [CLIPS ...]`` takes one film of 20 clips of 8 s through the recipe
``real`` (64 x 64 pixels), and gives the corpus as many films like it as make up CLIPS: rows under
their own names and keys, media files that are links to the first film's. Then the command runs
twice in a process of its own: once to sort what lies there and to write shards, and once more with
nothing to do; that is measured, and `tv2tv status` and `tv2tv report` on top. ``--keep FOLDER``
leaves the corpora there, and finds them there the next time.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from corpus import layout
from corpus.ids import content_id, video_id
from corpus.rows import Row
from corpus.store import local_root
from corpus.video import write_video
from pipeline.inputs.sources import Source, read_listing
from pipeline.ledger.compaction import compact
from pipeline.ledger.shelf import Shelf
from pipeline.plan import Plan, make_plan
from pipeline.recipe import load_recipe
from stages.stage import Record, Stage

SIZES = (1_000, 10_000)
CLIPS, SECONDS, FPS, SIDE = 20, 8, 16, 64
SETTINGS = (
    f"clips.buckets=[[{SIDE},{SIDE}]]",
    f"clips.max_seconds={SECONDS}",
    "shots.detectors=[{kind: content, threshold: 255}]",
    "filters={}",
    "latents.settings.channels=6",  # or shards take 4 GB per 10,000 clips
)
TOGETHER = 40  # films in a part
NAMED = re.compile(r"([0-9a-f]{2}/)?([0-9a-f]{32})")
LONGEST = 200  # of a text that may hold a name
MIB = 2**20


def main(arguments: list[str]) -> None:
    """Print what was measured."""
    keep = None
    if "--keep" in arguments:
        at = arguments.index("--keep")
        keep = Path(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    with tempfile.TemporaryDirectory(prefix="tv2tv-rerun-") as name:
        room = keep or Path(name)
        for clips in map(int, arguments or SIZES):
            _measure(room / str(clips), room / "one", clips)


def _measure(room: Path, one: Path, clips: int) -> None:
    if not (room / "done").exists():
        _make(room, one, clips)
        _measured(clips, "first", room, "run")
        (room / "done").touch()
    for what, command in (("nothing to do", "run"), ("status", "status")):
        for _ in range(3):
            _measured(clips, what, room, command)
    _measured(clips, "report", room, "report")


def _make(room: Path, one: Path, clips: int) -> None:
    """A film, what a run makes of it, and a corpus of films like it."""
    film = one / "film" / "film.mp4"
    if not (one / "done").exists():
        shutil.rmtree(one, ignore_errors=True)
        film.parent.mkdir(parents=True)
        _film(film)
        _command("run", film.parent, one / "corpus")
        (one / "done").touch()
    shutil.rmtree(room, ignore_errors=True)
    (room / "films").mkdir(parents=True)
    recipe = load_recipe("real", list(SETTINGS))
    first, plan = make_plan(recipe, one / "corpus"), make_plan(recipe, room / "corpus")
    layout.create(room / "corpus", recipe.clock.clock())
    begun, copies = time.monotonic(), clips // CLIPS
    _clone(Template.of(first, video_id(film)), plan, room, copies)
    sys.stdout.write(f"{clips} clips made in {time.monotonic() - begun:.0f} s\n")


def _film(path: Path) -> None:
    """A ground that moves, differently in every clip."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 255, (SIDE // 8, 1024 // 8, 3), np.uint8)
    ground = np.repeat(np.repeat(ground, 8, axis=0), 8, axis=1)
    frames = np.empty((CLIPS * SECONDS * FPS, SIDE, SIDE, 3), np.uint8)
    place = 0.0
    for i, frame in enumerate(frames):
        place += 0.5 + i // (SECONDS * FPS) / CLIPS
        frame[:] = np.roll(ground, -int(place), axis=1)[:, :SIDE]
    write_video(path, frames, FPS)


@dataclass(frozen=True)
class Template:
    """What a run stored of one film.

    Attributes:
        steps: per stage, what each of its units of work answered, in the order of records.
        names: ids of all that is there.
    """

    plan: Plan
    steps: Sequence[Sequence[tuple[Record, Sequence[Row]]]]
    names: frozenset[str]

    @staticmethod
    def of(plan: Plan, video: str) -> "Template":
        path = next(plan.layout.runs.local(n) for n in plan.layout.runs.names() if "inputs" in n)
        (source,) = read_listing(path.parent).sources
        records, steps, names = [source.record()], [], {video}
        for stage, table in zip(plan.stages, plan.tables, strict=True):
            stored = Shelf(table).answers()
            step = [(record, stored[stage.key(record)]) for record in records]
            names |= {row.id for _, rows in step for row in rows if row.id is not None}
            steps.append(step)
            records = [item for record, rows in step for item in stage.advance(record, rows)]
        return Template(plan, steps, frozenset(names))


def _clone(first: Template, plan: Plan, room: Path, copies: int) -> None:
    numbers = iter(range(copies))
    while some := list(islice(numbers, TOGETHER)):
        films = [_source(room / "films", number) for number in some]
        names = [
            {old: content_id("copy", number, old) for old in sorted(first.names)} for number in some
        ]
        for name, film in zip(names, films, strict=True):
            name[first.steps[0][0][0]["video_id"]] = str(film.video_id)
        records = [[film.record()] for film in films]
        for at, (stage, table) in enumerate(zip(plan.stages, plan.tables, strict=True)):
            answers = []
            for film, name in enumerate(names):
                pairs = [
                    (record, [_renamed(row, name) for row in rows])
                    for record, (_, rows) in zip(records[film], first.steps[at], strict=True)
                ]
                answers += [(stage.key(r), str(r["video_id"]), rows) for r, rows in pairs]
                before = [i for r, rows in first.steps[at] for i in stage.advance(r, rows)]
                records[film] = [i for record, rows in pairs for i in stage.advance(record, rows)]
                _link(first.plan, plan, stage, before, records[film])
            table.write(answers)
    for table in plan.tables:
        compact(table, many=1)  # as a run leaves them


def _source(folder: Path, number: int) -> Source:
    """A file that nobody will open: all that comes of it is there."""
    path = folder / f"{number // 1000:03d}" / f"{number:07d}.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"film %d" % number)
    stat = path.stat()
    uri = path.relative_to(folder).as_posix()
    return Source(uri, str(path), stat.st_size, stat.st_mtime_ns, video_id(path))


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    ids = {name: names.get(str(getattr(row, name))) for name in ("id", "parent")}
    return replace(row, **ids, columns=_with(row.columns, names))


def _with(value: Any, names: Mapping[str, str]) -> Any:
    """The same value, in which all that is named has its new name."""

    def new(found: re.Match[str]) -> str:
        name = names.get(found[2])
        if name is None:
            return found[0]
        return f"{name[:2]}/{name}" if found[1] else name

    if isinstance(value, str):
        return NAMED.sub(new, value) if len(value) < LONGEST else value
    if isinstance(value, dict):
        return {key: _with(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with(one, names) for one in value)
    return value


def _link(
    first: Plan, plan: Plan, stage: Stage[Any], old: Sequence[Record], new: Sequence[Record]
) -> None:
    if stage.makes is None:
        return
    here, there = (local_root(one.layout.store) / "media" for one in (first, plan))
    for before, after in zip(old, new, strict=True):
        path = there / after[stage.makes]
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(here / before[stage.makes], path)


def _measured(clips: int, what: str, room: Path, command: str) -> None:
    begun = time.monotonic()
    process = _started(command, room / "films", room / "corpus")
    said = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    seconds, cpu = time.monotonic() - begun, used.ru_utime + used.ru_stime
    if status:
        sys.exit(f"{command} ended with {status}: {said}")
    sys.stdout.write(
        f"{clips:>7} clips, {what:13}: {seconds:6.1f} s, CPU {cpu:6.1f} s, "
        f"{1000 * max(0.0, seconds - 3) / clips:.2f} ms per clip beyond 3 s, "
        f"peak {used.ru_maxrss * 1024 / MIB:.0f} MiB\n"
    )
    sys.stdout.flush()


def _started(command: str, films: Path, corpus: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "pipeline.cli", command]
    if command == "run":
        words += ["real", "--input", str(films), "--corpus", str(corpus)]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
    else:
        words.append(str(corpus))
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def _command(command: str, films: Path, corpus: Path) -> None:
    process = _started(command, films, corpus)
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}: {said}")


if __name__ == "__main__":
    main(sys.argv[1:])
