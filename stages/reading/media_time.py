"""Presentation time: which picture of a film is on show when.

A film's timing is its table of timestamps: int64 ticks, strictly increasing, one per decoded
picture. A picture is on show from its own timestamp to the next one's. Seconds are ticks times the
time base; all comparisons are made in exact fractions.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus.files import writing

Ticks = NDArray[np.int64]

# Containers round times to their ticks; nobody sees a millisecond.
MOST_TOLERANCE = Fraction(1, 1000)

MOST_TICKS = 1 << 60


def is_sane(time: int) -> bool:
    """Whether a timestamp leaves room for arithmetic in 64 bits; a broken file's may not."""
    return abs(time) < MOST_TICKS


def tolerance(time_base: Sequence[int]) -> Fraction:
    """Seconds by which a timestamp may lie after the time it means: half a tick, at most 1 ms."""
    return min(Fraction(*time_base) / 2, MOST_TOLERANCE)


def sample(
    pts: Ticks, time_base: Sequence[int], start_pts: int, frames: int, fps: int
) -> NDArray[np.int64]:
    """Pictures of a clip: frame j is the one on show ``j / fps`` seconds after ``start_pts``.

    Args:
        pts: timestamps of the film's pictures.
        time_base: seconds per tick, as (numerator, denominator).
        start_pts: tick at which the clip starts, not before the first picture.
        frames: how many; the clip must lie within the film.

    Returns:
        ``frames`` indices into ``pts``, never decreasing.
    """
    tick = Fraction(*time_base)
    slack = tolerance(time_base) / tick
    times = [start_pts + (j / (fps * tick) + slack) // 1 for j in range(frames)]
    indices = np.searchsorted(pts, np.array(times, np.int64), side="right") - 1
    if len(indices) and indices[0] < 0:
        raise ValueError(f"a clip at tick {start_pts} begins before the film does, at {pts[0]}")
    return indices.astype(np.int64)


def first_from(pts: Ticks, time_base: Sequence[int], seconds: float) -> int:
    """Index of the first picture that begins at ``seconds`` or later; len(pts) if none does."""
    earliest = -((tolerance(time_base) - Fraction(seconds)) / Fraction(*time_base) // 1)
    return int(np.searchsorted(pts, earliest, side="left"))


def chunks_between(
    time_base: Sequence[int], start_pts: Fraction, end_pts: Fraction, chunk: Fraction
) -> int:
    """Most whole chunks of a clip whose last frame is on show before ``end_pts``.

    Args:
        start_pts, end_pts: in ticks.
        chunk: seconds.
    """
    room = (end_pts - start_pts) * Fraction(*time_base) - tolerance(time_base)
    whole, rest = divmod(room, chunk)
    return max(0, int(whole) if rest else int(whole) - 1)


def write_timing(path: Path, pts: Ticks) -> None:
    """Store a film's timestamps, atomically."""
    with writing(path) as temporary, temporary.open("wb") as file:
        np.save(file, pts, allow_pickle=False)


def read_timing(path: Path) -> Ticks:
    """Timestamps that `write_timing` stored."""
    return np.load(path, allow_pickle=False)
