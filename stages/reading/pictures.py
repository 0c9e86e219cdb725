"""Pictures made small, grey and comparable: how they move, and what changed beyond that.

The small pictures of a film (shots) and the frames of a clip (segments, captions) are looked at
with these.
"""

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from corpus.video import Frames

Float = NDArray[np.float32]
Picture = Float

THUMB_SIZE = (64, 36)  # width, height of the thumbnails that a whole film is searched in
FLOW_SIZE = (128, 72)  # of the pictures that are compared closely
BLACK = 12.0  # mean grey level below which a picture is black, unless something in it is bright
NOISE = 1.0  # grey levels of difference that coding alone makes
SURROUND = 33  # pixels over which brightness is levelled out before pictures are compared
MOST_GAIN = 2.5  # change of contrast that exposure may explain
SHORT_SIDE = 128  # pixels of a clip's frames that are looked at
BLUR = 1.0  # pixels; against sensor noise and compression
FASTEST, FAST, MEDIUM = 0, 1, 2  # presets of OpenCV's DIS flow


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread: DIS flow depends on how many threads share the picture."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def shrink(frames: Frames) -> Frames:
    """Frames (T, H, W, 3) with a short side of `SHORT_SIDE`; small ones are enlarged."""
    _, height, width, _ = frames.shape
    scale = SHORT_SIDE / min(height, width)
    size = round(width * scale), round(height * scale)
    if size == (width, height):
        return frames
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames])


def luma(frames: Frames) -> Frames:
    """Luma (T, H, W) of RGB frames, slightly blurred."""
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), BLUR) for frame in grey])


def flows(grey: Frames, preset: int = MEDIUM) -> list[Float]:
    """Dense flow (H, W, 2) in pixels between consecutive (T, H, W) frames."""
    engine = cv2.DISOpticalFlow.create(preset)
    start = np.zeros((*grey.shape[1:], 2), np.float32)
    pairs = pairwise(grey)
    return [np.asarray(engine.calc(a, b, start.copy()), np.float32) for a, b in pairs]


def grey(frame: Frames, size: tuple[int, int]) -> Frames:
    """A frame (H, W, 3) in grey at another size, (width, height)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def dark(thumbs: Frames, floor: float = BLACK) -> NDArray[np.bool_]:
    """Which pictures are black: dark on average, and hardly anything in them is bright."""
    black = thumbs.mean((1, 2)) < floor
    for index in np.flatnonzero(black):
        black[index] = np.percentile(thumbs[index], 95) < 2 * floor
    return black


def blur(picture: NDArray[Any], size: int) -> Picture:
    """Mean over a square."""
    return np.asarray(cv2.blur(np.asarray(picture, np.float32), (size, size)), np.float32)


_Y, _X = np.mgrid[0 : FLOW_SIZE[1], 0 : FLOW_SIZE[0]].astype(np.float32)


def difference(a: Frames, b: Frames) -> float:
    """Mean difference of two grey pictures that neither motion nor exposure explains."""
    old, new = _levelled(moved(a, b), b)
    return float(np.abs(old - new).mean())


def _levelled(a: Picture, b: Frames) -> tuple[Picture, Picture]:
    """Both pictures without their slow changes of brightness, a with the contrast of b."""
    fine_a, fine_b = (np.float32(x) - blur(x, SURROUND) for x in (a, b))
    gain = (float(fine_b.std()) + NOISE) / (float(fine_a.std()) + NOISE)
    return fine_a * np.clip(gain, 1 / MOST_GAIN, MOST_GAIN), fine_b


def moved(a: Frames, b: Frames) -> Picture:
    """Picture a with its parts moved to where they are in picture b."""
    (flow,) = flows(np.stack([b, a]), FASTEST)
    x, y = _X + flow[..., 0], _Y + flow[..., 1]
    there = cv2.remap(a, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return there.astype(np.float32)
