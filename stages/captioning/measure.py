"""Measurement of a stretch of film: plain numbers, no words.

`captions` of the motion backend say exactly what is in a `Measurement`; see `words`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.captioning import colours, optics
from stages.captioning.colours import Look
from stages.captioning.movers import Mask, Mover, find_movers
from stages.captioning.optics import STILL, Similarity, Step
from stages.reading import pictures
from stages.reading.pictures import Frames

STEPS_PER_SECOND = 8
LOST = 0.2  # share of steps without a camera from which every frame is looked at
JOINT_SECONDS = 0.5  # steps joined for what is too slow to see from one to the next
SLOW_REACH = 8.0  # pixels over such a joint step that flow still follows well
SHAKE_STEPS, SHAKE_LEAST = 16, 4  # about two seconds: slower is no shake
KNOWN = 0.6  # least share of steps in which the camera's motion can be told
PLACE_DRIFT = 0.03  # camera travel up to which first and last frames can be compared
END_FRAMES = 2
CHANGED = 24.0  # grey levels
CHANGE_AREA = 0.004, 0.5  # share of the picture
GROWN = 25  # pixels around movers where changes are theirs
OUTLINE = 5  # pixels
NEAR = 3.0  # pixels
SHIFT = 2  # pixels by which still things may seem to move
CLEARER = 1.3  # ratio of contrast along the outline that tells appearing from vanishing
STIR, STIR_NOISE = 3.0, 6.0  # grey levels, and multiples of the usual, that count as change


@dataclass(frozen=True)
class Camera:
    """The camera's own motion over the stretch.

    Attributes:
        known: whether the picture tells.
        right, down: where the camera turns or travels, shares of the short side.
        closer: natural logarithm of the growth of the picture.
        shake: root mean square of the trembling around the smooth path, share of the short side.
        path: length of the way, whatever its direction, shares of the short side.
    """

    known: bool = True
    right: float = 0.0
    down: float = 0.0
    closer: float = 0.0
    shake: float = 0.0
    path: float = 0.0


@dataclass(frozen=True)
class Motion:
    """A region that moves on its own; see `movers.Mover`. Ways are shares of the short side."""

    x: float
    y: float
    dx: float
    dy: float
    path_x: float
    path_y: float
    area: float
    mass: float
    colour: str


@dataclass(frozen=True)
class Change:
    """A region that changed without having moved there.

    Attributes:
        kind: ``appears`` or ``vanishes``.
        x, y: centre, shares of width and height.
        area: share of the picture.
        colour: of what appeared or vanished.
    """

    kind: str
    x: float
    y: float
    area: float
    colour: str


@dataclass(frozen=True)
class Measurement:
    """All that is known of a stretch of film.

    Attributes:
        seconds: its length.
        motions: independent movers, the weightiest first.
        changes: the largest first; only with a still camera.
        first, last: look of its two ends.
        stir: share of the picture that changed at all, beyond noise; 0 when truly still.
    """

    seconds: float
    camera: Camera
    motions: tuple[Motion, ...]
    changes: tuple[Change, ...]
    first: Look
    last: Look
    stir: float


def measure(frames: Frames, seconds: float) -> Measurement:
    """Measure consecutive frames in full.

    Args:
        frames: uint8 (T, H, W, 3) RGB, T >= 1, evenly spaced; 16 per second are used where the
            camera is fast, 8 else.
        seconds: from the first to the last of them.
    """
    with pictures.one_thread():
        small = pictures.shrink(frames)
        rate = _rate(frames, seconds)
        stride, grey, fast = _steps(small, rate)
        joint = max(1, round(JOINT_SECONDS * rate / stride))
        slow = optics.steps(grey[::joint])
        camera = _camera(fast, slow, joint, grey.shape[1:])
        side = min(grey.shape[1:])
        total = Similarity(camera.closer, 0.0, -camera.right * side, -camera.down * side)
        still = camera.known and max(abs(camera.right), abs(camera.down)) < PLACE_DRIFT
        scales = [(fast, stride), (slow if still else [], stride * joint)]
        motions, ground = _motions(scales, total, small)
        changes = _changes(small, ground) if still else ()
        first, last = colours.look(small[:END_FRAMES]), colours.look(small[-END_FRAMES:])
        return Measurement(seconds, camera, motions, changes, first, last, _stir(grey))


def _rate(frames: Frames, seconds: float) -> float:
    """Frames per second."""
    return (len(frames) - 1) / seconds if seconds > 0 else 0.0


def _steps(small: Frames, rate: float) -> tuple[int, Frames, list[Step]]:
    """Steps of about `STEPS_PER_SECOND`; frame by frame where the camera is too fast for that.

    Returns:
        frames per step, the luma at the steps' ends, and the steps.
    """
    stride = max(1, round(rate / STEPS_PER_SECOND))
    grey = pictures.luma(small[::stride])
    steps = optics.steps(grey)
    lost = sum(step.camera is None for step in steps)
    if stride > 1 and lost > LOST * len(steps):
        grey = pictures.luma(small)
        return 1, grey, optics.steps(grey)
    return stride, grey, steps


def _camera(fast: list[Step], slow: list[Step], joint: int, shape: tuple[int, ...]) -> Camera:
    """Join the steps' models; joint steps see slow motion better, single steps fast motion.

    Args:
        joint: fast steps per slow one.
    """
    known = [step.camera for step in fast if step.camera is not None]
    if not fast:
        return Camera()
    if len(known) < KNOWN * len(fast):
        return Camera(known=False)
    height, width = shape
    path = np.array([[m.tx, m.ty, m.grow] for m in (step.camera or STILL for step in fast)])
    # Steps that cannot be told go on like the others.
    unknown = np.array([step.camera is None for step in fast])
    path[unknown] = path[~unknown].mean(axis=0)
    joined = 0
    total = np.zeros(3)
    for step in slow:
        part = path[joined : joined + joint].sum(axis=0)
        model = step.camera
        if model is not None and max(abs(part[:2])) < SLOW_REACH:
            part = np.array([model.tx, model.ty, model.grow])
        total += part
        joined += joint
    total += path[joined:].sum(axis=0)
    return Camera(
        right=float(-total[0] / min(height, width)),
        down=float(-total[1] / min(height, width)),
        closer=float(total[2]),
        shake=_shake(path[:, :2]) / min(height, width),
        path=float(np.hypot(path[:, 0], path[:, 1]).sum() / min(height, width)),
    )


def _shake(velocity: NDArray[np.float64]) -> float:
    """RMS distance of the camera's path from a parabola, pixels, over `SHAKE_STEPS` at a time."""
    count = max(1, round(len(velocity) / SHAKE_STEPS))
    parts = [part for part in np.array_split(velocity, count) if len(part) >= SHAKE_LEAST]
    squares = []
    for part in parts:
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(part, axis=0)])
        time = np.linspace(-1, 1, len(path))
        smooth = np.polynomial.polynomial.polyfit(time, path, 2)
        rest = path - np.polynomial.polynomial.polyval(time, smooth).T
        squares.append(float((rest**2).sum(axis=1).mean()))
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _motions(
    scales: Sequence[tuple[list[Step], int]], camera: Similarity, small: Frames
) -> tuple[tuple[Motion, ...], Mask]:
    """Movers of all time scales, and where in the picture they have been.

    Args:
        scales: steps with the number of frames per step, the finest first.
    """
    ground = np.zeros(small.shape[1:3], bool)
    found = []
    for number, (steps, stride) in enumerate(scales):
        for mover in find_movers(steps, camera):
            if number and (mover.footprint & ground).any():
                continue
            ground |= mover.footprint
            seen = small[: len(steps) * stride : stride]
            found.append(_motion(mover, colours.own_colour(seen, mover.voxels)))
    return tuple(found), ground


def _motion(mover: Mover, colour: str) -> Motion:
    return Motion(
        x=mover.x,
        y=mover.y,
        dx=mover.dx,
        dy=mover.dy,
        path_x=mover.path_x,
        path_y=mover.path_y,
        area=mover.area,
        mass=mover.mass,
        colour=colour,
    )


def _changes(small: Frames, moved: Mask) -> tuple[Change, ...]:
    """Things that stand in the last frames and not in the first, or the other way round, apart
    from what moved."""
    first, last = (
        end.astype(np.float32).mean(axis=0) for end in (small[:END_FRAMES], small[-END_FRAMES:])
    )
    difference = _difference(first, last)
    changed = difference > CHANGED
    changed &= ~cv2.dilate(moved.astype(np.uint8), np.ones((GROWN, GROWN), np.uint8)).astype(bool)
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, labels, _, centres = cv2.connectedComponentsWithStats(closed)
    found = []
    for label in range(1, count):
        region = labels == label
        area = float(region.mean())
        kind = _kind(first, last, region) if CHANGE_AREA[0] <= area <= CHANGE_AREA[1] else None
        if kind is not None:
            shown = (first if kind == "vanishes" else last).astype(np.uint8)
            x, y = centres[label] / region.shape[::-1]
            # Blurred edges reach into the ground: the colour is read where the change is greatest.
            sure = region & (difference >= np.median(difference[region]))
            colour = colours.own_colour(shown[None], sure[None])
            found.append(Change(kind, float(x), float(y), area, colour))
    return tuple(sorted(found, key=lambda change: -change.area))


def _difference(first: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels (H, W) by which pictures differ that may be shifted by a pixel or two."""
    exposure = np.median(last - first, axis=(0, 1)).astype(np.float32)
    square = np.ones((2 * SHIFT + 1, 2 * SHIFT + 1), np.uint8)
    difference = np.zeros(first.shape[:2], np.float32)
    for one, other in ((first + exposure, last), (last - exposure, first)):
        above = other - cv2.dilate(one, square)
        below = cv2.erode(one, square) - other
        beyond = np.maximum(above, below).max(axis=-1)
        difference = np.maximum(difference, cv2.GaussianBlur(beyond, (0, 0), 1.0))
    return difference


def _kind(first: NDArray[np.float32], last: NDArray[np.float32], region: Mask) -> str | None:
    """What stands out from its surroundings is the thing; what does not is the ground.

    None where both do: something changes there, and it cannot be said what.
    """
    before, after = _outline(first, region), _outline(last, region)
    if after > CLEARER * before:
        return "appears"
    return "vanishes" if before > CLEARER * after else None


def _outline(image: NDArray[np.float32], region: Mask) -> float:
    """Mean colour distance across a region's outline, grey levels."""
    mask = region.astype(np.uint8)
    square = np.ones((OUTLINE, OUTLINE), np.uint8)
    inner, outer = cv2.erode(mask, square) > 0, cv2.dilate(mask, square) == 0
    if not inner.any():
        inner = region
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, square).astype(bool)
    inside, outside = _local_mean(image, inner), _local_mean(image, outer)
    return float(np.linalg.norm(inside - outside, axis=-1)[edge].mean())


def _local_mean(image: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """Mean colour (H, W, 3) of the masked pixels near every pixel."""
    weight = mask.astype(np.float32)[..., None]
    total = cv2.GaussianBlur(image * weight, (0, 0), NEAR)
    return total / (cv2.GaussianBlur(weight, (0, 0), NEAR)[..., None] + 1e-6)


def _stir(grey: Frames) -> float:
    """Share of the picture whose blurred luma leaves its own median by more than noise does."""
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0)[::2, ::2] for frame in grey])
    away = soft.astype(np.float32) - np.median(soft, axis=0)
    away = np.abs(away - np.median(away, axis=(1, 2), keepdims=True))  # less exposure
    return float((away > STIR + STIR_NOISE * np.median(away)).mean())
