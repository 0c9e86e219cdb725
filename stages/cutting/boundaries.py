"""Where one shot ends and the next begins, judged on small pictures while they pass by.

PySceneDetect's detectors *propose* frames, sensitively. A proposal becomes a **cut** when it passes
one test: the pictures on either side differ, motion compensated and whatever the exposure does,
clearly more than pictures of the same side differ among themselves. That holds for a slide whose
text alone changes and fails for fast motion, shake, flashes and exposure jumps.

A **gradual** boundary is a blend (`cutting.blends`); a **black** gap is proposed by PySceneDetect's
threshold detector. Both have a width that is cut away.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Annotated, Literal

import cv2
import numpy as np
from pydantic import Field
from scenedetect import FrameTimecode, SceneDetector
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from stages.cutting.blends import BlendTest, find_blends
from stages.reading.pictures import (
    BLACK,
    FLOW_SIZE,
    NOISE,
    THUMB_SIZE,
    Frames,
    dark,
    difference,
    one_thread,
)
from stages.stage import StageConfig

SIDE_PICTURES = 3  # pictures compared on either side of a proposed cut; shorter flashes are no shot
SAME_PICTURE = 0.5  # mean difference in grey levels up to which two pictures count as one
SHORTEST_SHOT = 0.25  # seconds; less between two wide boundaries belongs to both


class Content(StageConfig):
    """Mean change of hue, saturation and brightness from frame to frame (0..255)."""

    kind: Literal["content"] = "content"
    threshold: float = 27.0


class Adaptive(StageConfig):
    """Change of brightness against its neighbours' mean; a slide's new text changes little."""

    kind: Literal["adaptive"] = "adaptive"
    ratio: float = 2.0
    least: float = 2.0
    window: int = Field(default=2, ge=1)


class Hash(StageConfig):
    """Perceptual hash: part of bits that change."""

    kind: Literal["hash"] = "hash"
    threshold: float = 0.35


class Histogram(StageConfig):
    """1 - correlation of luma histograms."""

    kind: Literal["histogram"] = "histogram"
    threshold: float = 0.2


class Threshold(StageConfig):
    """Fades through black: mean brightness below a floor (0..255)."""

    kind: Literal["threshold"] = "threshold"
    floor: float = BLACK


Detector = Annotated[Content | Adaptive | Hash | Histogram | Threshold, Field(discriminator="kind")]


class CutTest(StageConfig):
    """What makes a proposal a cut.

    Attributes:
        ratio: change across the cut against change within either side.
        least: mean change across the cut, grey levels.
        reach: seconds on either side in which pictures are compared.
    """

    ratio: float = Field(default=1.75, gt=1)
    least: float = Field(default=4.0, ge=0)
    reach: float = Field(default=0.5, gt=0)


@dataclass(frozen=True)
class Boundary:
    """Frames ``[start, end)`` belong to no shot; a cut is empty: the new shot begins at ``start``.

    Attributes:
        score: change across against change within (cuts), unexplained part (gradual).
    """

    kind: Literal["cut", "gradual", "black"]
    start: int
    end: int
    score: float


def find_boundaries(
    pictures: Iterable[Frames],
    fps: float,
    detectors: Sequence[Detector],
    cuts: CutTest,
    blends: BlendTest,
) -> list[Boundary]:
    """All boundaries of a film, in order.

    Args:
        pictures: every picture once, BGR as the detectors want it, of `pictures.FLOW_SIZE`;
            the film's shape does not matter, differences do not mind stretching.
        fps: mean frames per second, to turn seconds into frames.
    """
    with one_thread():
        seen = _look(pictures, detectors)
        thumbs = seen.thumbs
        found = [b for n in sorted(seen.proposals) if (b := _cut(seen.greys, thumbs, n, fps, cuts))]
        blended = find_blends(seen.greys, thumbs, fps, blends)
        found += [Boundary("gradual", *blend) for blend in blended]
    found += _black(thumbs, seen.gaps)
    return _joined(sorted(found, key=lambda b: (b.start, b.end)), round(SHORTEST_SHOT * fps))


def _joined(boundaries: Sequence[Boundary], shortest: int) -> list[Boundary]:
    """A fade out, the black after it and the fade in that follows are one boundary."""
    joined: list[Boundary] = []
    for boundary in boundaries:
        last = joined[-1] if joined else None
        wide = last is not None and "cut" not in (last.kind, boundary.kind)
        if last is not None and wide and boundary.start - last.end < shortest:
            end = max(last.end, boundary.end)
            joined[-1] = Boundary("gradual", last.start, end, max(last.score, boundary.score))
        else:
            joined.append(boundary)
    return joined


def shots_between(boundaries: Sequence[Boundary], frames: int) -> list[tuple[int, int]]:
    """Half-open frame ranges of the shots: what no boundary covers."""
    shots, start = [], 0
    for boundary in boundaries:
        if boundary.start > start:
            shots.append((start, boundary.start))
        start = max(start, boundary.end)
    return [*shots, (start, frames)] if start < frames else shots


# -- proposals ----------------------------------------------------------------------------------


def _detector(config: Detector) -> SceneDetector:
    """PySceneDetect's detector, without its own minimum length: the tests below decide."""
    match config:
        case Content():
            return ContentDetector(config.threshold, min_scene_len=0)
        case Adaptive():
            return AdaptiveDetector(
                config.ratio,
                min_scene_len=0,
                window_width=config.window,
                min_content_val=config.least,
                luma_only=True,
            )
        case Hash():
            return HashDetector(config.threshold, min_scene_len=0)
        case Histogram():
            return HistogramDetector(config.threshold, min_scene_len=0)
        case Threshold():
            return ThresholdDetector(config.floor, min_scene_len=0, add_final_scene=True)


@dataclass(frozen=True)
class Seen:
    """What one pass over a film leaves.

    Attributes:
        proposals: frames at which a cut may be.
        gaps: (frame, floor) at which black may begin or end.
        greys, thumbs: uint8 (T, h, w) of `pictures.FLOW_SIZE` and `THUMB_SIZE`.
    """

    proposals: set[int]
    gaps: list[tuple[int, float]]
    greys: Frames
    thumbs: Frames


def _look(pictures: Iterable[Frames], detectors: Sequence[Detector]) -> Seen:
    running = [(config, _detector(config)) for config in detectors]
    proposals: set[int] = set()
    gaps: list[tuple[int, float]] = []

    def hear(config: Detector, times: Iterable[FrameTimecode]) -> None:
        if isinstance(config, Threshold):
            gaps.extend((time.frame_num, config.floor) for time in times)
        else:
            proposals.update(time.frame_num for time in times)

    # In files without a name: hours of film have more pictures than a worker's share of memory.
    with _file() as greys, _file() as thumbs:
        clock = FrameTimecode(0, fps=25.0)
        for index, picture in enumerate(pictures):
            clock = FrameTimecode(index, fps=25.0)
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
            greys.write(grey.data)
            thumbs.write(cv2.resize(grey, THUMB_SIZE, interpolation=cv2.INTER_AREA).data)
            for config, detector in running:
                hear(config, detector.process_frame(clock, picture))
        for config, detector in running:
            hear(config, detector.post_process(clock))
        return Seen(proposals, gaps, _mapped(greys, FLOW_SIZE), _mapped(thumbs, THUMB_SIZE))


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="tv2tv-")


def _mapped(file: IO[bytes], size: tuple[int, int]) -> Frames:
    """Grey pictures (T, h, w) that were written to a file one after the other."""
    file.flush()
    width, height = size
    count = file.tell() // (width * height)
    if not count:
        return np.empty((0, height, width), np.uint8)
    return np.memmap(file, np.uint8, "r", shape=(count, height, width))


# -- cuts ---------------------------------------------------------------------------------------


def _cut(greys: Frames, thumbs: Frames, frame: int, fps: float, test: CutTest) -> Boundary | None:
    """The proposal as a cut, if it passes: least change across against mean change within."""
    reach = max(SIDE_PICTURES, round(test.reach * fps))
    before = _distinct(thumbs, range(frame - 1, max(-1, frame - 1 - reach), -1))
    after = _distinct(thumbs, range(frame, min(len(thumbs), frame + reach)))
    if not before or not after:
        return None
    change = float(np.abs(thumbs[frame].astype(int) - thumbs[frame - 1]).mean())
    if change < test.least:
        return None
    old, new = greys[before], greys[after]
    across = min(difference(a, b) for a in old for b in new)
    within = [max((difference(s[0], o) for o in s[1:]), default=0.0) for s in (old, new)]
    ratio = across / (sum(within) / 2 + NOISE)
    return Boundary("cut", frame, frame, ratio) if ratio >= test.ratio else None


def _distinct(thumbs: Frames, nearest_first: range) -> list[int]:
    """The nearest pictures that are not repeats: film on twos, paused screens, slides."""
    chosen: list[int] = []
    for index in nearest_first:
        if chosen:
            change = np.abs(thumbs[index].astype(int) - thumbs[chosen[-1]]).mean()
            if change <= SAME_PICTURE:
                continue
        chosen.append(index)
        if len(chosen) == SIDE_PICTURES:
            break
    return chosen


# -- black gaps ---------------------------------------------------------------------------------


def _black(thumbs: Frames, gaps: Sequence[tuple[int, float]]) -> list[Boundary]:
    """The whole run of black pictures around each proposal of the threshold detector.

    The detector looks at means alone, and a night scene is as dark on average.
    """
    found: set[tuple[int, int]] = set()
    for floor in {floor for _, floor in gaps}:
        bright = np.flatnonzero(~dark(thumbs, floor))
        for frame in (frame for frame, its in gaps if its == floor):
            place = int(np.searchsorted(bright, frame))
            start = int(bright[place - 1]) + 1 if place else 0
            end = int(bright[place]) if place < len(bright) else len(thumbs)
            if start < end:
                found.add((start, end))
    return [Boundary("black", start, end, 0.0) for start, end in sorted(found)]
