"""Interventions are legal and were not meant, and the numbers around them are right."""

from dataclasses import replace

import numpy as np
import pytest

from corpus.codecs import DctCodec
from worlds import arena, arena_eval
from worlds.arena_eval import (
    chance,
    codec_ceiling,
    draw_interventions,
    film_accuracy,
    legal_interventions,
    oracle_accuracy,
    verdict,
)

SEEDS = range(arena.HELD_OUT_SEED, arena.HELD_OUT_SEED + 24)
ORDERS = draw_interventions(SEEDS)


def test_one_order_per_episode_and_chunk_legal_and_not_what_was_done() -> None:
    assert len(ORDERS) == 24 * 4
    for order in ORDERS:
        previous = order.episode.actions[order.chunk - 1]
        assert order.candidates == legal_interventions(order.state, previous)
        assert order.word in order.candidates and previous not in order.candidates
        assert order.prefix.shape[0] == 1 + 4 * order.chunk
        assert (order.prefix[-1] == arena.render(order.state)).all()


def test_orders_are_reproducible_and_independent_of_the_other_seeds() -> None:
    words = [order.word for order in ORDERS]
    assert [order.word for order in draw_interventions(SEEDS)] == words
    assert [order.word for order in draw_interventions(SEEDS[5:])] == words[20:]
    assert [order.word for order in draw_interventions(SEEDS, seed=1)] != words


def test_orders_are_uniform_over_the_candidates() -> None:
    orders = draw_interventions(range(400), chunks=(2, 8))
    ranks = [(order.candidates.index(order.word) + 0.5) / len(order.candidates) for order in orders]
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.04)


def test_the_true_frames_obey_and_what_the_player_did_instead_is_chance() -> None:
    assert all(verdict(order, order.truth()).strict(order.word) for order in ORDERS)
    many = draw_interventions(range(300))
    deaf = [order.episode.actions[order.chunk] == order.word for order in many]
    level = chance(many)
    assert np.mean(deaf) == pytest.approx(level.own, abs=0.03)
    assert 0.07 < level.own < 0.12 and level.own < level.blind < 0.25


def test_ceilings_and_floors_of_the_oracle() -> None:
    films = [arena.episode(seed) for seed in SEEDS]
    codec = DctCodec(channels=96)
    oracle = oracle_accuracy(films, codec)
    assert oracle.real.rate == 1 and oracle.coded.rate > 0.99 and oracle.shuffled.high < 0.3
    assert film_accuracy(films, DctCodec(channels=12)).rate < 0.9
    good, poor = codec_ceiling(ORDERS, codec), codec_ceiling(ORDERS, DctCodec(channels=12))
    assert good.obeyed.rate > 0.98 and good.strict.rate > 0.98 and good.vanished.rate < 0.02
    assert poor.obeyed.rate < 0.9 and poor.strict.rate < poor.obeyed.rate


def test_a_score_counts_obedience_flaws_and_vanished_sprites_apart() -> None:
    chunks = [order.truth().copy() for order in ORDERS]
    chunks[0][:] = arena.background(ORDERS[0].state.blocks)  # vanished
    chunks[1] = arena.step(ORDERS[1].state, _another(ORDERS[1]))[1]  # flawless, but not obeyed
    chunks[2][3, :2, :2] = 255  # too small for a sprite: no flaw
    result = arena_eval.score(ORDERS, chunks)
    n = len(ORDERS)
    assert (result.obeyed.successes, result.strict.successes) == (n - 2, n - 2)
    assert (result.valid.successes, result.vanished.successes) == (n - 1, 1)
    assert sum(rate.n for rate in result.per_action.values()) == n
    assert {k: (rate.n, rate.successes) for k, rate in result.per_chunk.items()} == {
        2: (24, 23), 4: (24, 23), 8: (24, 24), 12: (24, 24)
    }  # fmt: skip
    assert result.obeyed.low < result.obeyed.rate < result.obeyed.high <= 1
    exact = arena_eval.score(ORDERS, [order.truth() for order in ORDERS])
    assert result.cf_psnr < exact.cf_psnr == 99


def test_the_oracle_reads_the_ground_off_the_last_real_frame() -> None:
    """... and so knows what is legal: a chunk that walks through a block is no good one."""
    order, wrong = next(
        (order, word)
        for order in ORDERS
        for word in arena.legal(replace(order.state, blocks=()))
        if word not in arena.legal(order.state)
    )
    bare = arena.step(replace(order.state, blocks=()), wrong)[1]
    sprite = (bare != arena.GROUND).any(-1, keepdims=True)
    seen = verdict(order, np.where(sprite, bare, arena.background(order.state.blocks)))
    assert verdict(order, order.truth()).legal
    assert seen.action == wrong and not seen.legal


def _another(order: arena_eval.Intervention) -> str:
    return next(word for word in order.candidates if word != order.word)
