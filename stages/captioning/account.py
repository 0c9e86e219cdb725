"""What asking a backend took, for the run's log."""

from collections import Counter
from dataclasses import asdict, astuple
from typing import Any

from stages.captioning.backend import CaptionAnswer, CaptionBackend, CaptionRequest, Detail
from stages.captioning.chains import Load


class Account:
    """Sums since they were last told.

    Attributes:
        load: of the conversations.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.load = Load()
        self._spent = Detail()
        self._counts = Counter[str]()

    def hear(self, backend: CaptionBackend, request: CaptionRequest, answer: CaptionAnswer) -> None:
        self._counts["answers"] += 1
        self._counts["again"] += request.sampling == backend.again
        self._spent = added(self._spent, answer.detail)

    def told(self, backend: CaptionBackend) -> dict[str, Any]:
        """All sums, where anything was asked; then they begin anew."""
        spent = {name: n for name, n in asdict(self._spent).items() if name != "seconds"}
        found = {**asdict(self.load), **spent, **self._counts, "limit": backend.limit}
        self._begin()
        return found if found["asks"] else {}


def added(one: Detail, two: Detail) -> Detail:
    """What both took."""
    return Detail(*(a + b for a, b in zip(astuple(one), astuple(two), strict=True)))
