"""Presentation time is arithmetic in fractions, whatever the ticks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reading.media_time import (
    chunks_between,
    first_from,
    read_timing,
    sample,
    tolerance,
    write_timing,
)

BASES = [(1, 90000), (1, 1000), (1, 600), (1, 30), (1001, 30000), (1, 57600), (1, 12800)]


@st.composite
def films(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """Strictly increasing ticks, also negative, with gaps of all lengths."""
    base = draw(st.sampled_from(BASES))
    gaps = draw(st.lists(st.integers(1, 3 * base[1] // base[0] + 1), min_size=1, max_size=60))
    start = draw(st.integers(-(10**9), 10**12))
    return start + np.cumsum([0, *gaps]).astype(np.int64), base


@given(films(), st.integers(1, 60), st.integers(1, 120), st.data())
def test_each_frame_is_the_picture_on_show(film, fps, frames, data) -> None:
    pts, base = film
    start = int(data.draw(st.sampled_from(list(pts))))
    chosen = sample(pts, base, start, frames, fps)
    tick, slack = Fraction(*base), tolerance(base)
    assert len(chosen) == frames and (np.diff(chosen) >= 0).all() and pts[chosen[0]] == start
    for j, index in enumerate(chosen):
        time = start * tick + Fraction(j, fps) + slack
        assert pts[index] * tick <= time
        assert index == len(pts) - 1 or pts[index + 1] * tick > time


@pytest.mark.parametrize(
    ("rate", "base"),
    [(24, (1, 1000)), (30, (1, 1000)), (25, (1, 600)), (60, (1, 600))],
)
def test_rounded_timestamps_change_no_frame(rate, base) -> None:
    """A container that rounds to its ticks gives the frames that exact times would give."""
    exact = [n / Fraction(rate) for n in range(400)]
    pts = np.array([round(time / Fraction(*base)) for time in exact], np.int64)
    chosen = sample(pts, base, 0, 150, 16)
    expected = [
        max(n for n, time in enumerate(exact) if time <= Fraction(j, 16)) for j in range(150)
    ]
    assert chosen.tolist() == expected


def test_a_clip_before_the_film_is_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        sample(np.array([100, 200]), (1, 1000), 50, 3, 16)


@given(films(), st.integers(1, 400))
def test_chunks_end_before_the_shot_does(film, fps) -> None:
    pts, base = film
    chunk = Fraction(4, fps)
    start, end = Fraction(int(pts[0])), Fraction(int(pts[-1]))
    k = chunks_between(base, start, end, chunk)
    last = k * chunk + tolerance(base)
    assert k == 0 or last < (end - start) * Fraction(*base)
    assert last + chunk >= (end - start) * Fraction(*base)


def test_a_shot_of_1_plus_4k_frames_holds_k_chunks() -> None:
    chunk = Fraction(1, 4)
    for frames, chunks in ((1, 0), (4, 0), (5, 1), (64, 15), (65, 16), (68, 16)):
        end = Fraction(frames * 1024)
        assert chunks_between((1, 16384), Fraction(0), end, chunk) == chunks


@given(films(), st.data())
def test_seconds_find_the_picture_that_begins_there(film, data) -> None:
    pts, base = film
    index = data.draw(st.integers(0, len(pts) - 1))
    seconds = float(int(pts[index]) * Fraction(*base))
    assert first_from(pts, base, seconds) == index


def test_timing_is_stored_exactly(tmp_path) -> None:
    pts = np.array([-5, 0, 7, 1 << 60], np.int64)
    write_timing(tmp_path / "a" / "b.npy", pts)
    assert (read_timing(tmp_path / "a" / "b.npy") == pts).all()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.npy"]
