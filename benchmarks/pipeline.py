"""CPU seconds from film to segments, against what decoding alone and the usual tools cost.

    python -m benchmarks pipeline [FOLDER [ROUNDS]]      FOLDER has films and a MANIFEST.json

Without arguments: the films of `benchmarks.shots`, three rounds. Everything is CPU time, user and
system, of processes and their children, on one core: wall time says nothing on a machine that
others use. In each round every film goes through every contender, in another order each time, and
a ratio is one of two sums of the same round.

* **floor**: ``ffmpeg -i FILE -map 0:v:0 -f null -``, decoding and nothing else.
* **path**: probe, shots, clips and segments with the recipe `real`, in this process, without Ray.
* **tools**: one ffmpeg command per film that makes a film of the clips' format of it, and the
  ``scenedetect`` command, one after the other.
* **shots**: the stage with one detector, against ``scenedetect`` with the same one. A command's
  start (imports) is paid per film, a stage's once per worker; so the command is also shown less it.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.shots import PUBLIC, Score, boundaries, cpu_seconds, record_of, score, truth
from corpus.clock import Clock
from corpus.layout import Media
from corpus.video import encoder_arguments, ffmpeg
from pipeline.recipe import load_recipe, make_stages
from stages import clips, segments, shots
from stages.probe import ProbeConfig, ProbeStage
from stages.reading.chosen import Film
from stages.shots import ShotsConfig, ShotsStage
from stages.stage import Context, Record

SIZE = (448, 256)
ROUNDS = 3
DETECTORS = ("content", "adaptive")
PATH = ("probe", "shots", "clips", "segments")
Cuts = tuple[list[int], list[tuple[int, int]]]


@dataclass
class Round:
    """CPU seconds by contender and part, and scores by contender; sums over the films."""

    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    scores: dict[str, list[Score]] = field(default_factory=lambda: defaultdict(list))
    clips: int = 0
    bytes: int = 0
    frames: int = 0

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        before = cpu_seconds()
        yield
        child, own = cpu_seconds() - before
        self.cpu[f"{name} child"] += child
        self.cpu[f"{name} own"] += own
        self.cpu[name] += child + own

    def share(self, part: str, whole: str) -> float:
        return self.cpu[part] / self.cpu[whole]

    def f1(self, name: str) -> float:
        """Harmonic mean of precision and recall of the known hard cuts."""
        hits = sum(len(s.found) for s in self.scores[name])
        others = sum(len(s.missed) + len(s.false) for s in self.scores[name])
        return 2 * hits / max(1, 2 * hits + others)


def main(arguments: list[str]) -> None:
    """Print medians over rounds, their range, and where the time goes."""
    folder = Path(arguments[0]) if arguments else PUBLIC
    if not (folder / "MANIFEST.json").is_file():
        sys.stdout.write(f"skipped: {folder} has no MANIFEST.json\n")
        return
    count = int(arguments[1]) if len(arguments) > 1 else ROUNDS
    films = truth(folder)
    rounds = []
    with _one_core():
        for number in range(count):
            rounds.append(_round(folder, films, number))
            sys.stdout.write(f"round {number + 1} of {count}\n")
    sys.stdout.write(report(rounds, len(films)))


def _round(folder: Path, films: dict[str, Cuts], number: int) -> Round:
    result = Round()
    with tempfile.TemporaryDirectory() as place:
        for name, cuts in films.items():
            path, here = folder / name, Path(place)
            contenders = [
                partial(_floor, result, path),
                partial(_path, result, path, here),
                partial(_normalise, result, path, here),
            ]
            for detector in DETECTORS:
                contenders.append(partial(_stage, result, path, detector, cuts, here))
                contenders.append(partial(_command, result, path, detector, cuts, here))
            turn = 3 * number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                contender()
            with result.measured("start"):
                _quietly([_scenedetect(), "help"])
    return result


# -- contenders ---------------------------------------------------------------------------------


def _floor(result: Round, path: Path) -> None:
    with result.measured("floor"):
        _quietly([str(ffmpeg()), "-i", str(path), "-map", "0:v:0", "-f", "null", "-"])


def _path(result: Round, path: Path, place: Path) -> None:
    """All four stages; what lies between them (keys, tables) is the runner's."""
    recipe = load_recipe("real", [f"clips.buckets=[[{SIZE[0]}, {SIZE[1]}]]"])
    context = Context(Media(place / "media"), Clock())
    stages = {stage.name: stage for stage in make_stages(recipe, context)}
    records = [record_of(path)]
    for name in PATH:
        stage, onward = stages[name], list[Record]()
        for record in records:
            with _parts(result), result.measured(name):
                (rows,) = stage.process([record])
            onward += stage.advance(record, rows)
        records = onward
        if name == "probe":
            result.frames += sum(record["packets"] for record in records)
        if name == "clips":
            result.clips += len(records)
            result.bytes += sum(stage.context.media.path(r["clip"]).stat().st_size for r in records)


@contextmanager
def _parts(result: Round) -> Iterator[None]:
    """Take the time of the steps that a stage's own process spends most of it on."""

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            before = time.process_time()
            try:
                return work(*given, **named)
            finally:
                result.cpu[part] += time.process_time() - before

        return wrapped

    with ExitStack() as stack:
        for place, name, part in (
            (shots, "find_boundaries", "looking"),
            (clips, "encode_video", "encoding and reading"),
            (Film, "_next", "reading"),
            (segments, "read_video", "decoding clips"),
        ):
            work = timed(part, getattr(place, name))
            stack.enter_context(mock.patch.object(place, name, work))
        yield


def _normalise(result: Round, path: Path, place: Path) -> None:
    width, height = SIZE
    cover = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=bicubic"
    chain = f"fps={Clock().fps},{cover},crop={width}:{height}"
    wanted = ("preset", "crf", "g", "x264-params")
    pairs = [argument.split("=", 1) for argument in encoder_arguments("yuv420p")[2:]]
    encoder = [word for pair in pairs if pair[0] in wanted for word in (f"-{pair[0]}", pair[1])]
    out = ["-c:v", "libx264", *encoder, "-pix_fmt", "yuv420p", "-y", str(place / "whole.mp4")]
    with result.measured("normalise"):
        _quietly([str(ffmpeg()), "-i", str(path), "-map", "0:v:0", "-an", "-vf", chain, *out])


def _stage(result: Round, path: Path, detector: str, cuts: Cuts, place: Path) -> None:
    context = Context(Media(place / "media"), Clock())
    probe = ProbeStage(ProbeConfig(), context)
    stage = ShotsStage(ShotsConfig.model_validate({"detectors": [{"kind": detector}]}), context)
    record = record_of(path)
    (record,) = probe.advance(record, probe.process([record])[0])
    with result.measured(f"stage {detector}"):
        (rows,) = stage.process([record])
    found = boundaries([row.columns for row in rows if row.id], record["packets"])
    result.scores[f"stage {detector}"].append(score(found, *cuts))


def _command(result: Round, path: Path, detector: str, cuts: Cuts, place: Path) -> None:
    table = place / "scenes.csv"
    out = ["-o", str(place), f"detect-{detector}", "list-scenes", "-q", "-f", table.name]
    with result.measured(f"command {detector}"):
        _quietly([_scenedetect(), "-i", str(path), *out])
    with table.open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and row[0].isdecimal()]
    starts = [int(row[1]) - 1 for row in rows[1:]]  # frames are counted from 1
    result.scores[f"command {detector}"].append(score([(n, n) for n in starts], *cuts))


def _scenedetect() -> str:
    return str(Path(sys.executable).with_name("scenedetect"))


def _quietly(command: Sequence[str]) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


@contextmanager
def _one_core() -> Iterator[None]:
    """Where the system can: threads that wait for each other would be counted as work."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# -- what is said -------------------------------------------------------------------------------


def report(rounds: Sequence[Round], films: int) -> str:
    """Medians over the rounds, and from the least to the most."""

    def of(value: Callable[[Round], float], digits: int = 2) -> str:
        values = [value(one) for one in rounds]
        low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
        return f"{statistics.median(values):.{digits}f} [{low} to {high}]"

    def path(one: Round) -> float:
        return sum(one.cpu[name] for name in PATH)

    def tools(one: Round, detector: str) -> float:
        return one.cpu["normalise"] + one.cpu[f"command {detector}"]

    first = rounds[0]
    lines = [
        f"{films} films, {first.frames} pictures, {first.clips} clips of "
        f"{first.bytes / 1e6:.1f} MB, {len(rounds)} rounds; CPU seconds, median [range]",
        f"floor  decode only                {of(lambda r: r.cpu['floor'])}",
        f"path   probe to segments          {of(path)}",
        f"path / floor                      {of(lambda r: path(r) / r.cpu['floor'])}",
    ]
    for name in PATH:
        lines.append(
            f"  {name:10} {of(lambda r, n=name: r.cpu[n])}   "
            f"children {of(lambda r, n=name: r.cpu[n + ' child'])}   "
            f"here {of(lambda r, n=name: r.cpu[n + ' own'])}"
        )
    lines += [
        f"  in shots: sizing, writing       {of(lambda r: r.cpu['shots child'] - r.cpu['floor'])}",
        f"  in shots: looking and judging   {of(lambda r: r.cpu['looking'])}",
        f"  in clips: encoding              {of(_encoding)}   reading pipes {of(_reading)}",
        f"  in segments: decoding clips     {of(lambda r: r.cpu['decoding clips'])}",
    ]
    for detector in DETECTORS:
        stage, command = f"stage {detector}", f"command {detector}"
        starts = f"{first.cpu['start']:.2f}"
        lines += [
            f"detect-{detector}: the command    {of(lambda r, c=command: r.cpu[c])}, "
            f"of which starting {starts}; F1 {first.f1(command):.3f}",
            f"  the stage with {detector}       {of(lambda r, s=stage: r.cpu[s])}; "
            f"F1 {first.f1(stage):.3f}",
            f"  stage / command                 "
            f"{of(lambda r, s=stage, c=command: r.share(s, c))}; less the command's starts "
            f"{of(lambda r, s=stage, c=command: r.cpu[s] / (r.cpu[c] - r.cpu['start']))}",
            f"  path / (normalise + command)    {of(lambda r, d=detector: path(r) / tools(r, d))}",
        ]
    return "\n".join(lines) + "\n"


def _encoding(one: Round) -> float:
    return one.cpu["encoding and reading"] - one.cpu["reading"]


def _reading(one: Round) -> float:
    return one.cpu["reading"]


if __name__ == "__main__":
    main(sys.argv[1:])
