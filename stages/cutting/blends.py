"""Dissolves and fades: boundaries that last.

A stretch of film is a **blend** when every picture in it is a mixture of the first and the last,
and most of the picture is replaced or one of the two is black. Motion is never such a mixture;
titles, exposure and motion replace little.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.reading.pictures import THUMB_SIZE, Frames, Picture, blur, dark, moved
from stages.stage import StageConfig

Vector = NDArray[np.float64]

MOTION_FRAMES = 6  # frames over which the camera's motion at the ends of a blend is measured
SURE_MOTION = 0.1  # response of the phase correlation from which its answer is believed
LEAST_KNOWN = 0.4  # part of the picture in which both ends of a blend must be known
BLOCK = 17  # pixels over which structure is compared
FLAT = 16.0  # squared contrast in grey levels up to which a place has no structure
GONE = 16.0  # ratio of squared contrasts from which structure is gone, not dimmed


class BlendTest(StageConfig):
    """What makes a stretch a dissolve or a fade.

    Attributes:
        spans: lengths looked for, seconds; anything between neighbours is found too.
        residual: what a blend of the ends may leave unexplained, part of their difference.
        least: mean difference of the ends, grey levels.
        area: part of the picture whose structure is replaced.
    """

    spans: tuple[float, ...] = (0.3, 0.6, 1.1, 2.0, 3.5)
    residual: float = Field(default=0.15, gt=0)
    least: float = Field(default=12.0, ge=0)
    area: float = Field(default=0.5, ge=0, le=1)


def find_blends(
    greys: Frames, thumbs: Frames, fps: float, test: BlendTest
) -> list[tuple[int, int, float]]:
    """(start, end, unexplained part); where several lengths fit, the one whose ends differ most.

    Args:
        greys, thumbs: uint8 (T, h, w) of all pictures, of `pictures.FLOW_SIZE` and `THUMB_SIZE`.
    """
    hits: list[tuple[float, int, int, float]] = []
    if len(thumbs) <= MOTION_FRAMES:
        return []
    for seconds in test.spans:
        half = max(2, round(seconds * fps / 2))
        for middle in range(half, len(thumbs) - half, max(1, half // 4)):
            hit = _blend(thumbs, middle, half, test)
            if hit is not None:
                hits.append((hit[0], middle, half, hit[1]))
    found: list[tuple[int, int, float]] = []
    for _, middle, half, residual in sorted(hits, reverse=True):
        start, end = _extent(thumbs, middle, half)
        if any(start < e and s < end for s, e, _ in found):
            continue
        faded = dark(thumbs[[middle - half, middle + half]]).any()
        if faded or _replaced(greys, thumbs, middle, half) >= test.area:
            found.append((start, end, residual))
    return found


def _blend(thumbs: Frames, middle: int, half: int, test: BlendTest) -> tuple[float, float] | None:
    """(difference of the ends, unexplained part) when the stretch is a blend of its ends.

    Both ends are carried on by the motion that the camera had there, so that a dissolve of two pans
    is a blend and a pan is none: carried on, its ends are the same picture.
    """
    ends = thumbs[middle - half], thumbs[middle + half]
    if np.abs(ends[0].astype(int) - ends[1]).mean() < test.least:
        return None
    motion = _motion(thumbs, middle, half)
    worst, smallest, weights = 0.0, 255.0, []
    for part in (0.25, 0.5, 0.75):
        inner = round(middle + (2 * part - 1) * half)
        old, new, known = _carried(ends, motion, (inner - middle + half, inner - middle - half))
        if known.mean() < LEAST_KNOWN:
            return None
        step, seen = (new - old)[known], (thumbs[inner] - old)[known]
        difference = float(np.abs(step).mean())
        smallest = min(smallest, difference)
        if smallest < test.least:
            return None
        weights.append(float((seen * step).sum() / (step * step).sum()))
        worst = max(worst, float(np.abs(seen - weights[-1] * step).mean()) / difference)
        if worst > test.residual:
            return None
    rising = 0.05 < weights[0] < 0.5 and weights[0] < weights[1] < weights[2] < 0.95
    return (smallest, worst) if rising else None


def _motion(thumbs: Frames, middle: int, half: int) -> tuple[Vector, Vector]:
    """The camera's motion before and after a stretch, in thumbnail pixels per frame."""
    start = max(0, middle - half - MOTION_FRAMES)
    end = min(len(thumbs) - 1, middle + half + MOTION_FRAMES)
    return _velocity(thumbs, start), _velocity(thumbs, max(0, end - MOTION_FRAMES))


def _velocity(thumbs: Frames, start: int) -> Vector:
    """Pixels per frame, (0, 0) where it cannot be told."""
    a, b = (thumbs[i].astype(np.float32) for i in (start, start + MOTION_FRAMES))
    shift, sure = cv2.phaseCorrelate(a, b, _WINDOW)
    return np.array(shift) / MOTION_FRAMES if sure > SURE_MOTION else np.zeros(2)


def _carried(
    ends: Sequence[Frames], motion: tuple[Vector, Vector], frames: tuple[int, int]
) -> tuple[Picture, Picture, NDArray[np.bool_]]:
    """Both ends as their motion has it so many frames later, and where both are known."""
    there: list[Picture] = []
    for end, velocity, steps in zip(ends, motion, frames, strict=True):
        x, y = velocity * steps * end.shape[1] / THUMB_SIZE[0]
        matrix = np.array([[1, 0, x], [0, 1, y]])
        size = (end.shape[1], end.shape[0])
        picture = cv2.warpAffine(end.astype(np.float32), matrix, size, borderValue=-1000.0)
        there.append(np.asarray(picture, np.float32))
    return there[0], there[1], (there[0] >= 0) & (there[1] >= 0)


_WINDOW = cv2.createHanningWindow(THUMB_SIZE, cv2.CV_32F)


def _replaced(greys: Frames, thumbs: Frames, middle: int, half: int) -> float:
    """Part of the picture whose structure is another after a stretch than before it.

    Titles, exposure and motion change little of it. Both ends are compared where the camera's
    motion puts them in the middle, and where they are: what was measured may be a car's motion.
    """
    ends = greys[middle - half], greys[middle + half]
    still = (np.zeros(2), np.zeros(2))
    motions = (_motion(thumbs, middle, half), still)
    return min(_unlike(*_carried(ends, motion, (half, -half))) for motion in motions)


def _unlike(old: Picture, new: Picture, known: NDArray[np.bool_]) -> float:
    """Part of the known picture where structure was or is, and the two do not correlate."""
    a, b = (np.where(known, x, 0).astype(np.uint8) for x in (old, new))
    fine = [x - blur(x, BLOCK) for x in (moved(a, b), b.astype(np.float32))]
    before, after = (np.maximum(blur(x * x, BLOCK), 0) for x in fine)
    weaker, stronger = np.minimum(before, after), np.maximum(before, after)
    unlike = blur(fine[0] * fine[1], BLOCK) < 0.5 * np.sqrt(before * after)
    gone = weaker * GONE < stronger
    return float(((unlike | gone) & (stronger > FLAT))[known].mean())


def _extent(thumbs: Frames, middle: int, half: int) -> tuple[int, int]:
    """First frame that shows something of the new picture, first that shows nothing of the old."""
    low, high = max(0, middle - 2 * half), min(len(thumbs) - 1, middle + 2 * half)
    a, b = (
        thumbs[i].astype(np.float32)
        for i in (max(low, middle - 3 * half // 2), min(high, middle + 3 * half // 2))
    )
    step = b - a
    along = ((thumbs[low : high + 1] - a) * step).sum((1, 2))
    weights = along / max(1.0, float((step * step).sum()))
    centre = middle - low
    early = np.flatnonzero(weights[:centre] <= 0.02)
    late = np.flatnonzero(weights[centre:] >= 0.98)
    start = low + int(early[-1]) + 1 if len(early) else low
    end = middle + int(late[0]) if len(late) else high
    return start, end
