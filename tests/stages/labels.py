"""Labels of real films made by hand, and whether a claim is true by them.

Columns of ``tests/data/motion_labels.csv``; alternatives are joined by ``|``, items by ``;``:

* camera: what it does (``static``, ``left``, ``right``, ``up``, ``down``, ``in``, ``out``,
  ``shake``); camera_ok: what may be said besides, being slight or a matter of view;
* movers: ``cells>ways>colours`` of everything that plainly moves; movers_ok: what hardly does.
  Cells of a 3 x 3 raster that it touches (``tl t tr l c r bl b br``), ``any`` for all;
* part: ``first`` while the measuring was tuned, ``held-out`` labelled after that;
* light: ``steady``, ``brighter``, ``darker``; changes_ok: ``kind cells`` of what may be said to
  appear or to vanish; look: ``tones>colours`` of the first picture.
"""

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.video import ffmpeg
from stages.captioning.claims import Claim

FILE = Path(__file__).resolve().parents[1] / "data" / "motion_labels.csv"
FPS = 16
PORTRAIT = ("portrait", "rotated")
ROAMING = ("sideways", "upright", "about")


@dataclass(frozen=True)
class Label:
    """One row of the file."""

    file: str
    start: float
    end: float
    row: dict[str, str]

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}@{self.start:g}"

    def options(self, column: str) -> set[str]:
        return {item.strip() for item in self.row[column].split("|") if item.strip()}

    def items(self, column: str) -> list[str]:
        return [item.strip() for item in self.row[column].split(";") if item.strip()]

    def frames(self, folder: Path) -> NDArray[np.uint8]:
        """The segment at 16 fps, 448 x 256 or 256 x 448, centre-cropped."""
        upright = any(word in self.file for word in PORTRAIT)
        width, height = (256, 448) if upright else (448, 256)
        count = round((self.end - self.start) * FPS) + 1
        scale = f"scale={width}:{height}:force_original_aspect_ratio=increase"
        chain = f"fps={FPS},{scale},crop={width}:{height}"
        source = ["-ss", str(self.start), "-i", str(folder / self.file), "-map", "0:v:0"]
        result = ["-vf", chain, "-pix_fmt", "rgb24", "-f", "rawvideo", "-frames:v", str(count)]
        command = [str(ffmpeg()), "-v", "error", "-threads", "1", *source, *result, "-"]
        data = subprocess.run(command, capture_output=True, check=True).stdout
        return np.frombuffer(data, np.uint8).reshape(count, height, width, 3)


def read_labels() -> list[Label]:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Label(row["file"], float(row["start"]), float(row["end"]), row) for row in rows]


def is_true(claim: Claim, label: Label) -> bool:
    """Whether a claim holds by the label."""
    camera = label.options("camera") | label.options("camera_ok")
    if claim.kind == "camera":
        return set(claim.what.split("+")) <= camera
    if claim.kind == "mover":
        movers = label.items("movers") + label.items("movers_ok")
        return any(_fits(claim, mover) for mover in movers)
    if claim.kind == "still":
        return not label.items("movers") and "static" in camera
    if claim.kind == "change":
        return any(_stands(claim, change) for change in label.items("changes_ok"))
    if claim.kind == "light":
        return bool({claim.what, "any"} & label.options("light"))
    if claim.kind == "look":
        tones, colours = (set(part.split("|")) for part in label.row["look"].split(">"))
        return claim.what in tones and (claim.colour or "many") in colours
    return False  # colours of whole pictures do not turn in these films


def named(label: Label, claims: tuple[Claim, ...]) -> tuple[int, int]:
    """How many of the label's camera motions and plain movers are named, and how many there are."""
    said = {way for claim in claims if claim.kind == "camera" for way in claim.what.split("+")}
    movers = [claim for claim in claims if claim.kind == "mover"]
    wanted = [way in said for way in sorted(label.options("camera"))]
    wanted += [any(_fits(claim, mover) for claim in movers) for mover in label.items("movers")]
    return sum(wanted), len(wanted)


def _cell(where: str) -> str:
    return "c" if where == "centre" else "".join(word[0] for word in where.split())


def _fits(claim: Claim, mover: str) -> bool:
    cells, ways, colours = mover.split(">")
    there = cells == "any" or _cell(claim.where) in cells.split(",")
    coloured = colours == "any" or claim.colour in colours.split("|")
    allowed = set(ways.split("|"))
    if "any" in allowed:
        return there and coloured
    return (
        there and coloured and claim.what not in ROAMING and set(claim.what.split("+")) <= allowed
    )


def _stands(claim: Claim, change: str) -> bool:
    kind, cells = change.split(" ", 1)
    return claim.what == kind and (cells == "any" or _cell(claim.where) in cells.split(","))
