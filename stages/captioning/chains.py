"""Conversations with a backend: segments of one clip in order, clips side by side.

A chain is a generator that yields a request and is sent its answer. As soon as a chain has its
answer it asks on, so a backend's batches are filled across clips and no clip waits for another.
"""

from collections.abc import Generator, Sequence
from typing import Any

from stages.captioning.backend import BindingError, CaptionAnswer, CaptionBackend, CaptionRequest

Chain = Generator[CaptionRequest, CaptionAnswer, Any]


def converse(backend: CaptionBackend, chains: Sequence[Chain]) -> list[Any]:
    """Run all chains to their ends.

    Equal questions (same id) of several chains are asked once.

    Returns:
        What each chain returned, in order.

    Raises:
        BindingError: an answer has an id that no open question has, or none comes although
            questions are open. Captions would land on wrong clips, so nothing is returned.
        Exception: what a chain or the backend raises. No question stays open after it, so the
            backend can be asked anew.
    """
    results: list[Any] = [None] * len(chains)
    waiting: dict[str, list[int]] = {}

    def step(index: int, answer: CaptionAnswer | None) -> CaptionRequest | None:
        try:
            return next(chains[index]) if answer is None else chains[index].send(answer)
        except StopIteration as end:
            results[index] = end.value
            return None

    def ask(turns: Sequence[tuple[int, CaptionAnswer | None]]) -> None:
        fresh: list[CaptionRequest] = []
        for index, answer in turns:
            request = step(index, answer)
            if request is not None:
                if request.id not in waiting:
                    fresh.append(request)
                waiting.setdefault(request.id, []).append(index)
        if fresh:
            backend.submit(fresh)

    def hear() -> list[tuple[int, CaptionAnswer | None]]:
        answers = backend.collect()
        if not answers:
            raise BindingError(f"{backend.model}: {len(waiting)} questions open, no answer came")
        turns: list[tuple[int, CaptionAnswer | None]] = []
        for answer in answers:
            if answer.id not in waiting:
                raise BindingError(f"{backend.model}: answer {answer.id} to no open question")
            turns += [(index, answer) for index in waiting.pop(answer.id)]
        return turns

    try:
        ask([(index, None) for index in range(len(chains))])
        while waiting:
            ask(hear())
    except BaseException:
        backend.cancel()
        raise
    return results
