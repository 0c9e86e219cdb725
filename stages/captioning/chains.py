"""Conversations with a backend: segments of one clip in order, clips side by side.

A chain is a generator that yields a request and is sent its answer. As soon as a chain has its
answer it asks on, and while the backend has room further clips are opened: its batches are filled
across clips, no clip waits for another, and no more clips are held than are needed to fill it.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from time import perf_counter
from types import TracebackType
from typing import Any

from stages.captioning.backend import BindingError, CaptionAnswer, CaptionBackend, CaptionRequest

Chain = Generator[CaptionRequest, CaptionAnswer, Any]
Opening = Callable[[], Sequence[Chain]]  # reads a clip, and gives its chains
AHEAD = 4  # clips that are read before there is room for them


@dataclass
class Load:
    """How well a backend was kept at work; sums over conversations.

    Attributes:
        asks: how often questions were handed over; ``questions``: how many.
        open: sum over all asks of the share of the backend's limit that was open then, at most 1.
        seconds: of the whole conversation.
        full: seconds of waiting for answers, times the share of the limit that was open.
        starved: seconds, times the share of the limit that was free, while clips were being read.
        ending: the same when no further clip was there: the end of a batch.
    """

    asks: int = 0
    questions: int = 0
    open: float = 0.0
    seconds: float = 0.0
    full: float = 0.0
    starved: float = 0.0
    ending: float = 0.0

    def add(self, other: "Load") -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def converse(
    backend: CaptionBackend, openings: Sequence[Opening], load: Load | None = None
) -> list[list[Any]]:
    """Open all clips and run their chains to their ends.

    Equal questions (same id) of several chains are asked once.

    Args:
        openings: called one after the other, in a thread where the backend takes several questions.
        load: what it took is added to it.

    Returns:
        Per opening, what its chains returned, in order.

    Raises:
        BindingError: an answer has an id that no open question has, or none comes although
            questions are open. Captions would land on wrong clips, so nothing is returned.
        Exception: what an opening, a chain or the backend raises. No question stays open after it,
            so the backend can be asked anew.
    """
    load = load or Load()
    with _Reader(openings, AHEAD if backend.limit > 1 else 0) as reader:
        talk = _Talk(backend, reader, load)
        begun = perf_counter()
        try:
            return talk.run()
        except BaseException:
            backend.cancel()
            raise
        finally:
            load.seconds += perf_counter() - begun


class _Reader:
    """Opens clips in order, some of them ahead of need."""

    def __init__(self, openings: Sequence[Opening], ahead: int) -> None:
        self._left = deque(openings)
        self._read: deque[Future[Sequence[Chain]]] = deque()
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(1, "clips") if ahead else None

    def __enter__(self) -> "_Reader":
        self._go_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __bool__(self) -> bool:
        """Whether clips are left."""
        return bool(self._left or self._read)

    def ready(self) -> bool:
        """Whether the next clip comes without waiting for a thread."""
        return not self._pool or self._read[0].done()

    def take(self) -> Sequence[Chain]:
        """The next clip's chains."""
        if not self._pool:
            return self._left.popleft()()
        found = self._read.popleft()
        self._go_on()
        return found.result()

    def _go_on(self) -> None:
        while self._pool and self._left and len(self._read) < self._ahead:
            self._read.append(self._pool.submit(self._left.popleft()))


Turn = tuple[int, int, Chain, CaptionAnswer | None]  # clip, chain of it, and what it is sent


class _Talk:
    """One conversation."""

    def __init__(self, backend: CaptionBackend, reader: _Reader, load: Load) -> None:
        self._backend = backend
        self._reader = reader
        self._load = load
        self._results: list[list[Any]] = []
        self._waiting: dict[str, list[tuple[int, int, Chain]]] = {}

    def run(self) -> list[list[Any]]:
        turns: list[Turn] = []
        while True:
            fresh = self._step(turns)
            while self._has_room() and self._may_open():
                fresh += self._step(self._opened())
            if fresh:
                self._ask(fresh)
            if not self._waiting:
                return self._results
            turns = self._hear()

    def _has_room(self) -> bool:
        return bool(self._reader) and len(self._waiting) < self._backend.limit

    def _may_open(self) -> bool:
        """Not while answers could be had and the next clip is still being read."""
        return not self._waiting or self._reader.ready()

    def _opened(self) -> list[Turn]:
        begun = perf_counter()
        chains = self._reader.take()
        if not self._waiting:
            self._load.starved += perf_counter() - begun
        number = len(self._results)
        self._results.append([None] * len(chains))
        return [(number, place, chain, None) for place, chain in enumerate(chains)]

    def _step(self, turns: Sequence[Turn]) -> list[CaptionRequest]:
        """Send answers to chains; their next questions, those that are not yet open."""
        fresh: list[CaptionRequest] = []
        for clip, place, chain, answer in turns:
            try:
                request = next(chain) if answer is None else chain.send(answer)
            except StopIteration as end:
                self._results[clip][place] = end.value
                continue
            name = request.id
            if name not in self._waiting:
                fresh.append(request)
            self._waiting.setdefault(name, []).append((clip, place, chain))
        return fresh

    def _ask(self, fresh: Sequence[CaptionRequest]) -> None:
        self._load.asks += 1
        self._load.questions += len(fresh)
        self._load.open += self._share()
        self._backend.submit(fresh)

    def _hear(self) -> list[Turn]:
        share, begun = self._share(), perf_counter()
        answers = self._backend.collect()
        took = perf_counter() - begun
        self._load.full += took * share
        if self._reader:
            self._load.starved += took * (1 - share)
        else:
            self._load.ending += took * (1 - share)
        if not answers:
            model, number = self._backend.model, len(self._waiting)
            raise BindingError(f"{model}: {number} questions open, no answer came")
        turns: list[Turn] = []
        for answer in answers:
            if answer.id not in self._waiting:
                model = self._backend.model
                raise BindingError(f"{model}: answer {answer.id} to no open question")
            turns += [(*chain, answer) for chain in self._waiting.pop(answer.id)]
        return turns

    def _share(self) -> float:
        """Share of the backend's limit that is open."""
        return min(1.0, len(self._waiting) / self._backend.limit)
