"""How numbers lie, in memory that does not grow with how many there are."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 2048  # different numbers that are told apart
FINEST = 2.0**-40
Array = NDArray[np.float64]


class Spread:
    """How many numbers there are of each size, and sums of what belongs to them.

    Numbers lie in bins as wide as a power of two. While more than `MOST` bins are in use, every two
    neighbours become one, and a bin stands for all its numbers by the least of them: of few
    different numbers all that is told is exact, of many it is right to within a bin. The order in
    which numbers come is no matter.

    Args:
        sums: how many sums belong to each number.
        cuts: numbers at which all stays exact: no bin reaches over one.
    """

    def __init__(self, sums: int = 0, cuts: Sequence[float] = ()) -> None:
        self._sums = sums
        self._cuts = sorted(cuts)
        self._width = FINEST
        self._bins: dict[tuple[int, int], list[float]] = {}  # least number, count, sums

    def __len__(self) -> int:
        """Bins in use."""
        return len(self._bins)

    def add(self, number: float, *sums: float) -> None:
        """A finite number, and what it adds to each of the sums."""
        zone = bisect_left(self._cuts, number) + bisect_right(self._cuts, number)
        self._join((zone, math.floor(number / self._width)), [number, 1.0, *sums])
        while len(self._bins) > MOST:
            before, self._bins = self._bins, {}
            self._width *= 2
            for (zone, at), held in before.items():
                self._join((zone, at // 2), held)

    def _join(self, place: tuple[int, int], more: list[float]) -> None:
        held = self._bins.get(place)
        if held is None:
            self._bins[place] = more
        else:
            self._bins[place] = [
                min(held[0], more[0]),
                *(a + b for a, b in zip(held[1:], more[1:], strict=True)),
            ]

    @property
    def table(self) -> Array:
        """(bins, 2 + sums): number, count and sums, in order of the numbers."""
        return np.array(sorted(self._bins.values())).reshape(-1, 2 + self._sums)

    @property
    def count(self) -> int:
        return round(sum(held[1] for held in self._bins.values()))

    @property
    def mean(self) -> float:
        table = self.table
        return float(table[:, 0] @ table[:, 1] / table[:, 1].sum())

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Numbers below which these shares lie, as `numpy.quantile` tells them; not of nothing."""
        table = self.table
        ends = np.cumsum(table[:, 1])
        ranks = np.asarray(shares) * (ends[-1] - 1)
        low, high = (
            table[np.searchsorted(ends, rank, side="right"), 0]
            for rank in (np.floor(ranks), np.ceil(ranks))
        )
        return [float(value) for value in low + (high - low) * (ranks - np.floor(ranks))]

    def bars(self, count: int, at: Sequence[float] = ()) -> tuple[list[float], list[int]]:
        """Edges and counts of equally wide bars; one edge and no bar of nothing.

        Args:
            at: further edges, which part the bars that they lie in.
        """
        table = self.table
        if not len(table):
            return [0.0], []
        low, high = table[0, 0], table[-1, 0]
        even = np.linspace(low, high if high > low else low + 1, count + 1)
        edges = np.unique([*even, *(edge for edge in at if low < edge < high)])
        counts, _ = np.histogram(table[:, 0], edges, weights=table[:, 1])
        return edges.tolist(), [round(number) for number in counts]

    def between(self, low: float, high: float) -> Array:
        """Count and sums of the numbers in ``[low, high]``: (1 + sums,)."""
        table = self.table
        inside = (table[:, 0] >= low) & (table[:, 0] <= high)
        return np.asarray(table[inside, 1:].sum(axis=0), np.float64)
