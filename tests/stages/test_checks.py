"""Yes/no checks: both polarities, all questions at once, and nothing where an answer is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asked import Scripted, clip

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.recipe import load_recipe
from stages import scores as scores_stage
from stages.captioning.backend import CaptionAnswer, CaptionRequest
from stages.captioning.settings import BACKENDS
from stages.captions import UNJUDGED
from stages.measures.checks import Checks, claims
from stages.scores import ScoresConfig, ScoresStage
from stages.stage import Context, Record
from stages.verdicts import VerdictsConfig, VerdictsStage

Likely = Callable[[CaptionRequest], float]


def answer(yes: Likely) -> Callable[[CaptionRequest], CaptionAnswer]:
    """A backend's reply by the probability of yes."""

    def reply(request: CaptionRequest) -> CaptionAnswer:
        value = yes(request)
        return request.answer("ok", "yes", likely={"yes": value, "no": 1 - value})

    return reply


def asks_whether_false(request: CaptionRequest) -> bool:
    return "statement false" in request.prompt


def honest(request: CaptionRequest) -> float:
    """Knows that grey is true and blue is not."""
    true = 0.9 if "grey" in request.prompt else 0.2
    return 1 - true if asks_whether_false(request) else true


def captioned(media: Media, number: int, *texts: str) -> Record:
    record = clip(media, number)
    segments = [
        {**segment, "text": text, "scores": {}, "verdict": UNJUDGED}
        for segment, text in zip(record["segments"], texts, strict=True)
    ]
    return {**record, "segments": segments}


def scored(media: Media, backend: Scripted, *records: Record) -> list[list[dict[str, float]]]:
    checks = Checks(backend, Clock())
    return checks.scores([(media.path(one["clip"]), one["segments"]) for one in records])


def test_both_polarities_make_one_score(tmp_path: Path) -> None:
    media = Media(tmp_path)
    backend = Scripted(answer(honest))
    ((true, false, nothing),) = scored(
        media, backend, captioned(media, 0, "It is grey.", "Blue!", "")
    )
    assert true == pytest.approx({"yes": 0.9, "agree": 1.0})
    assert false == pytest.approx({"yes": 0.2, "agree": 1.0})
    assert nothing == {}
    asked = [request for batch in backend.asked for request in batch]
    assert {request.kind for request in asked} == {"check"}
    assert {request.choices for request in asked} == {("yes", "no")}
    assert len(asked) == len({request.id for request in asked}) == 4


def test_a_model_that_says_yes_to_everything_gains_nothing(tmp_path: Path) -> None:
    media = Media(tmp_path)
    ((found, *_),) = scored(
        media, Scripted(answer(lambda _: 0.95)), captioned(media, 0, "x", "", "")
    )
    assert found == pytest.approx({"yes": 0.5, "agree": 0.1})


def test_a_caption_is_as_true_as_its_least_true_sentence(tmp_path: Path) -> None:
    media = Media(tmp_path)
    assert claims("It is grey. It is blue; it  stops!") == [
        "It is grey.",
        "It is blue;",
        "it  stops!",
    ]
    ((found, *_),) = scored(
        media, Scripted(answer(honest)), captioned(media, 0, "It is grey. It is blue.", "", "")
    )
    assert found["yes"] == pytest.approx(0.2)


def test_frames_are_those_of_the_segment_that_is_asked_about(tmp_path: Path) -> None:
    media = Media(tmp_path)
    backend = Scripted(answer(honest))
    scored(media, backend, captioned(media, 1, "grey", "grey", "grey"))
    for request in (request for batch in backend.asked for request in batch):
        assert request.shown.times[0] == request.start and request.shown.times[-1] == request.end
        assert request.shown.frames[-1].mean() == pytest.approx(40 + 16 * request.end, abs=1)


def test_answers_may_come_in_any_order(tmp_path: Path) -> None:
    media = Media(tmp_path)
    records = [captioned(media, n, "grey", "blue", f"grey {n}") for n in range(3)]
    straight = scored(media, Scripted(answer(honest)), *records)
    mixed = Scripted(answer(honest), mix=lambda answers: answers[::-1])
    assert scored(media, mixed, *records) == straight
    assert max(map(len, mixed.asked)) >= 6  # all questions about a clip are open at once


@pytest.mark.parametrize(
    "broken",
    [
        lambda request: request.answer("timeout", message="too slow"),
        lambda request: request.answer("ok", "yes"),
        lambda request: request.answer("ok", "yes", likely={"yes": 1.0}),
        lambda request: request.answer("ok", "?", likely={"yes": float("nan"), "no": 0.5}),
    ],
)
def test_no_answer_is_no_score_and_no_score_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    """Of one polarity only: half an answer must not count as a whole one."""
    media = Media(tmp_path)

    def reply(request: CaptionRequest) -> CaptionAnswer:
        told: CaptionAnswer = broken(request)
        return told if asks_whether_false(request) else answer(honest)(request)

    backend = Scripted(reply)
    monkeypatch.setitem(BACKENDS, "motion", lambda config: backend)
    monkeypatch.setattr(scores_stage, "MUTE", ())
    context = Context(media, Clock())
    config = ScoresConfig(use=("rules", "checks"), checks={"backend": "motion"})  # type: ignore[arg-type]
    stage = ScoresStage(config, context)
    record = captioned(media, 0, "It is grey.", "It is grey.", "")
    (rows,) = stage.process([record])
    assert all("yes" not in row.columns["scores"] for row in rows)
    (judged,) = stage.advance(record, rows)
    verdicts = VerdictsStage(VerdictsConfig(at_least={"yes": 0.0}), context)
    (rows,) = verdicts.process([judged])
    assert [row.reason for row in rows] == ["no_score", "no_score", None]


def test_checks_need_a_backend_that_can_be_asked() -> None:
    with pytest.raises(ValueError, match="backend motion cannot be asked anything"):
        ScoresConfig(use=("rules", "checks"))
    with pytest.raises(UserError, match="checks: prompt mean"):
        load_recipe("real", ["scores.checks.prompt=sport"])
