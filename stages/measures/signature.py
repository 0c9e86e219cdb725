"""The signature of a clip: what it shows and how that changes, in 255 small whole numbers.

Eight small grey pictures, spread evenly over the clip, go through a cosine transform over time,
height and width, as in video hashing (Coskun, Sankur, Memon: Spatio-temporal transform based video
hashing, 2006), but kept as numbers, not bits. Of it are kept

* ``picture``: 63 lowest frequencies that do not change over time, without the mean level,
* ``change``: 192 lowest that do.

Both are divided by the size of ``picture``, so that brightness and contrast do not matter. Two
clips are as alike as the less alike of the two parts: two windows of one shot with a fixed camera
show the same picture and change otherwise.
"""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from stages.measures.pixels import spread
from stages.reading.pictures import Frames

VERSION = "1"
MOMENTS, SIDE = 8, 16  # pictures, and pixels of their sides
KEPT_MOMENTS, KEPT = 4, 8  # lowest frequencies over time, and over height and width
PICTURE = KEPT * KEPT - 1
LENGTH = PICTURE + (KEPT_MOMENTS - 1) * KEPT * KEPT
UNIT = 1000  # length of the picture part: sums of its numbers stay whole, on every machine
FLAT = 4.0  # grey levels of contrast below which a picture is any picture
NOISE = 1.0  # grey levels of change that coding alone makes
MOST = 32767

Signatures = NDArray[np.int16]


def signature(small: Frames) -> str:
    """Base64 of `LENGTH` int16; "" for a clip that shows too little to be told from others.

    Args:
        small: (T, H, W) luma of the whole clip.
    """
    moments = small[spread(len(small), MOMENTS)]
    moments = moments[np.arange(MOMENTS) * len(moments) // MOMENTS]
    tiny = [cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in moments]
    waves = dctn(np.stack(tiny).astype(np.float64), norm="ortho")
    low = waves[:KEPT_MOMENTS, :KEPT, :KEPT].reshape(KEPT_MOMENTS, -1)
    size = float(np.linalg.norm(low[0, 1:]))
    if size < FLAT * _ONE_LEVEL:
        return ""
    # The noise goes along as a number of its own place: the mean level, which nothing reads.
    values = np.concatenate([low[0, 1:], low[1:].ravel()]) / size * UNIT
    noise = NOISE * _ONE_LEVEL / size * UNIT
    whole = np.round([*values, noise]).clip(-MOST, MOST).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode("ascii")


_ONE_LEVEL = float(np.sqrt(MOMENTS) * SIDE)  # what a grey level of contrast adds to the waves


def read(signatures: list[str]) -> Signatures:
    """(N, LENGTH + 1) of signatures that are not empty; the last column is the noise."""
    found = [np.frombuffer(base64.b64decode(one), "<i2") for one in signatures]
    return np.stack(found) if found else np.zeros((0, LENGTH + 1), np.int16)


def picture_part(signatures: Signatures) -> NDArray[np.float32]:
    """(N, PICTURE); whole numbers whose products add up exactly, in any order, in float32."""
    return signatures[:, :PICTURE].astype(np.float32)


def picture_likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) cosines of picture parts of pairs."""
    products, squares, others = (np.einsum("ij,ij->i", *two) for two in ((a, b), (a, a), (b, b)))
    return products / np.sqrt(squares.astype(np.float64) * others)


def change_likeness(a: Signatures, b: Signatures) -> NDArray[np.float64]:
    """(N,) likeness of the change parts of pairs: products over mean squares, so that one must
    change as much as the other; what noise alone makes counts as equal."""
    one, other = (part[:, PICTURE:LENGTH].astype(np.float64) for part in (a, b))
    floor = a[:, LENGTH].astype(np.float64) * b[:, LENGTH]
    squares = ((one * one).sum(1) + (other * other).sum(1)) / 2
    return np.asarray(((one * other).sum(1) + floor) / (squares + floor), np.float64)
