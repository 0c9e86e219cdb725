"""A few of many things: the first by their keys, whatever the order in which they come."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class First(Generic[T]):
    """The first of all things that come, in the order of their keys, which differ."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[tuple[Any, T]] = []

    def add(self, keyed: Iterable[tuple[Any, T]]) -> None:
        self._held = nsmallest(self._count, [*self._held, *keyed], key=lambda one: one[0])

    def __len__(self) -> int:
        return len(self._held)

    @property
    def found(self) -> list[T]:
        return [one for _, one in self._held]
