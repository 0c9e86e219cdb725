"""Conversations: a backend is kept full across clips, and told how well that went."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from asked import Scripted

from stages.captioning import chains
from stages.captioning.backend import NOTHING, CaptionAnswer, CaptionRequest, DirectBackend, View
from stages.captioning.chains import AHEAD, Chain, Load, Opening, converse


def question(clip: int, number: int) -> CaptionRequest:
    return CaptionRequest(
        "segment", number, number + 1, NOTHING, NOTHING, None, (), f"clip {clip}", {}, "x/1", {}
    )


def opening(clip: int, length: int, log: list[int] | None = None) -> Opening:
    """A clip of so many questions in a row."""

    def chain() -> Chain:
        texts = []
        for number in range(length):
            answer = yield question(clip, number)
            texts.append(answer.text)
        return texts

    def opened() -> Sequence[Chain]:
        if log is not None:
            log.append(clip)
        return [chain()]

    return opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(chains, "perf_counter", lambda: now[0])
    return now


class Slow(Scripted):
    """Answers the oldest question after a second; the others stay open.

    Meanwhile whatever may be read is read.
    """

    limit = 6

    def __init__(self, clock: list[float], log: Sequence[int] = (), clips: int = 0) -> None:
        super().__init__(name)
        self.clock, self.log, self.clips = clock, log, clips
        self.most = 0

    def collect(self) -> list[CaptionAnswer]:
        self.most = max(self.most, len(self.open_questions))
        self.clock[0] += 1
        self.wait_for(min(self.clips, self.begun() + AHEAD))
        return [self.reply(self.open_questions.pop(0))]

    def begun(self) -> int:
        return len({one.prompt for batch in self.asked for one in batch})

    def wait_for(self, opened: int) -> None:
        """Until so many clips are open, and the thread has told so."""
        end = time.monotonic() + 20
        while len(self.log) < opened and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.002)


def name(request: CaptionRequest) -> CaptionAnswer:
    return request.answer("ok", f"{request.prompt} {request.start:g}")


def test_every_clip_gets_its_own_answers_and_the_backend_is_filled_to_its_limit(
    clock: list[float],
) -> None:
    log: list[int] = []
    backend, load = Slow(clock, log, 20), Load()
    lengths = [1 + clip % 4 for clip in range(20)]
    found = converse(backend, [opening(i, n, log) for i, n in enumerate(lengths)], load)
    assert found == [[[f"clip {i} {k}" for k in range(n)]] for i, n in enumerate(lengths)]
    assert backend.most == Slow.limit  # filled, and no clip more is opened than that takes
    assert load.questions == load.seconds == sum(lengths)
    assert load.full > 0.7 * load.seconds and load.starved < 0.2 * load.seconds, load
    assert load.full + load.starved + load.ending == pytest.approx(load.seconds)
    assert 0.5 * load.asks < load.open <= load.asks


def test_clips_are_read_only_as_there_is_room(clock: list[float]) -> None:
    log: list[int] = []
    ahead: list[int] = []

    class Watched(Slow):
        def collect(self) -> list[CaptionAnswer]:
            found = super().collect()
            ahead.append(len(log) - self.begun())
            return found

    converse(Watched(clock, log, 40), [opening(i, 2, log) for i in range(40)])
    assert sorted(log) == list(range(40))
    assert max(ahead) == AHEAD


def test_a_backend_that_waits_for_clips_is_called_starved(clock: list[float]) -> None:
    """Each clip is there only when the one before is half done."""
    clips, log = 6, list[int]()
    gates = [threading.Event() for _ in range(clips + 1)]
    gates[0].set()

    class Waiting(Slow):
        def collect(self) -> list[CaptionAnswer]:
            self.clock[0] += 1
            request = self.open_questions.pop(0)
            if request.start == 1:
                clip = int(request.prompt.split()[1])
                gates[clip + 1].set()
                self.wait_for(min(clips, clip + 2))
            return [self.reply(request)]

    def gated(clip: int) -> Opening:
        inner = opening(clip, 4, log)

        def opened() -> Sequence[Chain]:
            gates[clip].wait(20)
            return inner()

        return opened

    load = Load()
    converse(Waiting(clock, log, clips), [gated(clip) for clip in range(clips)], load)
    assert load.seconds == 4 * clips
    assert load.starved > 0.5 * load.seconds and load.full < 0.4 * load.seconds, load


def test_the_last_clip_of_a_batch_is_not_called_starved(clock: list[float]) -> None:
    load = Load()
    converse(Slow(clock), [opening(0, 20)], load)
    assert load.starved == 0 and load.ending == pytest.approx(20 * 5 / 6)
    assert load.full == pytest.approx(20 / 6)


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

    backend = Slow([0.0])
    before = threading.active_count()
    with pytest.raises(ValueError, match="no clip"):
        converse(backend, [opening(0, 5), broken, opening(1, 5)])
    assert backend.open_questions == [] and threading.active_count() == before


def test_a_question_that_two_chains_ask_is_asked_once() -> None:
    backend = Slow([0.0])
    one = opening(7, 3)
    (found,) = converse(backend, [lambda: [*one(), *one()]])
    assert found[0] == found[1] == [f"clip 7 {k}" for k in range(3)]
    assert sum(map(len, backend.asked)) == 3
