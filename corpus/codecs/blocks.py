"""Clips cut into blocks: the start frame into 1x8x8, what follows into 4x8x8. Pixels in [-1, 1]."""

import numpy as np
from numpy.typing import NDArray

from corpus.codecs.base import Frames

TIME, SIDE, COLOURS = 4, 8, 3
Pixels = NDArray[np.float32]


def to_pixels(frames: Frames) -> Pixels:
    return frames.astype(np.float32) / 127.5 - 1.0


def from_pixels(pixels: Pixels) -> Frames:
    levels = pixels + 1.0
    levels *= 127.5  # in place: clips are large
    return np.clip(np.rint(levels, out=levels), 0, 255, out=levels).astype(np.uint8)


def blocks(pixels: Pixels, time: int) -> Pixels:
    """(T, H, W, 3) to (T/time, H/8, W/8, 3, time * 64): each colour of a block in one row."""
    frames, height, width, _ = pixels.shape
    count, rows, columns = frames // time, height // SIDE, width // SIDE
    cut = pixels.reshape(count, time, rows, SIDE, columns, SIDE, COLOURS)
    return cut.transpose(0, 2, 4, 6, 1, 3, 5).reshape(count, rows, columns, COLOURS, -1)


def joined(cut: Pixels, time: int) -> Pixels:
    """Inverse of `blocks`."""
    count, rows, columns = cut.shape[:3]
    parts = cut.reshape(count, rows, columns, COLOURS, time, SIDE, SIDE)
    return parts.transpose(0, 4, 1, 5, 2, 6, 3).reshape(
        count * time, rows * SIDE, columns * SIDE, COLOURS
    )
