"""Which pictures of a film are damaged, from what the decoder says while it decodes.

A decoder hides damage: it fills holes with what was there before and goes on. What it says of this
is the only sign. A picture it calls corrupt, and one that it leaves out, spoil every picture up to
the next key frame, since all of those are built upon each other.

What no decoder notices is not found: flipped bits in VP8, VP9 and AV1, whose entropy coders can
make sense of anything, or in motion vectors and coefficients of any codec (docs/benchmarks.md).
"""

from collections.abc import Sequence

import numpy as np

from stages.reading.media_time import Ticks

# ffmpeg says with each picture that leaves the decoder when it is on show, on stderr, in order with
# what it has to say of it.
TELLING = ("-debug_ts", "-nostats")
TELLING_LEVEL = "repeat+level+info"
_PICTURE = b"decoder -> pts:"
_CORRUPT = b"corrupt decoded frame"
_SIGNS = (
    _CORRUPT,
    b"Error submitting packet to decoder",
    b"Skipping invalid undecodable NALU",  # HEVC's decoder goes on without that picture
)


class Damage:
    """Listens to a decoder's stderr; see `reading.child.Child`.

    Attributes:
        corrupt: pictures that the decoder called corrupt.
        pictures: pictures that left the decoder.
        spoilt: ticks of those that are damaged, or built on damage.
    """

    def __init__(self) -> None:
        self.corrupt = 0
        self.pictures = 0
        self.spoilt: list[int] = []
        self._signs = 0
        self._sign = False
        self._spoiling = False

    def __call__(self, line: bytes) -> bool:
        """Take a line; True if nobody else needs it."""
        if b"[info]" in line:
            if _PICTURE in line:
                self._picture(line.partition(_PICTURE)[2])
            return True
        if any(sign in line for sign in _SIGNS):
            self._signs += 1
            self._sign = True
            self.corrupt += _CORRUPT in line
        return False

    @property
    def heard(self) -> bool:
        """Whether anything is damaged; where, is known only of a child that told (`TELLING`)."""
        return self._signs > 0

    def ranges(self, pts: Ticks) -> list[tuple[int, int]]:
        """Damaged pictures as ranges ``[first, end)`` of indices into ``pts``, in order.

        Each begins with the picture before the damage: it stays on show where one is missing.
        """
        if self._signs and self.pictures < len(pts):
            return [(0, len(pts))]  # this decoder does not say which pictures it means
        spoilt = np.zeros(len(pts) + 1, bool)
        at = np.searchsorted(pts, np.array(sorted(self.spoilt), np.int64))
        spoilt[at] = True
        spoilt[at - (at > 0)] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[False], spoilt[:-1], [False]])))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

    def _picture(self, told: bytes) -> None:
        self.pictures += 1
        if b" keyframe:1 " in told:
            self._spoiling = False
        self._spoiling |= self._sign
        self._sign = False
        tick = told.split(maxsplit=1)[0]
        if self._spoiling and tick != b"NOPTS":
            self.spoilt.append(int(tick))


def outside(start: int, end: int, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of ``[start, end)`` between ranges that are in order."""
    left = []
    for a, b in ranges:
        if a > start:
            left.append((start, min(a, end)))
        start = max(start, b)
        if start >= end:
            return left
    return [*left, (start, end)]
