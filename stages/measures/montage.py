"""One picture of what happens in a segment: some of its frames, and what changed between them.

One still cannot tell left from right, and a mean over stills forgets their order. A montage is a
square of 3 x 3 cells in reading order: five frames, the first of which is the picture on show as
the segment begins, and between each two of them their difference. Grey is no change.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.reading.pictures import one_thread

VERSION = "1"
SIDE = 3  # cells
FRAMES = 5

Picture = NDArray[np.uint8]


def chosen(span: range) -> list[int]:
    """`FRAMES` frames of a segment, the one before it first and its last one last.

    Args:
        span: the segment's frames; one that is shorter shows frames several times.
    """
    before = span.start - 1
    return [before + round(step * len(span) / (FRAMES - 1)) for step in range(FRAMES)]


def montage(frames: Sequence[Picture], side: int) -> Picture:
    """The picture, uint8 (side, side, 3).

    Args:
        frames: `FRAMES` of them, uint8 (H, W, 3); each is squeezed into a square.
        side: pixels, at least `SIDE`; what `SIDE` does not divide stays grey.
    """
    cell = side // SIDE
    with one_thread():
        cells = [
            np.asarray(cv2.resize(frame, (cell, cell), interpolation=cv2.INTER_AREA), np.uint8)
            for frame in frames
        ]
    shown = [cells[0]]
    for one, other in pairwise(cells):
        shown += [_difference(one, other), other]
    picture = np.full((side, side, 3), 128, np.uint8)
    for place, part in enumerate(shown):
        top, left = cell * (place // SIDE), cell * (place % SIDE)
        picture[top : top + cell, left : left + cell] = part
    return picture


def _difference(one: Picture, other: Picture) -> Picture:
    """Half of what changed, around grey: black to white is 255, white to black is 1."""
    return np.asarray((other.astype(np.int16) - one + 256) // 2, np.uint8)
