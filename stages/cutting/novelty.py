"""How much is new at each boundary between chunks: where to cut a clip into actions."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.reading import pictures

SIDE = 12  # appearance is a thumbnail of this many pixels a side
AROUND = 0.75  # seconds on each side of a boundary that are compared
NEAR = 3  # boundaries over which a peak must stand out


def novelty(
    frames: pictures.Frames, rate: float, chunks: int, chunk_seconds: float
) -> NDArray[np.float64]:
    """Change of flow energy and of appearance at the inner boundaries of a clip.

    Args:
        frames: uint8 (T, H, W, 3), the clip from frame 0 on.
        rate: frames per second.

    Returns:
        (chunks - 1,): element i belongs to the boundary between chunk i and i + 1; at least 0,
        and greater than 0 only at local peaks, each kind scaled by its own mean.
    """
    if chunks < 2:
        return np.zeros(0)
    with pictures.one_thread():
        small = pictures.shrink(frames)
        energy = np.log1p(_flow_energy(pictures.luma(small)))
        looks = _thumbnails(small)
    total = np.zeros(chunks - 1)
    for series in (energy, looks):
        change = np.array(
            [_step(series, i * chunk_seconds * rate, AROUND * rate) for i in range(1, chunks)]
        )
        total += _peaks(change) / max(float(change.mean()), 1e-6)
    return total


def _flow_energy(grey: pictures.Frames) -> NDArray[np.float64]:
    """(T, 1) mean flow in pixels; the first frame shares the second's."""
    flows = pictures.flows(grey, pictures.FAST)
    means = [float(np.hypot(flow[..., 0], flow[..., 1]).mean()) for flow in flows]
    return np.array([means[:1] + means]).T if means else np.zeros((len(grey), 1))


def _thumbnails(small: pictures.Frames) -> NDArray[np.float64]:
    """(T, SIDE * SIDE * 3) pictures at a glance, 0 to 1."""
    tiny = [cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in small]
    return np.stack(tiny).reshape(len(tiny), -1) / 255.0


def _step(series: NDArray[np.float64], at: float, around: float) -> float:
    """Distance between the means of a series before and after a moment (frame units)."""
    middle, reach = round(at), max(1, round(around))
    before = series[max(0, middle - reach) : max(1, middle)]
    after = series[min(middle, len(series) - 1) : middle + reach]
    return float(np.abs(after.mean(axis=0) - before.mean(axis=0)).mean())


def _peaks(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero everything that is not the greatest within `NEAR` boundaries."""
    padded = np.pad(change, NEAR, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEAR + 1)
    return np.where(change >= windows.max(axis=1), change, 0.0)
