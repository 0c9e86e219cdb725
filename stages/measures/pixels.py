"""What a clip's pixels are worth: motion, shake, frozen and black frames, bars, blur, light.

Every score is a number that a threshold can be set on (`stages.filters`):

========== =========== ==========================================================================
motion     0 to ~3     mean length of the optical flow, short sides of the picture per second
shake      0 to ~0.1   how far the camera trembles around its smooth path, share of the short side
frozen     0 to 1      share of the time that stands still for `HOLD` seconds or longer
black      0 to 1      share of the frames that are black
letterbox  0 to 1      share of the height that two black bars take, above and below
pillarbox  0 to 1      share of the width that two black bars take, left and right
blur       0 to 1      Crete's measure: 0 is sharp, 1 is nothing but blur
brightness 0 to 1      mean luma
contrast   0 to 0.5    standard deviation of luma within a frame, mean over frames
========== =========== ==========================================================================

All of it works on luma of frames at `RATE` per second, most of it on small ones.
"""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.reading import pictures
from stages.reading.pictures import Frames

NAMES = (
    *("motion", "shake", "frozen", "black", "letterbox", "pillarbox"),
    *("blur", "brightness", "contrast"),
)
RATE = 8.0  # frames per second that are looked at; a trembling hand moves at 2 to 8 Hz
SHORT = 96  # short side of the small pictures
SPARSE = 3  # pixels between those whose flow counts
CLOSE = 6  # frames that are looked at in full size
TEXTURE = 12.0  # grey levels of a Sobel gradient from which flow is more than a guess
LEAST_TEXTURE = 0.02  # share of the picture
SMOOTH_SECONDS = 1.0  # over which a camera's path is taken to be a parabola
LEAST_PATH = 5  # places of the camera that trembling can be told from
HOLD = 0.5  # seconds: drawn films hold each picture for up to a third of one
STILL = 1.0  # grey levels of change, of the block that changes most
BLOCK = 8  # pixels a side
BAR = 24  # grey levels
BAR_SHARE = 98.0  # percent of a line's pixels that are no brighter
BOX = 9  # pixels that Crete's measure blurs over


def shrink(frames: Frames) -> tuple[Frames, Frames]:
    """Luma (T, H, W) of frames (T, H, W, 3), and the same with a short side of `SHORT`."""
    luma = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    _, height, width = luma.shape
    scale = SHORT / min(height, width)
    size = round(width * scale), round(height * scale)
    return luma, np.stack([_smaller(frame, size) for frame in luma])


def _smaller(frame: Frames, size: tuple[int, int]) -> Frames:
    """Halved while that does not go too far, then interpolated: means over whole pixels are quick,
    those over parts of pixels slow."""
    height, width = frame.shape
    while min(width // size[0], height // size[1]) >= 2:
        width, height = width // 2, height // 2
        whole = frame[: 2 * height, : 2 * width]
        halved = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        frame = np.asarray(halved, np.uint8)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def scores(luma: Frames, small: Frames, rate: float) -> dict[str, float]:
    """All of `NAMES`.

    Args:
        luma, small: of consecutive frames, see `shrink`.
        rate: frames per second.
    """
    moved, path = _flow(small)
    side = min(small.shape[1:])
    close = luma[spread(len(luma), CLOSE)]
    above, beside = bars(close)
    return {
        "motion": moved * rate / side,
        "shake": _shake(path, rate) / side,
        "frozen": _frozen(small, rate),
        "black": float(pictures.dark(small).mean()),
        "letterbox": above / luma.shape[1],
        "pillarbox": beside / luma.shape[2],
        "blur": float(np.median([blur(frame) for frame in close])),
        "brightness": float(small.mean()) / 255,
        "contrast": float(small.std(axis=(1, 2)).mean()) / 255,
    }


def spread(length: int, count: int) -> list[int]:
    """Middles of ``count`` equal parts of a range, or all of a shorter one."""
    count = min(count, length)
    return [int((part + 0.5) * length / count) for part in range(count)]


def _flow(small: Frames) -> tuple[float, NDArray[np.float64]]:
    """Mean length of the flow from frame to frame, and the camera's places (T, 2); in pixels.

    The camera moves as the median of what has texture; where hardly anything has, it stands.
    """
    lengths, ways = [0.0], [np.zeros(2)]
    for before, dense in zip(small, pictures.flows(small, pictures.FASTEST), strict=False):
        flow = dense[::SPARSE, ::SPARSE]
        lengths.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
        slopes = [cv2.Sobel(before, cv2.CV_32F, *way) for way in ((1, 0), (0, 1))]
        across, down = (np.abs(slope[::SPARSE, ::SPARSE]) for slope in slopes)
        rich = np.maximum(across, down) > TEXTURE
        ways.append(np.median(flow[rich], axis=0) if rich.mean() > LEAST_TEXTURE else np.zeros(2))
    count = max(1, len(lengths) - 1)
    return sum(lengths) / count, np.cumsum(np.array(ways, np.float64), axis=0)


def _shake(path: NDArray[np.float64], rate: float) -> float:
    """Pixels (RMS) around the smooth path, in the median second: one bump is no shake."""
    from scipy.signal import savgol_filter  # takes .7 s to load, and not every process measures

    if len(path) < LEAST_PATH:
        return 0.0
    window = min(round(SMOOTH_SECONDS * rate) | 1, (len(path) - 1) | 1)
    rest = path - savgol_filter(path, window, 2, axis=0, mode="interp")
    parts = np.array_split((rest**2).sum(axis=1), max(1, round(len(path) / rate)))
    return float(np.median([np.sqrt(part.mean()) for part in parts]))


def _frozen(small: Frames, rate: float) -> float:
    still = [_change(a, b) < STILL for a, b in pairwise(small)]
    least, held, run = HOLD * rate, 0, 0
    for one in (*still, False):
        if one:
            run += 1
            continue
        held += run if run >= least else 0
        run = 0
    return held / len(still) if still else 0.0


def _change(before: Frames, after: Frames) -> float:
    """Grey levels (mean over a block) by which the block changes that changes most."""
    height, width = before.shape
    size = -(-width // BLOCK), -(-height // BLOCK)
    away = cv2.absdiff(before, after).astype(np.float32)
    return float(cv2.resize(away, size, interpolation=cv2.INTER_AREA).max())


def bars(luma: Frames) -> tuple[int, int]:
    """Rows and columns that pairs of black bars take: twice the narrower of two opposite ones.

    Args:
        luma: (T, H, W) some frames of the clip; a line belongs to a bar if it is black in all.

    A picture that is dark on one side has no bars, nor has one that is dark all over.
    """
    brightest = luma.max(axis=0)
    rows = np.percentile(brightest, BAR_SHARE, axis=1) <= BAR
    if rows.all():
        return 0, 0
    above = _pair(rows)
    inner = brightest[above // 2 : len(rows) - above // 2]
    return above, _pair(np.percentile(inner, BAR_SHARE, axis=0) <= BAR)


def _pair(dark: NDArray[np.bool_]) -> int:
    bright = np.flatnonzero(~dark)
    return 2 * int(min(bright[0], len(dark) - 1 - bright[-1])) if len(bright) else 0


def blur(luma: Frames) -> float:
    """The blur of one picture (H, W), whatever its contrast.

    Crete, Dolmiere, Ladret, Nicolas: The blur effect (SPIE 6492, 2007). A sharp picture loses much
    of the differences between neighbours when it is blurred once more, a blurred one little.
    """
    picture = luma.astype(np.float32)
    found = 0.0
    for axis, box in ((0, (1, BOX)), (1, (BOX, 1))):
        before = np.abs(np.diff(picture, axis=axis))
        after = np.abs(np.diff(cv2.blur(picture, box), axis=axis))
        total = float(before.sum())
        lost = float(np.maximum(0, before - after).sum())
        found = max(found, (total - lost) / total if total else 1.0)
    return found
