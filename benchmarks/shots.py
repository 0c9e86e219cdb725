"""Accuracy of shot boundaries on films whose cuts are known, and where the children's time goes.

    python -m benchmarks shots            films in $TV2TV_TEST_VIDEOS/public
    python -m benchmarks.shots FOLDER     another folder with films and a MANIFEST.json

Without the variable it is ../shared/videos, beside the repository. The manifest says ``{"videos":
[{"file", "cuts": [{"frame", "certainty"}], "gradual": [{"start_frame", "end_frame"}]}, ...]}``:
``frame`` is the first of the new shot, and only cuts of certainty ``certain`` count.

A known hard cut is found when a shot begins or ends within two frames of it. A detected boundary
that is near no known cut is false, unless it lies in a gradual range of the manifest: such ranges
count neither way. One set of parameters, the recipe's defaults, serves all films.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from corpus.clock import Clock
from corpus.ids import video_id
from corpus.layout import Media
from stages.clips import ClipsConfig, ClipsStage
from stages.probe import ProbeConfig, ProbeStage
from stages.shots import ShotsConfig, ShotsStage
from stages.stage import Context, Record

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "videos"
PUBLIC = Path(os.environ.get("TV2TV_TEST_VIDEOS") or _BESIDE) / "public"
NEAR = 2  # frames
WORK = {"probe": "waiting  ", "shots": "detection", "clips": "encoding "}


@dataclass(frozen=True)
class Score:
    """Outcome for one film; frames are decoded pictures, counted from 0."""

    found: tuple[int, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]
    gradual: tuple[tuple[int, int], ...]


def boundaries(shots: Sequence[dict[str, Any]], frames: int) -> list[tuple[int, int]]:
    """What lies between the shots: [a, b) is cut away, a == b is a cut."""
    edges = [(0, 0), *((s["start_frame"], s["end_frame"]) for s in shots), (frames, frames)]
    gaps = [(a[1], b[0]) for a, b in pairwise(edges)]
    return [gap for gap in gaps if gap not in ((0, 0), (frames, frames))]


def score(
    detected: Sequence[tuple[int, int]], cuts: Sequence[int], gradual: Sequence[tuple[int, int]]
) -> Score:
    """Compare detected boundaries with the certain hard cuts and the gradual ranges of a film."""

    def near(boundary: tuple[int, int], cut: int) -> bool:
        return any(abs(edge - cut) <= NEAR for edge in boundary)

    def neutral(boundary: tuple[int, int]) -> bool:
        return any(boundary[0] <= b + NEAR and boundary[1] >= a - NEAR for a, b in gradual)

    found = tuple(cut for cut in cuts if any(near(b, cut) for b in detected))
    false = tuple(
        b[0] for b in detected if not any(near(b, cut) for cut in cuts) and not neutral(b)
    )
    wide = tuple(b for b in detected if b[0] < b[1])
    return Score(found, tuple(c for c in cuts if c not in found), false, wide)


def truth(folder: Path) -> dict[str, tuple[list[int], list[tuple[int, int]]]]:
    """Certain hard cuts and gradual ranges per file, from the folder's MANIFEST.json."""
    videos = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))["videos"]
    return {
        video["file"]: (
            [cut["frame"] for cut in video["cuts"] or [] if cut["certainty"] == "certain"],
            [(g["start_frame"], g["end_frame"]) for g in video["gradual"] or []],
        )
        for video in videos
    }


def record_of(path: Path) -> Record:
    """What the source stage says about a file without a manifest."""
    return {
        "video_id": video_id(path),
        "uri": path.name,
        "path": os.fspath(path),
        "size": path.stat().st_size,
        "meta": {},
        "timeline": None,
        "timeline_sha256": None,
    }


def cpu_seconds() -> np.ndarray:
    """(children that ended, this process): user and system time."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return np.array([one.ru_utime + one.ru_stime for one in used])


def main(arguments: list[str]) -> None:
    """Print a line per film, the totals, and the CPU of proxies, detection, clips and encoding."""
    folder = Path(arguments[0]) if arguments else PUBLIC
    write = sys.stdout.write
    if not (folder / "MANIFEST.json").is_file():
        write(f"skipped: {folder} has no MANIFEST.json\n")
        return
    with tempfile.TemporaryDirectory() as place:
        context = Context(Media(Path(place)), Clock())
        scores, lines = measure(folder, context)
    write("".join(lines))
    hits = sum(len(s.found) for s in scores)
    known = hits + sum(len(s.missed) for s in scores)
    false = sum(len(s.false) for s in scores)
    precision, recall = hits / max(1, hits + false), hits / max(1, known)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    write(
        f"hard cuts at +-{NEAR} frames: recall {hits}/{known} = {recall:.3f}   "
        f"precision {hits}/{hits + false} = {precision:.3f}   F1 {f1:.3f}\n"
    )


def measure(folder: Path, context: Context) -> tuple[list[Score], list[str]]:
    """Run the front stages over every film of a manifest, one after the other."""
    probe = ProbeStage(ProbeConfig(), context)
    shots = ShotsStage(ShotsConfig(), context)
    clips = ClipsStage(ClipsConfig(min_seconds=2.0), context)
    scores, lines = [], []
    cpu = {stage.name: np.zeros(2) for stage in (probe, shots, clips)}
    frames = made = 0
    begun = time.perf_counter()
    for name, (cuts, gradual) in truth(folder).items():
        records = [record_of(folder / name)]
        for stage in (probe, shots, clips):
            before = cpu_seconds()
            rows = stage.process(records)[0] if records else []
            cpu[stage.name] += cpu_seconds() - before
            fate = next((f"{stage.name}: {r.outcome}({r.reason})" for r in rows if not r.id), "")
            if stage is shots and records:
                pictures = records[0]["packets"]
                found = [row.columns for row in rows if row.id]
                scores.append(score(boundaries(found, pictures), cuts, gradual))
                frames += pictures
                lines.append(_line(name, pictures, scores[-1]))
            elif fate and stage is not clips:
                lines.append(f"{name:38} {fate}\n")
            records = stage.advance(records[0], rows) if records else []
        made += len(records)
    lines.append(f"{frames} frames, {made} clips in {time.perf_counter() - begun:.1f} s; CPU\n")
    for name, (child, own) in cpu.items():
        each = 1e3 / max(1, frames)
        lines.append(
            f"  {name:6} children {child:6.1f} s = {child * each:5.2f} ms/frame   "
            f"{WORK[name]} {own:6.1f} s = {own * each:5.2f} ms/frame\n"
        )
    return scores, lines


def _line(name: str, frames: int, result: Score) -> str:
    return (
        f"{name:38} {frames:5} frames  found {list(result.found)}  missed {list(result.missed)}  "
        f"false {list(result.false)}  cut away {list(result.gradual)}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
