"""Comparing pictures of a proxy: what changed that neither motion nor exposure explains."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from corpus.video import Frames

Picture = NDArray[np.float32]

THUMB_SIZE = (64, 36)  # width, height of the thumbnails that a whole film is searched in
FLOW_SIZE = (128, 72)  # of the pictures that are compared closely
BLACK = 12.0  # mean grey level below which a picture is black, unless something in it is bright
NOISE = 1.0  # grey levels of difference that coding alone makes
SURROUND = 33  # pixels over which brightness is levelled out before pictures are compared
MOST_GAIN = 2.5  # change of contrast that exposure may explain


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


_FLOW = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
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
    flow = _FLOW.calc(b, a, np.zeros((*a.shape, 2), np.float32))
    x, y = _X + flow[..., 0], _Y + flow[..., 1]
    there = cv2.remap(a, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return there.astype(np.float32)
