from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import segment_id, sha256_file
from corpus.layout import Media
from corpus.video import write_video
from stages.cutting.novelty import novelty
from stages.segments import SegmentsConfig, SegmentsStage, adaptive_spans, fixed_spans
from stages.stage import Context

Spans = list[tuple[int, int]]


def is_partition(spans: Spans, chunks: int) -> bool:
    return [i for a, b in spans for i in range(a, b)] == list(range(chunks)) and all(
        a < b for a, b in spans
    )


@given(st.integers(1, 400), st.integers(1, 70), st.sampled_from(["merge", "spread"]))
def test_fixed_is_an_exact_partition_whose_last_segment_takes_the_rest(
    chunks: int, target: int, remainder: Any
) -> None:
    spans = fixed_spans(chunks, target, remainder)
    assert is_partition(spans, chunks)
    lengths = [b - a for a, b in spans]
    assert len(spans) == max(1, chunks // target)
    if remainder == "merge":
        assert lengths[:-1] == [target] * (len(spans) - 1) and lengths[-1] < 2 * target
    else:
        assert max(lengths) - min(lengths) <= 1


@given(st.data())
def test_adaptive_is_an_exact_partition_within_its_bounds(data: st.DataObject) -> None:
    low = data.draw(st.integers(1, 8))
    high = data.draw(st.integers(2 * low, 30))
    target = data.draw(st.integers(low, high))
    chunks = data.draw(st.integers(1, 90))
    change = np.random.default_rng(data.draw(st.integers(0, 1000))).exponential(1, chunks - 1)
    spans = adaptive_spans(change, target, low, high)
    assert is_partition(spans, chunks)
    lengths = [b - a for a, b in spans]
    if chunks >= low:
        assert low <= min(lengths) and max(lengths) <= high
    wanted = np.clip(round(chunks / target), -(-chunks // high), max(1, chunks // low))
    assert len(spans) == max(1, wanted)


def test_adaptive_cuts_where_the_change_is() -> None:
    change = np.full(31, 0.1)
    change[[4, 13, 24]] = 5.0
    assert adaptive_spans(change, 8, 4, 16) == [(0, 5), (5, 14), (14, 25), (25, 32)]
    assert adaptive_spans(np.zeros(31), 8, 4, 16) == [(0, 8), (8, 16), (16, 24), (24, 32)]


def pan_then_still(chunks: int, turn: int) -> np.ndarray[Any, Any]:
    """A texture that moves during the first ``turn`` chunks and then stands."""
    world = np.random.default_rng(0).integers(0, 255, (16, 160), np.uint8)
    world = np.kron(world, np.ones((8, 8), np.uint8))
    frames = []
    for i in range(1 + 4 * chunks):
        x = 4 * min(i, 4 * turn)
        frames.append(np.repeat(world[:128, x : x + 192, None], 3, axis=2))
    return np.stack(frames)


def record(media: Media, frames: np.ndarray[Any, Any], chunks: int) -> dict[str, Any]:
    path = media.path(media.clip("c" * 32))
    write_video(path, frames, 16)
    return {
        "clip_id": "c" * 32,
        "clip": media.clip("c" * 32),
        "clip_sha256": sha256_file(path),
        "chunks": chunks,
    }


def stage(media: Media, **config: Any) -> SegmentsStage:
    return SegmentsStage(SegmentsConfig(**config), Context(media, Clock()))


def test_the_stage_names_segments_and_finds_where_a_pan_ends(tmp_path: Path) -> None:
    media = Media(tmp_path)
    one = record(media, pan_then_still(20, 7), 20)
    work = stage(media, mode="adaptive", seconds=2.5)
    ((first, second),) = work.process([one])
    assert (first.columns, second.columns) == ({"a": 0, "b": 7}, {"a": 7, "b": 20})
    (after,) = work.advance(one, [first, second])
    assert after["segments"] == [
        {"segment_id": segment_id("c" * 32, 0, 7), "a": 0, "b": 7},
        {"segment_id": segment_id("c" * 32, 7, 20), "a": 7, "b": 20},
    ]


def test_an_image_has_no_segments_and_says_so(tmp_path: Path) -> None:
    work = stage(Media(tmp_path))
    ((row,),) = work.process([{"clip_id": "c", "chunks": 0}])
    assert (row.outcome, row.reason, row.parent) == ("filtered", "no_chunks", "c")
    assert work.advance({"clip_id": "c"}, [row]) == []


def test_novelty_of_a_still_clip_is_nothing() -> None:
    still = np.full((33, 64, 64, 3), 90, np.uint8)
    assert not novelty(still, 16.0, 8, 0.25).any()
    assert novelty(still[:5], 16.0, 1, 0.25).shape == (0,)


def test_only_what_can_change_the_result_is_in_the_fingerprint(tmp_path: Path) -> None:
    media = Media(tmp_path)
    assert stage(media, seconds=2.0).fingerprint == stage(media, chunks=8).fingerprint
    assert stage(media).fingerprint == stage(media, min_seconds=0.5).fingerprint
    assert stage(media).fingerprint != stage(media, mode="adaptive").fingerprint
    assert stage(media).fingerprint != stage(media, seconds=1.0).fingerprint


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not both"):
        stage(Media(tmp_path), seconds=2.0, chunks=8)
    with pytest.raises(UserError, match="2 min_seconds"):
        stage(Media(tmp_path), mode="adaptive", min_seconds=2.0, max_seconds=3.0)
    with pytest.raises(UserError, match=r"whole number of chunks"):
        stage(Media(tmp_path), seconds=0.3)
    with pytest.raises(ValidationError):
        SegmentsConfig(mode="clever")  # type: ignore[arg-type]
