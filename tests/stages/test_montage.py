"""A montage shows which way things go, and in which order."""

import numpy as np
import pytest

from corpus.clock import Clock
from stages.measures.montage import FRAMES, chosen, montage


def film(step: int) -> list[np.ndarray]:
    """A white square on black that moves to the right by ``step`` pixels a frame."""
    frames = np.zeros((FRAMES, 24, 24, 3), np.uint8)
    for number, frame in enumerate(frames):
        left = 10 + step * number
        frame[8:12, left : left + 4] = 255
    return list(frames)


def test_left_and_right_differ_also_without_their_order() -> None:
    right, left = montage(film(1), 72), montage(film(-1), 72)
    assert right.shape == (72, 72, 3) and right.dtype == np.uint8
    change = right[:24, 24:48, 0].astype(int)  # the second cell
    assert change[9, 10] < 100 and change[9, 14] > 156, "it leaves on the left, comes on the right"
    assert (change[0] == 128).all(), "grey is no change"
    assert (left != right).any()
    backwards = montage(film(1)[::-1], 72)
    assert (backwards != right).any()


def test_cells_hold_the_frames_as_they_are_where_sizes_agree() -> None:
    frames = [np.random.default_rng(n).integers(0, 256, (24, 24, 3), np.uint8) for n in range(5)]
    picture = montage(frames, 72)
    cells = [
        picture[24 * (n // 3) : 24 * (n // 3) + 24, 24 * (n % 3) : 24 * (n % 3) + 24]
        for n in range(9)
    ]
    for number, frame in enumerate(frames):
        assert (cells[2 * number] == frame).all()
    assert montage(frames, 74)[72:].tolist() == np.full((2, 74, 3), 128).tolist()


@pytest.mark.parametrize(
    ("a", "b", "frames"), [(0, 1, [0, 1, 2, 3, 4]), (2, 10, [8, 16, 24, 32, 40])]
)
def test_frames_from_the_picture_at_the_start_to_the_last(
    a: int, b: int, frames: list[int]
) -> None:
    assert chosen(Clock().span_frames(a, b)) == frames


def test_short_segments_show_frames_twice() -> None:
    assert chosen(range(1, 3)) == [0, 0, 1, 2, 2]
    assert chosen(range(5, 6))[0] == 4 and chosen(range(5, 6))[-1] == 5
