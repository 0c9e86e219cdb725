"""The oracle is right on real film, stays right through the codec, and is not fooled."""

import numpy as np
import pytest

from corpus.codecs import DctCodec
from worlds import arena
from worlds.arena import ACTIONS, State
from worlds.arena_oracle import judge, judge_film, look, read_blocks, see

FILMS = [arena.episode(arena.HELD_OUT_SEED + seed) for seed in range(70)]
OPEN = State(8, 8, "red", ((16, 16, 4, 8),))


def chunk_of(action: str, state: State = OPEN) -> np.ndarray:
    return arena.step(state, action)[1]


def ground_of(state: State = OPEN) -> np.ndarray:
    return arena.background(state.blocks)


def test_every_chunk_of_real_film_is_read_right_without_being_told_the_ground() -> None:
    chunks = 0
    for film in FILMS:
        for i, (action, seen) in enumerate(
            zip(film.actions, judge_film(film.frames), strict=True), start=1
        ):
            after = film.states[i]
            assert (seen.action, seen.valid, seen.legal, seen.distance) == (action, True, True, 0)
            assert (seen.position, seen.colour) == ((after.x, after.y), after.colour)
            assert seen.strict(action)
            chunks += 1
    assert chunks > 1000


def test_every_chunk_survives_the_codec() -> None:
    codec = DctCodec(channels=96)
    for film in FILMS[:25]:
        decoded = codec.decode(codec.encode(film.frames))
        judged = judge_film(decoded, ground_of(film.states[0]))
        assert [seen.action for seen in judged] == list(film.actions)
        assert np.mean([seen.valid for seen in judged]) > 0.99


def test_shuffled_film_is_read_about_as_well_as_a_guess() -> None:
    generator = np.random.default_rng(0)
    right = []
    for film in FILMS:
        frames = film.frames.copy()
        frames[1:] = generator.permutation(frames[1:])
        judged = judge_film(frames, ground_of(film.states[0]))
        right += [seen.action == action for seen, action in zip(judged, film.actions, strict=True)]
    assert np.mean(right) < 0.25


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_told_from_the_other_seven_by_a_margin(action: str) -> None:
    clean = judge(arena.render(OPEN), chunk_of(action))
    assert clean.action == action and clean.distance == 0
    noise = np.random.default_rng(1).normal(0, 20, (4, 24, 24, 3))
    noisy = np.clip(chunk_of(action) + noise, 0, 255).astype(np.uint8)
    seen = judge(arena.render(OPEN), noisy, ground_of())
    assert seen.strict(action)


def test_a_vanished_sprite_has_no_action() -> None:
    empty = np.repeat(ground_of()[None], 4, axis=0)
    seen = judge(arena.render(OPEN), empty, ground_of())
    assert seen.vanished and seen.action is None and not seen.valid
    assert [sight.sprites for sight in seen.sights] == [0, 0, 0, 0]
    # Nor has a chunk that begins without one, even if one appears.
    assert judge(ground_of(), chunk_of("stay"), ground_of()).vanished


def test_a_dissolving_sprite_counts_as_seen_down_to_half_opacity() -> None:
    for opacity, sprites in ((0.7, 1), (0.3, 0)):
        mix = opacity * arena.render(OPEN) + (1 - opacity) * ground_of()
        (sight,) = look(mix.astype(np.uint8)[None], ground_of())
        assert sight.sprites == sprites


def test_a_second_sprite_is_not_valid() -> None:
    chunk = chunk_of("stay")
    chunk[2, 0:4, 0:4] = arena.COLOURS["blue"]
    seen = judge(arena.render(OPEN), chunk, ground_of())
    assert seen.action == "stay" and not seen.valid
    assert seen.sights[2].sprites == 2


def test_a_wrong_colour_is_not_valid() -> None:
    chunk = chunk_of("left")
    chunk[1][(chunk[1] == arena.COLOURS["red"]).all(-1)] = arena.COLOURS["blue"]
    seen = judge(arena.render(OPEN), chunk, ground_of())
    assert seen.action == "left" and not seen.valid and not seen.strict("left")


def test_strict_allows_one_pixel_and_not_two() -> None:
    for away, valid in ((1, True), (2, False)):
        seen = judge(arena.render(OPEN), np.roll(chunk_of("right"), away, axis=1), ground_of())
        assert seen.action == "right" and seen.valid is valid


def test_a_walk_through_a_block_is_seen_but_not_legal() -> None:
    state = State(12, 16, "green", OPEN.blocks)
    free = State(12, 16, "green", ())
    chunk = chunk_of("right", free)
    shown = np.where((chunk == arena.GROUND).all(-1, keepdims=True), ground_of(), chunk)
    seen = judge(arena.render(state), shown, ground_of())
    assert seen.action == "right" and not seen.legal


def test_the_ground_is_read_from_one_frame() -> None:
    for film in FILMS:
        read = read_blocks(film.frames[-1])
        assert (arena.background(read) == ground_of(film.states[0])).all()
        state = see(film.frames[-1])
        assert state is not None
        assert (state.x, state.y, state.colour) == (
            film.states[-1].x,
            film.states[-1].y,
            film.states[-1].colour,
        )
        assert arena.legal(state) == arena.legal(film.states[-1])
    assert see(ground_of()) is None
