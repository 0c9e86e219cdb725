"""What moves between two frames: dense flow, and the camera's part of it.

Everything works on small frames (`pictures.shrink`), so that the cost does not depend on the
clip's size, and clips of 24 pixels work like those of 448. Deterministic: no random sampling, one
thread.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.reading.pictures import MEDIUM, Float, Frames, flows

SPARSE = 3  # pixels between those that medians are taken of
GRID = 6  # pixels between the points that vote for the camera's motion
CELLS = 6, 8  # every cell of this raster (short x long side) has one vote, however much texture
TEXTURE = 0.004  # root of the structure tensor's smaller eigenvalue below which flow is a guess
MIN_POINTS = 12
ROBUST_SCALES = (3.0, 1.5, 0.75, 0.5, 0.35, 0.35, 0.35, 0.35)  # pixels; narrowing inlier kernel
# Between a point's flow and the camera model it votes for: pixels, and a share of the motion, since
# a turning lens moves its edges faster than its middle.
AGREE, AGREE_SHARE = 0.6, 0.15
STILL_SHARE = 0.5  # a still camera wins if it alone explains this share of what the other does
MIN_VOTES = 0.25  # below this nothing can be said of the camera
BETTER = 0.8  # error of a camera model, as a share of the still one's, that counts as better
MORE_BETTER = 2.0  # times as many cells must get better as get worse
QUIET, QUIET_SHARE = 4.0, 0.7  # grey levels, or share of a cell's contrast, that is no change
STILL_CELLS = 0.5  # least share of quiet cells under a still camera


@dataclass(frozen=True)
class Similarity:
    """How content moves: dx = grow x - turn y + tx, dy = turn x + grow y + ty.

    Pixels of the small frame from its centre; x to the right, y down.
    """

    grow: float = 0.0
    turn: float = 0.0
    tx: float = 0.0
    ty: float = 0.0

    def flow(self, x: Float, y: Float) -> Float:
        """Displacement (..., 2) of points."""
        dx = self.grow * x - self.turn * y + self.tx
        dy = self.turn * x + self.grow * y + self.ty
        return np.stack([dx, dy], axis=-1).astype(np.float32)

    def reach(self, height: int, width: int) -> float:
        """Largest displacement along one axis anywhere in a picture, pixels."""
        x, y = width / 2, height / 2
        across = abs(self.tx) + abs(self.grow) * x + abs(self.turn) * y
        return max(across, abs(self.ty) + abs(self.grow) * y + abs(self.turn) * x)


STILL = Similarity()


@dataclass(frozen=True)
class Step:
    """From one frame to the next.

    Attributes:
        camera: how the camera moves the picture; None where the picture does not tell.
        residual: (H, W, 2) flow beyond the camera's, pixels, on the earlier frame's grid.
        change: (H, W) grey levels by which content changes if only the camera moves, same grid.
        unexplained: the same if everything follows its own flow.
    """

    camera: Similarity | None
    residual: Float
    change: Float
    unexplained: Float


def steps(grey: Frames, preset: int = MEDIUM) -> list[Step]:
    """One `Step` per consecutive pair of (T, H, W) frames."""
    pairs = zip(pairwise(grey), flows(grey, preset), strict=True)
    return [step(before, after, flow) for (before, after), flow in pairs]


def step(before: Frames, after: Frames, flow: Float) -> Step:
    """Part a dense flow (H, W, 2) into the camera's motion and the rest."""
    height, width = before.shape
    x, y = _centred(height, width)
    camera = estimate_camera(before, after, flow)
    moved = (camera or STILL).flow(x, y)
    return Step(
        camera,
        flow - moved,
        _difference(before, after, moved),
        _difference(before, after, flow),
    )


def estimate_camera(before: Frames, after: Frames, flow: Float) -> Similarity | None:
    """The motion that most of the picture shares, or None where it shares none.

    A still camera wins where it alone explains enough of the flow, and where moving the picture
    does not bring it closer to the next one: a large mover drags the flow of plain ground along.

    Args:
        before, after: (H, W) luma; only textured points count.
        flow: (H, W, 2) pixels.
    """
    height, width = before.shape
    ys, xs = (
        axis.ravel() for axis in np.mgrid[GRID // 2 : height : GRID, GRID // 2 : width : GRID]
    )
    textured = np.sqrt(np.maximum(cv2.cornerMinEigenVal(before, 5), 0))[ys, xs] > TEXTURE
    ys, xs = ys[textured], xs[textured]
    if len(xs) < MIN_POINTS:
        return STILL
    points = np.stack([xs - (width / 2 - 0.5), ys - (height / 2 - 0.5)], axis=-1)
    rows, columns = CELLS if width >= height else CELLS[::-1]
    cells = (ys * rows // height) * columns + xs * columns // width
    ballot = _Ballot(points, flow[ys, xs].astype(np.float64), cells)
    moving = max(map(ballot.fit, ballot.starts()), key=ballot.votes)
    x, y = _centred(height, width)
    rest = np.abs(_difference(before, after, moving.flow(x, y)))[ys, xs]
    rest_still = np.abs(_difference(before, after, STILL.flow(x, y)))[ys, xs]
    alone = ballot.votes(STILL, but_not=moving), ballot.votes(moving, but_not=STILL)
    if alone[0] >= STILL_SHARE * alone[1] or not ballot.closer(rest, rest_still):
        quiet = ballot.quiet(rest_still, before[ys, xs])
        return STILL if quiet >= STILL_CELLS else None
    return moving if ballot.votes(moving) >= MIN_VOTES else None


class _Ballot:
    """Points with their flow, grouped in cells of equal weight."""

    def __init__(
        self, points: NDArray[np.float64], flow: NDArray[np.float64], cells: NDArray[np.int64]
    ) -> None:
        self.points, self.flow = points, flow
        _, self.cells, self.members = np.unique(cells, return_inverse=True, return_counts=True)
        self.weight = 1 / self.members[self.cells]

    def starts(self) -> list[Similarity]:
        tx, ty = np.median(self.flow, axis=0)
        middle = Similarity(tx=float(tx), ty=float(ty))
        return [STILL] if max(abs(tx), abs(ty)) < AGREE else [middle, STILL]

    def votes(self, model: Similarity, but_not: Similarity | None = None) -> float:
        """Mean over the cells of the share of points that agree with a model (alone), 0 to 1."""
        agree = self._error(model) < self._tolerance(model)
        if but_not is not None:
            agree &= self._error(but_not) >= self._tolerance(but_not)
        return float((np.bincount(self.cells, weights=agree) / self.members).mean())

    def closer(self, error: Float, error_still: Float) -> bool:
        """Whether a model leaves smaller errors (per point, grey levels) than a still camera."""
        moved, still = (np.bincount(self.cells, weights=e) for e in (error, error_still))
        better, worse = (moved < BETTER * still).sum(), (moved * BETTER > still).sum()
        return bool(better > MORE_BETTER * worse)

    def fit(self, model: Similarity) -> Similarity:
        """Iteratively reweighted least squares with a narrowing kernel."""
        for scale in ROBUST_SCALES:
            width = scale + self._tolerance(model) - AGREE
            kernel = 1 / (1 + (self._error(model) / width) ** 2) ** 2
            model = self._least_squares(self.weight * kernel)
        return model

    def quiet(self, error: Float, grey: NDArray[np.uint8]) -> float:
        """Share of the cells that an error (per point, grey levels) hardly touches."""
        mean = np.bincount(self.cells, weights=error) / self.members
        level = np.bincount(self.cells, weights=grey) / self.members
        away = np.abs(grey - level[self.cells])
        contrast = np.bincount(self.cells, weights=away) / self.members
        return float((mean < np.maximum(QUIET, QUIET_SHARE * contrast)).mean())

    def _tolerance(self, model: Similarity) -> NDArray[np.float64]:
        """Pixels by which each point's flow may miss a model that it agrees with."""
        x, y = self.points.T
        across, down = model.grow * x - model.turn * y, model.turn * x + model.grow * y
        return AGREE + AGREE_SHARE * np.hypot(across + model.tx, down + model.ty)

    def _error(self, model: Similarity) -> NDArray[np.float64]:
        (x, y), (u, v) = self.points.T, self.flow.T
        across = model.grow * x - model.turn * y + model.tx - u
        down = model.turn * x + model.grow * y + model.ty - v
        return np.sqrt(across * across + down * down)

    def _least_squares(self, weight: NDArray[np.float64]) -> Similarity:
        """Closed form of the weighted similarity fit."""
        weight = weight / max(weight.sum(), 1e-12)
        middle, shift = weight @ self.points, weight @ self.flow
        (x, y), (u, v) = (self.points - middle).T, (self.flow - shift).T
        extent = max(float(weight @ (x * x + y * y)), 1e-9)
        grow = float(weight @ (x * u + y * v)) / extent
        turn = float(weight @ (x * v - y * u)) / extent
        tx = shift[0] - grow * middle[0] + turn * middle[1]
        ty = shift[1] - turn * middle[0] - grow * middle[1]
        return Similarity(grow, turn, float(tx), float(ty))


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[Float, Float]:
    """x and y of every pixel."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x, y


@lru_cache(maxsize=8)
def _centred(height: int, width: int) -> tuple[Float, Float]:
    """The same, from the centre."""
    x, y = _grid(height, width)
    return x - np.float32(width / 2 - 0.5), y - np.float32(height / 2 - 0.5)


def _difference(before: Frames, after: Frames, flow: Float) -> Float:
    """Grey levels that content changes by on its way along a flow, less their median (exposure).

    On the earlier frame's grid; 0 where the flow leaves the picture.
    """
    height, width = before.shape
    x, y = _grid(height, width)
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    arrived = cv2.remap(after, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = arrived.astype(np.float32) - before
    inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    some = difference[::SPARSE, ::SPARSE][inside[::SPARSE, ::SPARSE]]
    exposure = np.float32(np.median(some)) if some.size else np.float32(0)
    return np.where(inside, difference - exposure, np.float32(0))
