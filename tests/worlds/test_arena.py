"""The arena does what its text says: legality, determinism, eight films that differ."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worlds import arena
from worlds.arena import ACTIONS, COLOURS, SIZE, SPRITE, State

OPEN = State(8, 8, "red", ())
seeds = st.integers(0, 2**40)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_a_start_is_an_even_free_place_among_three_apart_rectangles(seed: int) -> None:
    state, style, _ = arena.start(seed)
    cover = np.zeros((SIZE, SIZE), int)
    for x, y, width, height in state.blocks:
        assert not any(n % arena.CELL for n in (x, y, width, height))
        assert x + width <= SIZE and y + height <= SIZE
        cover[y : y + height, x : x + width] += 1
    assert len(state.blocks) == arena.BLOCKS and cover.max() == 1
    assert state.x % 2 == 0 and state.y % 2 == 0
    assert not cover[state.y : state.y + SPRITE, state.x : state.x + SPRITE].any()
    assert style in arena.STYLES and state.colour in COLOURS


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_only_legal_actions_are_drawn_and_no_frame_touches_a_block(seed: int) -> None:
    film = arena.episode(seed)
    blocks = (arena.background(film.states[0].blocks) == arena.BLOCK).all(-1)
    assert (film.frames[:, blocks] == arena.BLOCK).all()
    for state, action in zip(film.states, film.actions, strict=False):
        assert action in arena.legal(state)


def test_an_episode_has_its_shape_and_truth() -> None:
    film = arena.episode(3)
    assert film.frames.shape == (65, 24, 24, 3) and film.frames.dtype == np.uint8
    assert len(film.actions) == 16 and len(film.states) == 17
    assert film.meta == f"{film.states[0].colour} {film.style}"
    for i, state in enumerate(film.states):
        assert (film.frames[4 * i] == arena.render(state)).all()


def test_the_same_seed_gives_the_same_film_and_another_another() -> None:
    one, again, other = arena.episode(7), arena.episode(7), arena.episode(8)
    assert (one.frames == again.frames).all() and one.actions == again.actions
    assert (one.frames != other.frames).any()


def test_a_longer_episode_begins_with_the_shorter() -> None:
    short, long = arena.episode(5, 4), arena.episode(5, 40)
    assert long.actions[:4] == short.actions
    assert (long.frames[: len(short.frames)] == short.frames).all()


def test_walls_and_blocks_forbid_exactly_what_would_touch_them() -> None:
    assert arena.legal(OPEN) == ACTIONS
    assert set(ACTIONS) - set(arena.legal(State(0, 0, "red", ()))) == {"left", "up", "jump"}
    assert set(ACTIONS) - set(arena.legal(State(20, 20, "red", ()))) == {"right", "down"}
    # A block of 4 px just right of the sprite, 2 px below its upper edge.
    assert set(ACTIONS) - set(arena.legal(State(8, 8, "red", ((12, 8, 4, 4),)))) == {"right"}
    # 2 px away is still too near for a step of 4 px.
    assert "up" not in arena.legal(State(8, 10, "red", ((8, 4, 4, 4),)))
    assert "up" in arena.legal(State(8, 12, "red", ((8, 4, 4, 4),)))


def test_an_illegal_step_is_refused() -> None:
    with pytest.raises(ValueError, match="'left' is not legal at"):
        arena.step(State(2, 0, "red", ()), "left")


def test_each_action_ends_where_it_should() -> None:
    ends = {action: arena.step(OPEN, action)[0] for action in ACTIONS}
    assert (ends["left"].x, ends["right"].x) == (4, 12)
    assert (ends["up"].y, ends["down"].y) == (4, 12)
    assert ends["stay"] == ends["jump"] == ends["blink"] == OPEN
    assert ends["paint"].colour == "green"
    assert arena.next_colour("blue") == "red"


def test_the_eight_films_differ_in_at_least_two_frames() -> None:
    films = {action: arena.step(OPEN, action)[1] for action in ACTIONS}
    for one, other in combinations(ACTIONS, 2):
        different = (films[one] != films[other]).any(axis=(1, 2, 3))
        assert different.sum() >= 2, (one, other)


def test_every_action_of_a_film_is_a_step() -> None:
    film = arena.episode(11)
    for i, action in enumerate(film.actions):
        state, frames = arena.step(film.states[i], action)
        assert state == film.states[i + 1]
        assert (frames == film.frames[1 + 4 * i : 5 + 4 * i]).all()


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_replay_retraces_a_film(seed: int) -> None:
    film = arena.episode(seed)
    steps = arena.replay(film.states[0], film.actions)
    assert tuple(step.state for step in steps) == film.states[1:]
    assert all(step.legal for step in steps)


def test_replay_marks_illegal_words_and_stands_still_for_them() -> None:
    steps = arena.replay(State(0, 8, "red", ()), ["left", "right", "left", "left", "fly"])
    assert [step.legal for step in steps] == [False, True, True, False, False]
    assert steps[0].state.x == steps[-1].state.x == 0


def test_the_policy_is_what_is_drawn() -> None:
    state = State(8, 8, "red", ())
    drawn = arena.policy(state, "jump", "hopping")
    assert sum(drawn.values()) == pytest.approx(1)
    assert drawn["jump"] == pytest.approx(0.5 + 0.5 * 4 / 11)
    blocked = arena.policy(State(0, 8, "red", ()), "left", "calm")
    assert "left" not in blocked and sum(blocked.values()) == pytest.approx(1)
    films = [arena.episode(seed) for seed in range(300)]
    repeats = [
        film.actions[i] == film.actions[i - 1]
        for film in films
        for i in range(1, 16)
        if film.actions[i - 1] in arena.legal(film.states[i])
    ]
    assert 0.54 < np.mean(repeats) < 0.66  # sticky half, and a fresh draw may repeat too
    counts = [sum(film.actions.count(action) for film in films) for action in ACTIONS]
    assert max(counts) < 3 * min(counts)
