"""Canaries: a backend that hands questions each other's texts under the right ids is caught."""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from asked import Scripted, brightness, clip

from corpus.layout import Media
from corpus.rows import Row
from stages.captioning.backend import BindingError, CaptionAnswer, CaptionRequest
from stages.captioning.canaries import COLOURS, NAMES, SCHEMA, Flight
from stages.captions import CaptionsStage

Make = Callable[..., tuple[CaptionsStage, Scripted]]
Mix = Callable[[list[CaptionAnswer]], list[CaptionAnswer]]
ON = {"canaries": 0.3}


def is_canary(request: CaptionRequest) -> bool:
    return request.schema == SCHEMA


def name_of(request: CaptionRequest) -> str:
    """What a model that sees calls the colour: the nearest one."""
    pixel = request.shown.frames[0, 0, 0].astype(int)
    return min(COLOURS, key=lambda one: sum(abs(pixel - COLOURS[one])))


def healthy(request: CaptionRequest) -> CaptionAnswer:
    return request.answer("ok", name_of(request) if is_canary(request) else brightness(request))


def swap_texts(order: Callable[[list[int]], list[int]]) -> Mix:
    """Right ids, texts in another order."""

    def mix(answers: list[CaptionAnswer]) -> list[CaptionAnswer]:
        places = order(list(range(len(answers))))
        texts = [answers[place].text for place in places]
        return [replace(one, text=text) for one, text in zip(answers, texts, strict=True)]

    return mix


def rotated(places: list[int]) -> list[int]:
    return places[1:] + places[:1]


def shuffled(places: list[int]) -> list[int]:
    random.Random(3).shuffle(places)
    return places


def process(stage: CaptionsStage, media: Media, count: int = 6) -> list[list[Row]]:
    return stage.process([clip(media, number) for number in range(count)])


def test_canaries_of_a_healthy_model_ride_along_and_leave_no_trace(
    media: Media, scripted: Make
) -> None:
    stage, backend = scripted(healthy, settings=ON)
    plain, _ = scripted(healthy)
    assert process(stage, media) == process(plain, media)
    told = stage.told()["canaries"]
    assert told == {"sight": "sighted", "asked": 2, "right": 2}
    assert stage.fingerprint == plain.fingerprint
    assert sum(is_canary(one) for batch in backend.asked for one in batch) == len(COLOURS) + 2
    alone = [batch for batch in backend.asked if is_canary(batch[0]) and len(batch) == 1]
    assert len(alone) >= len(COLOURS)  # first one after the other


@pytest.mark.parametrize("order", [rotated, shuffled], ids=["by one", "at random"])
def test_texts_that_land_on_other_questions_stop_the_run(
    media: Media, scripted: Make, order: Callable[[list[int]], list[int]]
) -> None:
    stage, backend = scripted(healthy, settings={"canaries": 1.0}, mix=swap_texts(order))
    with pytest.raises(BindingError, match="each other's texts"):
        process(stage, media)
    assert backend.open_questions == []


def test_a_swap_of_two_canaries_and_one_with_a_caption_are_both_seen() -> None:
    swapped = Flight([("red", "blue"), ("blue", "red"), ("green", "green")])
    assert swapped.moved() == ["blue", "red"]
    flight = Flight([("red", "a ball rolls"), ("blue", "blue")])
    assert flight.moved() == []
    flight.hear(CaptionAnswer("id", "ok", "Red."))
    assert flight.moved() == ["red"]


def test_a_mistake_is_no_swap() -> None:
    """Its right answer stands nowhere else."""
    assert Flight([("red", "orange"), ("blue", "blue")]).moved() == []
    assert Flight([("red", "blue"), ("blue", "blue")]).moved() == []
    flight = Flight([("red", "red"), ("blue", "blue")])
    flight.hear(CaptionAnswer("id", "ok", "red"))  # a clip that is captioned so
    assert flight.moved() == []


@pytest.mark.parametrize("say", ["white", "a picture", ""])
def test_a_blind_model_is_told_and_goes_on(media: Media, scripted: Make, say: str) -> None:
    def blind(request: CaptionRequest) -> CaptionAnswer:
        if is_canary(request):
            return request.answer("ok" if say in NAMES else "schema", say)
        return request.answer("ok", brightness(request))

    stage, backend = scripted(blind, settings=ON)
    assert all(row.outcome == "ok" for rows in process(stage, media) for row in rows)
    told = stage.told()["canaries"]
    assert told["sight"] == "blind" and told["alone"] == dict.fromkeys(COLOURS, say)
    assert sum(is_canary(one) for batch in backend.asked for one in batch) == len(COLOURS)


def test_a_model_that_guesses_at_random_is_blind_and_never_stops_a_run(
    media: Media, scripted: Make
) -> None:
    for seed in range(20):
        draw = random.Random(seed)

        def guess(request: CaptionRequest, draw: random.Random = draw) -> CaptionAnswer:
            text = draw.choice(NAMES) if is_canary(request) else brightness(request)
            return request.answer("ok", text)

        stage, _ = scripted(guess, settings={"canaries": 1.0})
        process(stage, media, 2)
        assert stage.told()["canaries"]["sight"] == "blind"


def test_one_colour_that_a_model_does_not_know_does_not_ride(media: Media, scripted: Make) -> None:
    def nearly(request: CaptionRequest) -> CaptionAnswer:
        answer = healthy(request)
        return replace(answer, text="cyan") if answer.text == "green" else answer

    stage, backend = scripted(nearly, settings={"canaries": 1.0})
    for _ in range(3):
        process(stage, media)
    told = stage.told()["canaries"]
    assert told["sight"] == "sighted" and told["asked"] == told["right"] == 18
    ridden = [one for batch in backend.asked for one in batch if is_canary(one)][len(COLOURS) :]
    assert {name_of(one) for one in ridden} == set(COLOURS) - {"green"}
    assert len({one.shown.sha256 for one in ridden}) == 18  # nothing is answered from a cache


def test_colours_that_are_told_but_not_theirs_stop_the_run(media: Media, scripted: Make) -> None:
    """Frames whose channels change places, or answers that come one question late."""
    late: list[str] = ["?"]

    def behind(request: CaptionRequest) -> CaptionAnswer:
        late.append(name_of(request) if is_canary(request) else "")
        return request.answer("ok", late[-2])

    def permuted(request: CaptionRequest) -> CaptionAnswer:
        names = list(COLOURS)
        text = names[(names.index(name_of(request)) + 1) % len(names)]
        return request.answer("ok", text)

    for reply in (behind, permuted):
        stage, _ = scripted(reply, settings=ON)
        with pytest.raises(BindingError, match="red is called"):
            process(stage, media)


def test_a_backend_that_is_down_at_first_is_tried_again_later(media: Media, scripted: Make) -> None:
    down = True

    def reply(request: CaptionRequest) -> CaptionAnswer:
        return request.answer("timeout") if down else healthy(request)

    stage, _ = scripted(reply, settings=ON)
    process(stage, media, 1)
    assert stage.told()["canaries"]["sight"] == "unanswered"
    down = False
    process(stage, media, 1)
    assert stage.told()["canaries"]["sight"] == "sighted"


def test_swapped_ids_are_caught_without_canaries(media: Media, scripted: Make) -> None:
    """An answer with another's id is made of frames that its id does not name, so it is no answer
    of `CaptionRequest.answer`; ids that are swapped whole carry their texts along."""
    seen: list[CaptionRequest] = []

    def other_frames(request: CaptionRequest) -> CaptionAnswer:
        seen.append(request)
        used = replace(request, shown=seen[0].shown)
        return used.answer("ok", "text")

    stage, _ = scripted(other_frames)
    with pytest.raises(BindingError, match="no open question"):
        process(stage, media, 2)
