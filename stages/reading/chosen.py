"""Chosen pictures of a film: a child decodes all of it and passes on those that clips show."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stages.reading.child import Child, ChildTrouble
from stages.reading.foreign import Unfit
from stages.reading.pictures import Frames

LEAF = 8  # ticks that are compared one after the other


class Film:
    """The child's pictures, one after the other; only the last one is kept.

    Args:
        shape: of every picture.
        numbers: which pictures of the film the child passes on, increasing.

    Raises:
        ChildTrouble: the child crashed or was killed before the film's end.
        Unfit: the film has other pictures than its timing table says.
    """

    def __init__(self, child: Child, shape: tuple[int, ...], numbers: NDArray[np.int64]) -> None:
        self._child = child
        self._shape = shape
        self._numbers = numbers
        self._seen = 0
        self._last: Frames = np.empty(0, np.uint8)

    def at(self, number: int) -> Frames:
        """Picture ``number``; never one before the last asked for."""
        if self._seen and number < self._numbers[self._seen - 1]:
            raise ValueError(f"picture {number} has passed")
        while not self._seen or self._numbers[self._seen - 1] < number:
            if not self._next():
                self._refuse()
        return self._last

    def end(self) -> None:
        """Take the rest of the film: it must have all pictures, and none more."""
        while self._next():
            pass
        if self._seen != len(self._numbers):
            self._refuse()

    def _next(self) -> bool:
        picture = np.empty(self._shape, np.uint8)
        if self._child.read_into(picture.reshape(-1).data) < picture.size:
            return False
        self._last, self._seen = picture, self._seen + 1
        return True

    def _refuse(self) -> NoReturn:
        ended = self._child.finish()
        if ended.trouble:
            raise ChildTrouble(ended.trouble, ended.describe())
        count = f"of {len(self._numbers)} pictures wanted, the second decoding gave {self._seen}"
        raise Unfit("corrupt", f"{count}; {ended.describe()}")


def picking(ticks: Sequence[int]) -> str:
    """ffmpeg's expression that is true for pictures at these increasing ticks, and after the last.

    By time and not by number, since ffmpeg counts anew where a film changes its size.
    """
    return f"{_among(ticks)}+gt(pts,{ticks[-1]})"


def _among(ticks: Sequence[int]) -> str:
    """A search tree, so that hours of film cost a few comparisons per picture."""
    if len(ticks) <= LEAF:
        return "+".join(f"eq(pts,{tick})" for tick in ticks)
    middle = len(ticks) // 2
    return f"if(lt(pts,{ticks[middle]}),{_among(ticks[:middle])},{_among(ticks[middle:])})"
