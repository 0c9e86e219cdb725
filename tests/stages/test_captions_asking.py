"""Second tries, independent questions, ladders, and what is recorded of each caption."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from asked import CHUNKS, Reply, Scripted, clip, say_what_is_shown

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import binding
from corpus.layout import Media
from corpus.video import read_video
from stages.captioning.backend import CaptionAnswer, CaptionRequest, Detail, View
from stages.captioning.settings import CaptionsConfig
from stages.captioning.sight import Sight
from stages.captions import CaptionsStage
from stages.stage import Context

Make = Callable[..., tuple[CaptionsStage, Scripted]]


AGAIN = {"temperature": 0.7, "seed": 1}


class Drawn(Scripted):
    """A backend whose second try decodes otherwise."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.again = AGAIN


def asked(backend: Scripted) -> list[CaptionRequest]:
    return [request for batch in backend.asked for request in batch]


@pytest.mark.parametrize("status", ["truncated", "blocked", "degenerate", "schema"])
def test_what_is_no_caption_is_asked_once_more_with_other_decoding(
    media: Media, scripted: Make, status: str
) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        spent = Detail(100, 7, 0.5)
        if request.kind == "segment" and request.start == 1.0 and not request.sampling.get("seed"):
            return request.answer(status, "so so so so", "no good", spent)
        return request.answer("ok", f"said {request.start:g}", detail=spent)

    stage, backend = scripted(reply, kind=Drawn)
    (rows,) = stage.process([clip(media, 1)])
    assert [row.reason for row in rows] == [None] * 4
    twice = rows[2].columns
    assert (twice["tries"], twice["tokens_in"], twice["tokens_out"]) == (2, 200, 14)
    assert twice["seconds"] == 1.0 and twice["text"] == "said 1"
    assert json.loads(twice["sampling"]) == AGAIN != json.loads(rows[1].columns["sampling"])
    assert [row.columns["tries"] for row in rows] == [1, 1, 2, 1]
    first, second = [one for one in asked(backend) if one.start == 1.0 and one.kind == "segment"]
    assert (first.prompt, first.shown, first.previous) == (
        second.prompt,
        second.shown,
        second.previous,
    )
    assert second.sampling == AGAIN and twice["binding"] == second.id != first.id
    assert asked(backend)[-1].previous == "said 1"  # the second try is as good as a first
    told = stage.told()
    assert told["again"] == 1 and told["answers"] == 5 and told["tokens_out"] == 35
    assert stage.told() == {}


def test_the_binding_is_made_of_the_decoding_that_was_really_used(
    media: Media, scripted: Make
) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        bad = "seed" not in request.sampling
        return request.answer("schema" if bad else "ok", "" if bad else "good")

    stage, backend = scripted(reply, kind=Drawn)
    (rows,) = stage.process([clip(media, 1)])
    sampled = [one for one in asked(backend) if one.sampling == AGAIN]
    assert {row.columns["binding"] for row in rows} == {one.id for one in sampled}
    as_if_first = binding("", "", backend.model, backend.sampling)
    assert as_if_first not in {row.columns["binding"] for row in rows}


def test_a_second_failure_rejects_and_breaks_the_chain(media: Media, scripted: Make) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        if request.kind == "segment" and request.start == 1.0:
            again = request.sampling == AGAIN
            return request.answer("degenerate" if again else "truncated", "la la la")
        return request.answer("ok", "fine")

    stage, backend = scripted(reply, kind=Drawn)
    (rows,) = stage.process([clip(media, 1)])
    assert [(row.outcome, row.reason) for row in rows][2] == ("failed", "degenerate")
    assert rows[2].columns["tries"] == 2 and not rows[2].columns["accepted"]
    last = asked(backend)[-1]
    assert last.start == 2.0 and last.previous is None


@pytest.mark.parametrize(
    ("status", "kind"), [("timeout", Drawn), ("error", Drawn), ("schema", Scripted)]
)
def test_nothing_is_asked_again_where_that_cannot_help(
    media: Media, scripted: Make, status: str, kind: type[Scripted]
) -> None:
    stage, backend = scripted(lambda request: request.answer(status), kind=kind)
    (rows,) = stage.process([clip(media, 1)])
    assert len(asked(backend)) == 4 and {row.reason for row in rows} == {status}
    assert {row.columns["tries"] for row in rows} == {1}


def test_an_empty_answer_is_asked_again(media: Media, scripted: Make) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        return request.answer("ok", "now" if request.sampling == AGAIN else " ")

    stage, _ = scripted(reply, kind=Drawn)
    (rows,) = stage.process([clip(media, 1)])
    assert [row.columns["text"] for row in rows] == ["now"] * 4


def test_independent_questions_are_all_open_at_once_and_build_on_nothing(
    media: Media, scripted: Make
) -> None:
    stage, backend = scripted(say_what_is_shown, settings={"chain": False})
    (rows,) = stage.process([clip(media, 1)])
    assert [len(batch) for batch in backend.asked] == [4]
    assert [row.columns["text"] for row in rows] == [
        "grey 88 at 3",
        "grey 56 at 1",
        "grey 72 at 2",
        "grey 88 at 3",
    ]
    assert {one.previous for one in asked(backend)} == {None}
    _, first, second, third = asked(backend)
    assert "its beginning" in first.prompt and not first.before.times
    for one in (second, third):
        assert "was said" not in one.prompt and one.before.times[0] == one.start - 1
    chained, _ = scripted(say_what_is_shown)
    assert chained.fingerprint != stage.fingerprint


# -- ladders --------------------------------------------------------------------------------------


def test_ladders_are_partitions_of_the_clip_with_chains_of_their_own(
    media: Media, scripted: Make
) -> None:
    stage, backend = scripted(say_what_is_shown, settings={"ladders": ["0.5s", "2s", "9s"]})
    one = clip(media, 1)
    (rows,) = stage.process([one])
    (after,) = stage.advance(one, rows)
    spans = {
        every: [(s["a"], s["b"]) for s in after["ladders"] if s["every"] == every]
        for every in ("0.5s", "2s", "9s")
    }
    assert spans == {
        "0.5s": [(a, a + 2) for a in range(0, CHUNKS, 2)],
        "2s": [(0, 12)],  # 8 chunks and 4 left over, which belong to the last
        "9s": [(0, 12)],
    }
    assert [s["text"] for s in after["ladders"]][:6] == [
        f"grey {40 + 4 * b} at {b / 4:g}" for b in range(2, 13, 2)
    ]
    fine = [one for one in asked(backend) if one.kind == "segment" and one.end - one.start == 0.5]
    assert [one.previous for one in fine][1] == "grey 48 at 0.5"
    assert set(after["ladders"][0]) == {
        *("every", "a", "b", "text", "status", "prompt", "model", "binding")
    }
    assert [row.level for row in rows] == ["clip", "segment", "segment", "segment"]
    assert all(row.columns["ladders"] is None for row in rows[1:])
    pa.Table.from_pylist([rows[0].columns], schema=stage.writes)  # a table takes them
    steps = rows[0].columns["ladders"]
    assert steps[1]["times"] == [0.5 + i / 8 for i in range(5)] and steps[1]["tries"] == 1


def test_a_rejected_step_of_a_ladder_has_no_text_and_says_why(media: Media, scripted: Make) -> None:
    def reply(request: CaptionRequest) -> CaptionAnswer:
        if request.kind == "segment" and request.end - request.start > 1:
            return request.answer("truncated", "grey and")
        return say_what_is_shown(request)

    stage, _ = scripted(reply, settings={"ladders": ["1s", "2s"]})
    one = clip(media, 1)
    (rows,) = stage.process([one])
    (after,) = stage.advance(one, rows)
    assert [(s["every"], s["text"], s["status"]) for s in after["ladders"]] == [
        ("1s", "grey 56 at 1", "ok"),
        ("1s", "grey 72 at 2", "ok"),
        ("1s", "grey 88 at 3", "ok"),
        ("2s", "", "truncated"),
    ]
    assert {row.outcome for row in rows} == {"ok"}  # a ladder decides nobody's fate
    assert rows[0].columns["ladders"][-1]["text"] == "grey and"  # the table keeps what was said


def test_a_ladder_of_the_segments_own_width_asks_nothing_twice(
    media: Media, scripted: Make
) -> None:
    stage, backend = scripted(say_what_is_shown, settings={"ladders": ["1s"]})
    (rows,) = stage.process([clip(media, 1)])
    assert len(asked(backend)) == 4
    bindings = [step["binding"] for step in rows[0].columns["ladders"]]
    assert bindings == [row.columns["binding"] for row in rows[1:]]


@pytest.mark.parametrize(
    ("ladders", "message"),
    [
        (["0.1s"], "0.1 s is not a whole number of chunks"),
        (["0.3s"], "not a whole number"),
        (["4"], "'4' is no density: write seconds, as in 4s"),
        (["clip"], "a whole clip has its meta-caption anyway"),
        (["-4s"], "no density"),
        (["nans"], "no density|not a whole number"),
        (["2s", "2.0s"], "2.0s is there twice"),
    ],
)
def test_a_ladder_that_the_clock_does_not_know_is_refused(
    media: Media, ladders: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=f"captions.ladders: .*({message})"):
        CaptionsStage(CaptionsConfig(ladders=tuple(ladders)), Context(media, Clock()))


def test_ladders_and_nothing_that_is_only_told_belong_to_the_fingerprint(
    media: Media,
) -> None:
    def fingerprint(**settings: Any) -> str:
        config = CaptionsConfig(**settings)
        return CaptionsStage(config, Context(media, Clock())).fingerprint

    assert fingerprint() == fingerprint(canaries=0)
    assert len({fingerprint(), fingerprint(ladders=("1s",)), fingerprint(ladders=("2s",))}) == 3
    assert fingerprint(ladders=("2s",)) == fingerprint(ladders=("2.0s",))


# -- what is recorded -----------------------------------------------------------------------------


def test_what_was_shown_is_recorded_with_its_times_and_size(media: Media, scripted: Make) -> None:
    class Small(Scripted):
        view = View(fps=2, short_side=8, before=True)

    stage, backend = scripted(say_what_is_shown, kind=Small)
    one = clip(media, 1)
    (rows,) = stage.process([one])
    columns = rows[2].columns
    assert columns["times"] == [1.0, 1.5, 2.0] and columns["before"] == [0.0, 0.5, 1.0]
    assert (columns["width"], columns["height"]) == (16, 8)
    assert columns["model"] == "scripted/1" and columns["prompt"].startswith("generic/")
    frames = read_video(media.path(one["clip"]))
    for request in asked(backend):
        for frame, seconds in zip(request.shown.frames, request.shown.times, strict=True):
            assert frame.mean() == frames[round(16 * seconds)].mean()  # the true time of each


def test_a_segment_shorter_than_the_view_still_shows_how_it_ends(media: Media) -> None:
    """At two frames a second a segment of a quarter would show nothing but what was before it."""
    one = clip(media, 1)
    sight = Sight(media.path(one["clip"]), Clock(), [(4, 5), (4, 7)], View(fps=2))
    assert sight.shown(4, 5).times == (1.0, 1.25)
    assert sight.shown(4, 7).times == (1.0, 1.5, 1.75)
    assert [int(frame.mean()) for frame in sight.shown(4, 5).frames] == [56, 60]


def test_a_long_stretch_is_shown_in_fewer_frames_evenly(media: Media) -> None:
    one = clip(media, 1)
    path = media.path(one["clip"])
    for most, times in (
        (0, tuple(i / 4 for i in range(13))),
        (13, tuple(i / 4 for i in range(13))),
        (12, (0, 0.5, 1, 1.5, 2, 2.5, 3)),
        (5, (0, 0.75, 1.5, 2.25, 3)),
        (4, (0, 1, 2, 3)),
        (1, (0, 3)),
    ):
        sight = Sight(path, Clock(), [(0, 12), (0, 4)], View(fps=4, most=most))
        assert sight.shown(0, 12).times == times
        assert len(sight.shown(0, 4).times) <= max(most or 5, 2)


def test_motion_and_given_take_no_time_into_their_tables(media: Media) -> None:
    """Else the same work would give other bytes each time."""
    for backend in ("motion", "given"):
        stage = CaptionsStage(CaptionsConfig(backend=backend), Context(media, Clock()))
        (rows,) = stage.process([clip(media, 1)])
        assert {row.columns["seconds"] for row in rows} == {0.0}


def test_a_batch_is_a_few_times_what_the_backend_holds(media: Media, scripted: Make) -> None:
    stage, backend = scripted(say_what_is_shown)
    need = stage.resources
    assert need.patient and need.batch > backend.limit
    motion = CaptionsStage(CaptionsConfig(), Context(media, Clock())).resources
    assert not motion.patient and (motion.cpus, motion.batch) == (1.0, 4)
    given = CaptionsStage(CaptionsConfig(backend="given"), Context(media, Clock())).resources
    assert (given.cpus, given.batch) == (0.25, 64)
