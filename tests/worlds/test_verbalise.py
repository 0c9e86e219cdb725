"""What is done is what is said."""

import math

import pytest

from corpus.clock import Clock
from corpus.timeline import Span
from worlds.doom_player import Buttons, Pose
from worlds.verbalise import arena_words, doom_words, spans

CLOCK = Clock()
STILL = Buttons()


def walk(
    ahead: float = 0, left: float = 0, turn: float = 0, angle: float = 90, chunks: int = 1
) -> list[Pose]:
    """Poses that move by so many units per chunk along the heading, and turn to the left."""
    x = y = 0.0
    poses = [Pose(x, y, angle % 360, 100, 50, 0)]
    for _ in range(4 * chunks):
        angle += turn / 4
        heading = math.radians(angle)
        x += ahead / 4 * math.cos(heading) - left / 4 * math.sin(heading)
        y += ahead / 4 * math.sin(heading) + left / 4 * math.cos(heading)
        poses.append(Pose(x, y, angle % 360, 100, 50, 0))
    return poses


def said(poses: list[Pose], used: Buttons = STILL, no_op: str = "wait") -> tuple[str, ...]:
    return doom_words(poses, [used] * (len(poses) - 1), CLOCK, no_op)


@pytest.mark.parametrize("angle", [0, 90, 135, 200, 350])
@pytest.mark.parametrize(
    ("poses", "text"),
    [
        ({"ahead": 58}, "forward"),
        ({"ahead": -58}, "back"),
        ({"left": 58}, "strafe left"),
        ({"left": -58}, "strafe right"),
        ({"turn": 12}, "turn left"),
        ({"turn": -12}, "turn right"),
        ({"ahead": 58, "turn": 20}, "forward, turn left"),
        ({"ahead": 40, "left": -40}, "forward, strafe right"),
        ({"ahead": 58, "left": 10}, "forward"),  # drift, not a step to the side
        ({}, "wait"),
    ],
)
def test_movement_is_named_by_what_came_of_it(
    poses: dict[str, float], text: str, angle: float
) -> None:
    assert said(walk(**poses, angle=angle)) == (text,)


def test_a_key_pressed_at_a_wall_says_nothing_and_an_attack_always() -> None:
    assert said(walk(), Buttons(forward=1)) == ("wait",)
    assert said(walk(ahead=3), Buttons(forward=1)) == ("wait",)
    assert said(walk(), Buttons(attack=1)) == ("attack",)
    assert said(walk(ahead=30, turn=-30), Buttons(attack=1)) == ("forward, turn right, attack",)


def test_one_text_per_chunk_and_a_press_counts_where_it_was() -> None:
    inputs = [STILL] * 4 + [STILL, Buttons(attack=1), STILL, STILL]
    assert doom_words(walk(chunks=2), inputs, CLOCK) == ("wait", "attack")
    with pytest.raises(ValueError, match="5 poses do not fit 8 inputs"):
        doom_words(walk(), inputs, CLOCK)


def test_a_teleporter_is_no_walk() -> None:
    assert said(walk(ahead=900)) == ("wait",)


def test_no_op_is_called_as_wished() -> None:
    assert said(walk(), no_op="") == ("",)
    assert arena_words(("left", "stay", "jump")) == ("left", "stay", "jump")
    assert arena_words(("left", "stay", "jump"), no_op="") == ("left", "", "jump")


def test_spans_lie_on_the_chunks_and_skip_silence() -> None:
    words = ("left", "left", "", "jump")
    assert spans(words, 4.0625, CLOCK) == (
        Span(4.0625, 4.3125, "left"),
        Span(4.3125, 4.5625, "left"),
        Span(4.8125, 5.0625, "jump"),
    )
