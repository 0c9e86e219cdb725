"""The captions stage with backends that answer as they like, and with `given`."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked import CHUNKS, Scripted, brightness, clip, say_what_is_shown
from pydantic import ValidationError

import vlm_prompts
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from corpus.rows import Row
from corpus.timeline import Span, Timeline
from stages.captioning.backend import BindingError, CaptionAnswer, CaptionRequest, View
from stages.captioning.settings import CaptionsConfig
from stages.captions import CaptionsStage
from stages.shards import captions_of
from stages.stage import Context


def texts(rows: Sequence[Row]) -> list[str]:
    return [row.columns["text"] for row in rows]


Make = Callable[..., tuple[CaptionsStage, Scripted]]


def test_answers_in_any_order_land_where_they_belong(media: Media, scripted: Make) -> None:
    def shuffle(answers: list[CaptionAnswer]) -> list[CaptionAnswer]:
        random.Random(1).shuffle(answers)
        return answers

    stage, backend = scripted(say_what_is_shown, mix=shuffle)
    records = [clip(media, number) for number in range(4)]
    for number, rows in enumerate(stage.process(records)):
        last = [40 * number + 4 * b for b in (12, 4, 8, 12)]
        assert texts(rows) == [f"grey {x} at {b}" for x, b in zip(last, (3, 1, 2, 3), strict=True)]
        assert [row.id for row in rows[1:]] == [
            s["segment_id"] for s in records[number]["segments"]
        ]
        assert rows[0].id == records[number]["clip_id"]
    assert sum(len(batch) for batch in backend.asked) == 16


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answers: [replace(a, id=b.id[::-1]) for a, b in zip(answers, answers, strict=True)],
        lambda answers: [*answers, answers[0]],
        lambda answers: [],
    ],
    ids=["foreign", "twice", "missing"],
)
def test_answers_that_belong_to_no_question_stop_the_worker(
    media: Media, scripted: Make, spoil: Callable[[list[Any]], list[Any]]
) -> None:
    stage, _ = scripted(say_what_is_shown, mix=spoil)
    with pytest.raises(BindingError):
        stage.process([clip(media, 0), clip(media, 1)])


def test_an_answer_made_from_other_frames_is_caught(media: Media, scripted: Make) -> None:
    """A backend that mixes up its frames answers under an id that nobody asked for."""
    seen: list[CaptionRequest] = []

    def mixed_up(request: CaptionRequest) -> CaptionAnswer:
        seen.append(request)
        used = replace(request, shown=seen[0].shown)
        return used.answer("ok", brightness(used))

    stage, _ = scripted(mixed_up)
    with pytest.raises(BindingError, match="no open question"):
        stage.process([clip(media, 0), clip(media, 1)])


def test_each_question_builds_on_the_last_accepted_caption(media: Media, scripted: Make) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        if request.kind == "segment" and request.start == 1.0:
            return request.answer("truncated", "grey and")
        return request.answer("ok", brightness(request))

    stage, backend = scripted(reply)
    one = clip(media, 1)
    (rows,) = stage.process([one])
    asked = [request for batch in backend.asked for request in batch]
    assert [request.previous for request in asked] == [None, None, "grey 56 at 1", None]
    assert 'Up to 1 s this was said of a shot: "grey 56 at 1"' in asked[2].prompt
    assert "was said" not in asked[3].prompt and "from 2 s to 3 s" in asked[3].prompt
    assert [(row.outcome, row.reason) for row in rows] == [
        ("ok", None),
        ("ok", None),
        ("failed", "truncated"),
        ("ok", None),
    ]
    assert asked[3].before.times[0] == 1.0 and asked[3].shown.times == tuple(
        2 + i / 8 for i in range(9)
    )
    assert rows[2].columns["times"] == [1 + i / 8 for i in range(9)]


def test_a_clip_is_shown_segment_by_segment_to_who_wants_it(media: Media, scripted: Make) -> None:
    class InParts(Scripted):
        view = View(fps=8, parts=True)

    for kind, shown in ((InParts, 3), (Scripted, 0)):
        stage, backend = scripted(say_what_is_shown, kind=kind)
        stage.process([clip(media, 1)])
        whole, *segments = [request for batch in backend.asked for request in batch]
        assert len(whole.parts) == shown and not any(segment.parts for segment in segments)
        for part, segment in zip(whole.parts, segments, strict=False):
            assert part.sha256 == segment.shown.sha256


def test_a_text_that_breaks_the_rules_is_kept_but_breaks_the_chain(
    media: Media, scripted: Make
) -> None:
    hedging = "A ball appears to roll."
    stage, backend = scripted(lambda request: request.answer("ok", hedging))
    (rows,) = stage.process([clip(media, 1)])
    assert texts(rows) == [hedging] * 4
    assert not any(row.columns["accepted"] for row in rows)
    assert [request.previous for batch in backend.asked for request in batch] == [None] * 4


def test_rejected_segments_keep_their_place(media: Media, scripted: Make) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        lost = request.kind == "segment" and request.start == 1.0
        return request.answer("blocked", message="no") if lost else say_what_is_shown(request)

    stage, _ = scripted(reply)
    one = clip(media, 1)
    (rows,) = stage.process([one])
    (after,) = stage.advance(one, rows)
    captions = captions_of(after)
    captions.check(CHUNKS)
    assert [s.caption.text for s in captions.segments] == ["grey 56 at 1", "", "grey 88 at 3"]
    assert [s.caption.verdict for s in captions.segments] == ["no_verdict", "blocked", "no_verdict"]
    assert [s.segment_id for s in captions.segments] == [s["segment_id"] for s in one["segments"]]
    assert captions.meta[0].text == "grey 88 at 3"
    assert captions.meta[0].prompt == "generic/2" and captions.meta[0].model == "scripted/1"
    bindings = {s.caption.binding for s in captions.segments} | {captions.meta[0].binding}
    assert len(bindings) == 4 and all(bindings)


def test_a_clip_ends_without_any_caption_or_without_its_meta_caption(
    media: Media, scripted: Make
) -> None:
    one = clip(media, 1)
    for lost in ("segment", "clip"):
        stage, _ = scripted(
            lambda request, lost=lost: (
                request.answer("timeout") if request.kind == lost else say_what_is_shown(request)
            )
        )
        (rows,) = stage.process([one])
        assert stage.advance(one, rows) == []
        assert {row.reason for row in rows} == {None, "timeout"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("schema", "failed"), ("timeout", "quarantined"), ("error", "quarantined")],
)
def test_what_another_day_may_answer_is_quarantined_and_can_be_asked_again(
    media: Media, scripted: Make, status: str, outcome: str
) -> None:
    """`tv2tv run --retry` takes up what is quarantined."""
    stage, _ = scripted(
        lambda request: (
            request.answer(status, message="no")
            if (request.kind, request.start) == ("segment", 1.0)
            else say_what_is_shown(request)
        )
    )
    one = clip(media, 1)
    (rows,) = stage.process([one])
    assert [row.outcome for row in rows] == ["ok", "ok", outcome, "ok"]
    (after,) = stage.advance(one, rows)
    assert [segment["verdict"] for segment in after["segments"]][1] == status


def test_an_empty_answer_is_no_caption(media: Media, scripted: Make) -> None:
    stage, _ = scripted(lambda request: request.answer("ok", " "))
    (rows,) = stage.process([clip(media, 1)])
    assert {(row.outcome, row.reason) for row in rows} == {("failed", "degenerate")}


def test_a_clip_that_cannot_be_read_costs_the_others_nothing(media: Media, scripted: Make) -> None:
    """The pipeline then tries the records one by one: what was answered is not asked again, and
    only the missing clip's own one raises."""
    stage, backend = scripted(say_what_is_shown)
    good, missing, last = clip(media, 1), clip(media, 2), clip(media, 3)
    media.path(missing["clip"]).unlink()
    with pytest.raises(UserError, match="cannot be read back"):
        stage.process([good, missing, last])
    assert backend.open_questions == []
    asked = sum(map(len, backend.asked))
    for one, text in ((good, "grey 56 at 1"), (last, "grey 136 at 1")):
        (rows,) = stage.process([one])
        assert {row.outcome for row in rows} == {"ok"} and texts(rows)[1] == text
        assert [row.id for row in rows[1:]] == [s["segment_id"] for s in one["segments"]]
        with pytest.raises(UserError, match="cannot be read back"):
            stage.process([missing])
    assert sum(map(len, backend.asked)) == asked == 8
    stage.process([good])  # asked for once more, it is done once more
    assert sum(map(len, backend.asked)) == 12


class Queue(Scripted):
    """Answers one question a time; the others stay open."""

    def collect(self) -> list[CaptionAnswer]:
        return [self.reply(self.open_questions.pop(0))]


def test_no_question_stays_open_when_one_raises(media: Media, scripted: Make) -> None:
    """Late answers to what nobody waits for any more would stop the worker."""
    broken = True

    def reply(request: CaptionRequest) -> CaptionAnswer:
        if broken and request.kind == "segment":
            raise ValueError("the engine stumbles")
        return say_what_is_shown(request)

    stage, backend = scripted(reply, kind=Queue)
    records = [clip(media, number) for number in range(3)]
    with pytest.raises(ValueError, match="stumbles"):
        stage.process(records)
    broken = False
    assert all(len(stage.process([record])[0]) == 4 for record in records)
    assert backend.open_questions == []


def test_a_status_outside_the_vocabulary_is_a_fault(media: Media, scripted: Make) -> None:
    stage, _ = scripted(lambda request: request.answer("fine", "text"))
    with pytest.raises(ValueError, match="none of ok, truncated"):
        stage.process([clip(media, 1)])


def test_prompt_and_model_decide_the_fingerprint(
    media: Media, scripted: Make, tmp_path: Path
) -> None:
    stage, backend = scripted(say_what_is_shown)
    first = stage.fingerprint
    text = (vlm_prompts.FOLDER / "generic.md").read_text()
    path = tmp_path / "other.md"
    path.write_text(text.replace("what starts to happen", "what begins"))
    config = CaptionsConfig(backend="scripted", prompt=str(path))
    assert CaptionsStage(config, stage.context).fingerprint != first
    path.write_text(text)
    assert CaptionsStage(config, stage.context).fingerprint == first
    backend.model = "scripted/2"
    assert stage.fingerprint != first


def test_an_unknown_backend_names_the_choices() -> None:
    with pytest.raises(
        ValidationError, match="'gtp' is no caption backend: choose motion or given"
    ):
        CaptionsConfig(backend="gtp")


# -- given ----------------------------------------------------------------------------------------


def given_stage(media: Media, **settings: Any) -> CaptionsStage:
    config = CaptionsConfig(backend="given", given=settings)
    return CaptionsStage(config, Context(media, Clock()))


def spoken(*rows: tuple[float, float, str]) -> tuple[Span, ...]:
    """Rows in seconds of the clip, which begins at 10 s."""
    return tuple(Span(10 + a, 10 + b, text) for a, b, text in rows)


def test_given_rows_go_to_the_segments_they_stand_in(media: Media) -> None:
    timeline = Timeline(
        metas=(Span(0, 9, "another shot"), Span(9.5, 13.5, "a red square")),
        captions=spoken(
            (-0.5, 0.1, "before"),  # less than half a chunk
            *((0.25 * i, 0.25 * i + 0.25, "left") for i in range(3)),  # said once
            (0.75, 1.0, "up"),
            (1.0, 1.9, "A car turns."),
            (1.85, 2.1, "It stops"),
            (2.5, 2.55, "a flash"),  # short, but wholly inside
        ),
    )
    one = clip(media, 1, timeline)
    stage = given_stage(media)
    (rows,) = stage.process([one])
    assert texts(rows) == ["a red square", "left, up", "A car turns. It stops.", "a flash"]
    assert {row.columns["model"] for row in rows} == {"given/1"}
    assert all(row.columns["times"] == [] for row in rows)
    (after,) = stage.advance(one, rows)
    assert after["meta_text"] == "a red square"


def test_a_segment_without_rows_is_rejected_or_legally_empty(media: Media) -> None:
    one = clip(media, 1, Timeline(captions=spoken((0.0, 1.0, "go"))))
    stage = given_stage(media)
    (rows,) = stage.process([one])
    assert [(row.outcome, row.reason) for row in rows] == [
        ("ok", None),
        ("ok", None),
        ("filtered", "no_caption"),
        ("filtered", "no_caption"),
    ]
    (after,) = stage.advance(one, rows)
    assert after["meta_text"] == ""
    assert [s["verdict"] for s in after["segments"]] == ["no_verdict", "no_caption", "no_caption"]
    (rows,) = given_stage(media, allow_empty=True).process([one])
    assert {row.outcome for row in rows} == {"ok"} and texts(rows) == ["", "go", "", ""]


def test_a_film_without_a_timeline_has_no_given_captions(media: Media) -> None:
    one = clip(media, 1)
    stage = given_stage(media)
    (rows,) = stage.process([one])
    assert {row.reason for row in rows[1:]} == {"no_caption"}
    assert stage.advance(one, rows) == []


def test_a_broken_or_changed_timeline_ends_its_own_clip_only(media: Media) -> None:
    timeline = Timeline(captions=spoken((0.0, 3.0, "go")))
    good, changed, broken = (clip(media, number, timeline) for number in (1, 2, 3))
    with Path(changed["timeline"]).open("a") as file:
        file.write("\n")
    Path(broken["timeline"]).write_text("{")
    stage = given_stage(media)
    answers = stage.process([broken, good, changed])
    assert {row.outcome for row in answers[1]} == {"ok"}
    for one, rows, message in ((broken, answers[0], "line 1"), (changed, answers[2], "changed")):
        (row,) = rows
        assert (row.outcome, row.reason, row.parent) == ("failed", "timeline", one["clip_id"])
        assert message in str(row.message)
        assert stage.advance(one, rows) == []


def test_a_timeline_is_content_only_where_it_is_read(media: Media) -> None:
    one = clip(media, 1, Timeline())
    other = {**one, "timeline_sha256": "another"}
    motion = CaptionsStage(CaptionsConfig(), Context(media, Clock()))
    assert motion.key(one) == motion.key(other)
    assert given_stage(media).key(one) != given_stage(media).key(other)
    assert given_stage(media).fingerprint != given_stage(media, allow_empty=True).fingerprint


def test_a_missing_prompt_is_a_user_error(scripted: Make, media: Media) -> None:
    scripted(say_what_is_shown)
    with pytest.raises(UserError, match="'sprot' not found"):
        CaptionsStage(CaptionsConfig(backend="scripted", prompt="sprot"), Context(media, Clock()))
