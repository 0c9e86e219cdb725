"""Windows: where in a shot clips are cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stages.reading.media_time import chunks_between


@dataclass(frozen=True)
class Window:
    """A clip to be: ``chunks`` chunks of a shot from the tick ``start_pts`` on.

    Its first frame is the picture on show then, which may have begun long before.
    """

    shot: str
    start_pts: int
    chunks: int


def split(
    time_base: Sequence[int], start_pts: int, end_pts: int, least: int, most: int, chunk: Fraction
) -> list[tuple[int, int]]:
    """Windows of a shot: as few as ``most`` allows, equally long, evenly spaced.

    Args:
        time_base: seconds per tick; the shot is ticks ``[start_pts, end_pts)``.
        least, most: chunks of a window.
        chunk: seconds.

    Returns:
        (start in ticks, chunks) of each; [] when the shot is too short. Each ends before the next
        one starts. Where an even split gives windows that are too short there are fewer, and what
        is left over lies between them.
    """
    whole = chunks_between(time_base, Fraction(start_pts), Fraction(end_pts), chunk)
    if whole < least:
        return []
    parts = math.ceil(whole / most)
    for count in range(parts, 0, -1):
        step = (end_pts - start_pts) // count
        chunks = min(most, chunks_between(time_base, Fraction(0), Fraction(step), chunk))
        if chunks >= least:
            break
    return [(start_pts + i * step, chunks) for i in range(count)]
