"""Own films are judged by what they show on the true ground; without a sprite nothing counts."""

from dataclasses import replace

import numpy as np
import pytest

from worlds import arena
from worlds.arena_oracle import Picture
from worlds.arena_own import OWN_CHUNKS, OwnFilm, own_order, score_own

FILMS = [arena.episode(arena.HELD_OUT_SEED + i, OWN_CHUNKS) for i in range(12)]


def told(film: arena.Episode, seed: int = 0) -> OwnFilm:
    """A film by the true world, which does all that it says and is told."""
    order = own_order(film, film.frames, seed)
    assert order is not None
    last = arena.step(film.states[-1], order)[1]
    return OwnFilm(film, np.concatenate([film.frames, last]), film.actions, order)


def bare(film: arena.Episode, frames: int) -> Picture:
    return np.repeat(arena.background(film.states[0].blocks)[None], frames, axis=0)


def test_the_true_world_does_what_it_says_and_is_told() -> None:
    found = score_own([told(film) for film in FILMS])
    for rate in (found.says_does, found.legal, found.valid):
        assert (rate.successes, rate.n) == (12 * OWN_CHUNKS, 12 * OWN_CHUNKS)
    assert (found.obeyed.successes, found.obeyed.n) == (12, 12)
    assert found.vanished.successes == 0


def test_orders_are_legal_and_nothing_that_was_being_done() -> None:
    orders = [(film, own_order(film, film.frames, seed)) for film in FILMS for seed in range(5)]
    assert all(word in arena.legal(film.states[-1]) for film, word in orders)
    assert all(word != film.actions[-1] for film, word in orders)
    assert len({word for _, word in orders}) > 5
    assert orders == [
        (film, own_order(film, film.frames, seed)) for film in FILMS for seed in range(5)
    ]


def test_the_order_goes_by_the_frames_and_not_by_the_true_film() -> None:
    """A film that was led elsewhere."""
    film = FILMS[0]
    corner = replace(film.states[0], x=0, y=0, blocks=())
    elsewhere = replace(film, states=(corner,))
    frames = np.repeat(arena.render(corner)[None], 9, axis=0)
    words = {own_order(elsewhere, frames, seed) for seed in range(40)}
    assert words == {"right", "down", "blink", "paint"}  # not left, up, jump; it stayed before


def test_words_that_are_not_done_or_cannot_be_are_counted_apart() -> None:
    right = [told(film) for film in FILMS]
    film = FILMS[0]
    illegal = next(w for w in arena.ACTIONS if w not in arena.legal(film.states[3]))
    words = [*film.actions[:3], illegal, "dance", *film.actions[5:]]
    found = score_own([replace(right[0], words=words), *right[1:]])
    assert found.says_does.n - found.says_does.successes == 2
    assert found.legal.n - found.legal.successes == 2
    assert found.valid.successes == found.valid.n


def test_where_no_sprite_is_left_nothing_is_said_legally_done_or_obeyed() -> None:
    film = FILMS[0]
    lost = np.concatenate([film.frames[:9], bare(film, 4 * (OWN_CHUNKS - 2))])
    assert own_order(film, lost, 0) is None
    gone = OwnFilm(film, np.concatenate([lost, bare(film, 4)]), film.actions, None)
    found = score_own([gone])
    assert (found.says_does.successes, found.valid.successes) == (2, 2)
    assert found.vanished.successes == OWN_CHUNKS - 2
    assert found.legal.n == 3  # where it stood before each of the first three chunks
    assert (found.obeyed.successes, found.obeyed.n) == (0, 1)


def test_the_ground_is_the_true_one() -> None:
    """A model may smear the ground: what is blocked does not hang on it."""
    film = next(f for f in FILMS if len(arena.legal(f.states[-1])) < len(arena.ACTIONS) - 1)
    plain = film.frames.copy()
    plain[(plain == arena.BLOCK).all(-1)] = arena.GROUND
    assert {own_order(film, plain, seed) for seed in range(40)} <= set(arena.legal(film.states[-1]))


def test_there_is_a_text_for_every_chunk_of_its_own() -> None:
    with pytest.raises(ValueError, match="zip"):
        score_own([replace(told(FILMS[0]), words=("left",))])
