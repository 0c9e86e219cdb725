"""Conservation over random outcome trees: whatever happens, every level adds up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_fakes import STAGES, FakeConfig, Latents

from corpus.clock import Clock
from corpus.layout import Media
from corpus.rows import LEVELS, Row
from pipeline.inputs.sources import Source
from pipeline.ledger import conservation
from pipeline.ledger.conservation import ConservationError
from pipeline.ledger.replay import Replay, replay
from stages.stage import Context, Record, Stage

Answers = list[dict[str, list[Row]]]
Draw = Callable[[st.SearchStrategy[Any]], Any]
BAD = st.sampled_from(["filtered", "failed", "quarantined"])


def source(video: str | None, outcome: Any = "ok", reason: str | None = None) -> Source:
    return Source(f"{video}.mp4", "", video_id=video, outcome=outcome, reason=reason)


def fill(draw: Draw, stages: Sequence[Stage], records: list[Record]) -> Answers:
    """Random rows for each record, or none; then for what they lead to, stage by stage."""
    stored: Answers = []
    for stage in stages:
        answers: dict[str, list[Row]] = {}
        onward: list[Record] = []
        for record in records:
            if draw(st.integers(0, 9)) == 0:
                continue  # not answered yet
            key = stage.key(record)
            answers[key] = _rows(draw, stage, record)
            onward += stage.advance(record, answers[key])
        stored.append(answers)
        records = onward
    return stored


def _rows(draw: Draw, stage: Stage, record: Record) -> list[Row]:
    if draw(st.integers(0, 7)) == 0:
        return stage.end(record, draw(BAD), "ended", "")
    blank: dict[str, Any] = dict.fromkeys(stage.writes.names)
    if stage.name in ("probe", "latents"):
        unit = record["clip_id"] if stage.unit == "clip" else record["video_id"]
        parent = record["shot_id"] if stage.unit == "clip" else None
        return [Row(stage.level, parent, unit, columns={**blank, "script": "s"})]
    if stage.name == "words":
        return [
            _maybe_bad(draw, Row("segment", record["clip_id"], s["segment_id"], columns=blank))
            for s in record["segments"]
        ]
    parents = stage.subjects(record)
    return [row for parent in parents for row in _children(draw, stage, parent, blank)]


def _children(draw: Draw, stage: Stage, parent: str, blank: dict[str, Any]) -> list[Row]:
    count = draw(st.integers(0, 3))
    if not count:
        return [Row(stage.level, parent, None, draw(BAD), "none")]
    columns = {**blank, "chunks": 1, "words": ["w"]}
    return [
        _maybe_bad(draw, Row(stage.level, parent, f"{parent}/{stage.level}{n}", columns=columns))
        for n in range(count)
    ]


def _maybe_bad(draw: Draw, row: Row) -> Row:
    if draw(st.integers(0, 4)):
        return row
    return Row(row.level, row.parent, row.id, draw(BAD), "bad", columns=row.columns)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_level_adds_up(data: st.DataObject) -> None:
    stages = fake_stages()
    sources = [source(f"v{n}") for n in range(data.draw(st.integers(0, 4)))]
    sources += [source(None, "failed", "empty"), source("v0", "filtered", "duplicate")]
    start = [s.record() for s in sources if s.outcome == "ok"]
    stored = fill(data.draw, stages, start)
    found = replay(stages, start, stored)
    counts = conservation.count(sources, stages, found)
    conservation.check(sources, counts, found)
    assert counts["videos"].inputs == len(sources)
    for level in LEVELS[1:]:
        created = {
            row.id
            for a in found.answered
            for row in a.rows
            if row.id is not None and row.level == level
        }
        assert counts[f"{level}s"].inputs == len(created)
    if not found.waiting:
        assert all(level.pending == 0 for level in counts.values())
    else:
        assert counts["videos"].pending + counts["clips"].pending > 0


def fake_stages() -> list[Stage]:
    context = Context(Media(Path("unused")), Clock())
    return [kind(FakeConfig(), context) for kind in STAGES]


def count(*steps: list[Row]) -> tuple[dict[str, Any], Replay]:
    """Counts of one video whose stages answered ``steps``, one after the other, at every clip."""
    stages = fake_stages()
    sources = [source("v")]
    stored: Answers = []
    records = [sources[0].record()]
    for stage, rows in zip(stages, steps, strict=False):
        answers = {stage.key(record): rows for record in records}
        records = [item for record in records for item in stage.advance(record, rows)]
        stored.append(answers)
    stored += [{} for _ in stages[len(stored) :]]
    found = replay(stages, [sources[0].record()], stored)
    counts = conservation.count(sources, stages, found)
    conservation.check(sources, counts, found)
    return {name: level.to_json() for name, level in counts.items()}, found


PROBED = [Row("video", None, "v", columns={"script": "s"})]
SHOTS = [Row("shot", "v", "s1", columns={"number": 0}), Row("shot", "v", "s2", "filtered", "short")]
CLIPS = [Row("clip", "s1", "c", columns={"chunks": 2, "words": ["x", "y"]})]
SEGMENTS = [Row("segment", "c", f"g{n}", columns={"a": n}) for n in range(2)]
WORDS = [Row("segment", "c", f"g{n}", columns={"text": "x"}) for n in range(2)]
BAD_WORDS = [Row("segment", "c", f"g{n}", "filtered", "vague") for n in range(2)]
LATENT = [Row("clip", "s1", "c", columns={"codec": "fake"})]


def test_all_the_way() -> None:
    counts, found = count(PROBED, SHOTS, CLIPS, SEGMENTS, WORDS, LATENT)
    assert [counts[f"{level}s"]["ok"] for level in LEVELS] == [1, 1, 1, 2]
    assert counts["shots"]["filtered"] == {"short": 1}
    assert [record["clip_id"] for record in found.finished] == ["c"]


def test_a_unit_whose_children_all_ended_shares_the_fate_of_the_first() -> None:
    counts, _ = count(PROBED, SHOTS, CLIPS, SEGMENTS, BAD_WORDS)
    assert counts["segments"]["filtered"] == {"vague": 2}
    assert counts["clips"]["filtered"] == {"vague": 1}
    assert counts["videos"]["ok"] == 1, "it gave a clip; what became of that is the clip's matter"


def test_segments_share_the_fate_of_a_clip_that_ended_after_they_were_captioned() -> None:
    failed = [Row("clip", "c", None, "failed", "codec", "it overflowed")]
    counts, _ = count(PROBED, SHOTS, CLIPS, SEGMENTS, WORDS, failed)
    assert counts["clips"]["failed"] == {"codec": 1}
    assert counts["segments"]["failed"] == {"codec": 2}


def test_what_waits_is_pending_and_so_is_what_hangs_below_it() -> None:
    counts, found = count(PROBED, SHOTS, CLIPS, SEGMENTS, WORDS)
    assert [waiting.stage for waiting in found.waiting] == [5]
    assert counts["clips"]["pending"] == 1
    assert counts["segments"]["pending"] == 2
    assert counts["videos"]["ok"] == 1
    counts, _ = count(PROBED, SHOTS)
    assert counts["videos"]["pending"] == 1
    assert (counts["shots"]["pending"], counts["shots"]["filtered"]) == (1, {"short": 1})


def test_the_first_row_that_is_not_ok_decides() -> None:
    worse = [Row("clip", "c", None, "failed", "codec", "")]
    words = [WORDS[0], Row("segment", "c", "g1", "filtered", "vague")]
    counts, _ = count(PROBED, SHOTS, CLIPS, SEGMENTS, words, worse)
    assert counts["segments"]["filtered"] == {"vague": 1}
    assert counts["segments"]["failed"] == {"codec": 1}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([PROBED, SHOTS, CLIPS, []], "segments of c says nothing about c"),
        (
            [PROBED, SHOTS, [Row("clip", "s9", "c", columns=CLIPS[0].columns)]],
            "c has no known parent",
        ),
        ([PROBED, SHOTS, [*CLIPS, Row("clip", "s9", None, "failed", "x")]], "speaks of s9"),
        (
            [PROBED, SHOTS, CLIPS, [Row("clip", "c", "s1", columns=SEGMENTS[0].columns)]],
            "known as a shot",
        ),
        (
            [PROBED, SHOTS, CLIPS, SEGMENTS, WORDS, [Row("clip", "s2", "c", columns={})]],
            "c of s2 is known as a clip of s1",
        ),
    ],
)
def test_rows_that_do_not_fit_are_an_error(steps: list[list[Row]], message: str) -> None:
    with pytest.raises(ConservationError, match=message):
        count(*steps)


def test_going_no_further_without_a_reason_is_an_error() -> None:
    class Silent(Latents):
        def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
            return []

    stages = [*fake_stages()[:5], Silent(FakeConfig(), Context(Media(Path("unused")), Clock()))]
    steps = (PROBED, SHOTS, CLIPS, SEGMENTS, WORDS, LATENT)
    record = source("v").record()
    records, stored = [record], []
    for stage, rows in zip(stages, steps, strict=True):
        stored.append({stage.key(one): rows for one in records})
        records = [item for one in records for item in stage.advance(one, rows)]
    found = replay(stages, [record], stored)
    with pytest.raises(ConservationError, match="went no further and says not why"):
        conservation.count([source("v")], stages, found)


def test_a_finished_clip_too_many_is_an_error() -> None:
    _, found = count(PROBED, SHOTS, CLIPS, SEGMENTS, WORDS, LATENT)
    levels = conservation.count([source("v")], fake_stages(), found)
    found.finished.append({"clip_id": "c2"})
    with pytest.raises(ConservationError, match="1 clips count as ok, but 2 finished"):
        conservation.check([source("v")], levels, found)
