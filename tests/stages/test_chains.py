"""Conversations: a backend is kept full across clips, and told how well that went."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from asked import Scripted

from stages.captioning.backend import NOTHING, CaptionAnswer, CaptionRequest, DirectBackend, View
from stages.captioning.chains import AHEAD, Chain, Load, Opening, converse


def question(clip: int, number: int) -> CaptionRequest:
    return CaptionRequest(
        "segment", number, number + 1, NOTHING, NOTHING, None, (), f"clip {clip}", {}, "x/1", {}
    )


def opening(clip: int, length: int, pause: float = 0.0, log: list[int] | None = None) -> Opening:
    """A clip of so many questions in a row, that takes a while to read."""

    def chain() -> Chain:
        texts = []
        for number in range(length):
            answer = yield question(clip, number)
            texts.append(answer.text)
        return texts

    def opened() -> Sequence[Chain]:
        time.sleep(pause)
        if log is not None:
            log.append(clip)
        return [chain()]

    return opened


class Slow(Scripted):
    """Answers the oldest question after a while; the others stay open."""

    limit = 6
    most = 0
    pause = 0.01

    def collect(self) -> list[CaptionAnswer]:
        self.most = max(self.most, len(self.open_questions))
        time.sleep(self.pause)
        return [self.reply(self.open_questions.pop(0))]


def name(request: CaptionRequest) -> CaptionAnswer:
    return request.answer("ok", f"{request.prompt} {request.start:g}")


def test_every_clip_gets_its_own_answers_and_the_backend_is_filled_to_its_limit() -> None:
    backend, load = Slow(name), Load()
    lengths = [1 + clip % 4 for clip in range(20)]
    found = converse(backend, [opening(i, n) for i, n in enumerate(lengths)], load)
    assert found == [[[f"clip {i} {k}" for k in range(n)]] for i, n in enumerate(lengths)]
    assert backend.most == Slow.limit  # filled, and no clip more is opened than that takes
    assert load.questions == sum(lengths)
    assert load.full > 0.5 * load.seconds, load


def test_clips_are_opened_only_as_there_is_room() -> None:
    log: list[int] = []
    open_at: list[int] = []

    class Watched(Slow):
        def collect(self) -> list[CaptionAnswer]:
            time.sleep(0.005)  # time enough to read whatever may be read
            open_at.append(len(log) - self.done)
            self.done += 1
            return super().collect()

        done = 0

    converse(Watched(name), [opening(i, 1, log=log) for i in range(40)])
    assert sorted(log) == list(range(40))
    assert max(open_at) <= Slow.limit + AHEAD + 1


def test_the_load_tells_a_backend_that_waits_from_one_that_is_waited_for() -> None:
    starved, bound = Load(), Load()
    quick = Slow(name)
    quick.pause = 0.0
    converse(quick, [opening(i, 2, pause=0.02) for i in range(12)], starved)
    converse(Slow(name), [opening(i, 2) for i in range(24)], bound)
    assert starved.starved > 0.5 * starved.seconds, starved
    assert bound.full > 0.5 * bound.seconds and bound.starved < 0.2 * bound.seconds, bound
    for load in (starved, bound):
        assert load.full + load.starved + load.ending <= load.seconds * 1.001
        assert 0 < load.open <= load.asks


def test_the_last_clip_of_a_batch_is_not_called_starved() -> None:
    load = Load()
    converse(Slow(name), [opening(0, 20)], load)
    assert load.ending > 0.5 * load.seconds and load.starved < 0.1 * load.seconds


def test_a_backend_that_takes_one_question_opens_one_clip_at_a_time_in_this_thread() -> None:
    threads: list[threading.Thread] = []
    log: list[str] = []

    class One(DirectBackend):
        model, prompt, view = "one/1", "one/1", View(fps=0)

        def __init__(self) -> None:
            super().__init__()
            self.sampling = {}

        def reply(self, request: CaptionRequest) -> CaptionAnswer:
            log.append(request.prompt)
            return name(request)

    def watched(clip: int) -> Opening:
        inner = opening(clip, 2)

        def opened() -> Sequence[Chain]:
            threads.append(threading.current_thread())
            log.append(f"open {clip}")
            return inner()

        return opened

    converse(One(), [watched(clip) for clip in range(3)])
    assert set(threads) == {threading.main_thread()}
    assert log == [text for i in range(3) for text in (f"open {i}", f"clip {i}", f"clip {i}")]


def test_what_an_opening_raises_ends_the_conversation_and_leaves_nothing_open() -> None:
    def broken() -> Sequence[Chain]:
        raise ValueError("no clip")

    backend = Slow(name)
    before = threading.active_count()
    with pytest.raises(ValueError, match="no clip"):
        converse(backend, [opening(0, 5), broken, opening(1, 5)])
    assert backend.open_questions == [] and threading.active_count() == before


def test_a_question_that_two_chains_ask_is_asked_once() -> None:
    backend = Slow(name)
    one = opening(7, 3)
    (found,) = converse(backend, [lambda: [*one(), *one()]])
    assert found[0] == found[1] == [f"clip 7 {k}" for k in range(3)]
    assert sum(map(len, backend.asked)) == 3
