"""Measurement of a stretch of film: plain numbers, no words.

`captions` of the motion backend say exactly what is in a `Measurement`; see `words`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.captioning import colours, optics
from stages.captioning.colours import Look
from stages.captioning.movers import Mask, Mover, find_movers
from stages.captioning.optics import STILL, Frames, Step

SLOW = 4  # steps joined for what is too slow to see from one to the next
SLOW_REACH = 8.0  # pixels over such a joint step that flow still follows well
KNOWN = 0.6  # least share of steps in which the camera's motion can be told
PLACE_DRIFT = 0.03  # camera travel up to which first and last frames can be compared
END_FRAMES = 2
CHANGED = 24.0  # grey levels
CHANGE_AREA = 0.004, 0.5  # share of the picture
GROWN = 9  # pixels around movers where changes are theirs
OUTLINE = 3  # pixels
CLEARER = 1.5  # ratio of contrast along the outline that tells appearing from vanishing
STIR = 3.0  # grey levels that count as any change at all


@dataclass(frozen=True)
class Camera:
    """The camera's own motion over the stretch.

    Attributes:
        known: whether the picture tells.
        right, down: where the camera turns or travels, shares of width and height.
        closer: natural logarithm of the growth of the picture.
        shake: root mean square of the trembling around the smooth path, share of the short side.
    """

    known: bool = True
    right: float = 0.0
    down: float = 0.0
    closer: float = 0.0
    shake: float = 0.0


@dataclass(frozen=True)
class Motion:
    """A region that moves on its own; units as in `movers.Mover`."""

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
        kind: ``appears``, ``vanishes``, or ``changes`` where it cannot be told.
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
    """Measure consecutive frames.

    Args:
        frames: uint8 (T, H, W, 3) RGB, T >= 1, evenly spaced, about 8 per second.
        seconds: from the first to the last of them.
    """
    with optics.one_thread():
        small = optics.shrink(frames)
        grey = optics.luma(small)
        fast, slow = optics.steps(grey), optics.steps(grey[::SLOW])
        camera = _camera(fast, slow, grey.shape[1:])
        names = colours.name_pixels(small)
        still = camera.known and max(abs(camera.right), abs(camera.down)) < PLACE_DRIFT
        motions, ground = _motions(fast, slow if still else [], names)
        changes = _changes(small, ground) if still else ()
        return Measurement(
            seconds=seconds,
            camera=camera,
            motions=motions,
            changes=changes,
            first=colours.look(small[:END_FRAMES]),
            last=colours.look(small[-END_FRAMES:]),
            stir=_stir(grey),
        )


def _camera(fast: list[Step], slow: list[Step], shape: tuple[int, ...]) -> Camera:
    """Join the steps' models; joint steps see slow motion better, single steps fast motion."""
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
        part = path[joined : joined + SLOW].sum(axis=0)
        model = step.camera
        if model is not None and max(abs(part[:2])) < SLOW_REACH:
            part = np.array([model.tx, model.ty, model.grow])
        total += part
        joined += SLOW
    total += path[joined:].sum(axis=0)
    return Camera(
        right=float(-total[0] / width),
        down=float(-total[1] / height),
        closer=float(total[2]),
        shake=_shake(path[:, :2]) / min(height, width),
    )


def _shake(velocity: NDArray[np.float64]) -> float:
    """RMS distance of the camera's path from its best parabola, pixels."""
    if len(velocity) < SLOW:
        return 0.0
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(velocity, axis=0)])
    time = np.linspace(-1, 1, len(path))
    smooth = np.polynomial.polynomial.polyfit(time, path, 2)
    rest = path - np.polynomial.polynomial.polyval(time, smooth).T
    return float(np.sqrt((rest**2).sum(axis=1).mean()))


def _motions(
    fast: list[Step], slow: list[Step], names: NDArray[np.uint8]
) -> tuple[tuple[Motion, ...], Mask]:
    """Movers of both time scales, and where in the picture they have been."""
    ground = np.zeros(names.shape[1:], bool)
    found = []
    for steps, stride in ((fast, 1), (slow, SLOW)):
        for mover in find_movers(steps):
            if stride > 1 and (mover.footprint & ground).any():
                continue
            ground |= mover.footprint
            seen = names[: len(steps) * stride : stride]
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
    """Regions that differ between the first and last frames, apart from what moved."""
    first, last = (
        end.astype(np.float32).mean(axis=0) for end in (small[:END_FRAMES], small[-END_FRAMES:])
    )
    difference = last - first
    difference -= np.median(difference, axis=(0, 1))
    changed = cv2.GaussianBlur(np.abs(difference).max(axis=-1), (0, 0), 1.0) > CHANGED
    changed &= ~cv2.dilate(moved.astype(np.uint8), np.ones((GROWN, GROWN), np.uint8)).astype(bool)
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, labels, _stats, centres = cv2.connectedComponentsWithStats(closed)
    height, width = changed.shape
    found = []
    for label in range(1, count):
        region = labels == label
        area = region.sum() / region.size
        if CHANGE_AREA[0] <= area <= CHANGE_AREA[1]:
            kind = _kind(first, last, region)
            shown = first if kind == "vanishes" else last
            names = colours.name_pixels(shown.astype(np.uint8))[None]
            x, y = centres[label]
            colour = colours.own_colour(names, region[None])
            found.append(Change(kind, float(x / width), float(y / height), float(area), colour))
    return tuple(sorted(found, key=lambda change: -change.area))


def _kind(first: NDArray[np.float32], last: NDArray[np.float32], region: Mask) -> str:
    """What stands out from its surroundings is the thing; what does not is the ground."""
    mask = region.astype(np.uint8)
    square = np.ones((OUTLINE, OUTLINE), np.uint8)
    edge = (cv2.dilate(mask, square) > 0) & (cv2.erode(mask, square) == 0)
    before, after = (_contrast(image)[edge].mean() for image in (first, last))
    if after > CLEARER * before:
        return "appears"
    return "vanishes" if before > CLEARER * after else "changes"


def _contrast(image: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = cv2.GaussianBlur(image.mean(axis=-1), (0, 0), 1.0)
    return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def _stir(grey: Frames) -> float:
    """Share of the picture whose blurred luma leaves its own median by more than noise does."""
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in grey]).astype(np.float32)
    away = np.abs(soft - np.median(soft, axis=0))
    noise = 1.4826 * np.median(away)
    return float((away > STIR + 4 * noise).mean())
