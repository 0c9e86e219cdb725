"""Interventions are drawn as the spec says, and the numbers around them are right."""

import numpy as np
import pytest

from corpus.codecs import DctCodec
from worlds import arena, arena_eval
from worlds.arena_eval import (
    chance,
    codec_ceiling,
    draw_interventions,
    episode_bootstrap,
    film_accuracy,
    legal_interventions,
    policy_entropy,
    shuffled_accuracy,
    verdict,
    wilson_interval,
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
    assert arena_eval.cf_psnr(ORDERS[0], ORDERS[0].truth()) == 99
    many = draw_interventions(range(300))
    deaf = [order.episode.actions[order.chunk] == order.word for order in many]
    level = chance(many)
    assert np.mean(deaf) == pytest.approx(level.own, abs=0.03)
    assert 0.07 < level.own < 0.12 and level.own < level.blind < 0.25


def test_ceilings_and_floors_of_the_oracle() -> None:
    films = [arena.episode(seed) for seed in SEEDS]
    codec = DctCodec(channels=96)
    assert film_accuracy(films).rate == 1
    assert film_accuracy(films, codec).rate > 0.99
    good, poor = codec_ceiling(ORDERS, codec), codec_ceiling(ORDERS, DctCodec(channels=12))
    assert good.obeyed.rate > 0.98 and good.strict.rate > 0.98 and good.vanished.rate < 0.02
    assert poor.obeyed.rate < 0.9 and poor.strict.rate < poor.obeyed.rate
    assert shuffled_accuracy(films).high < 0.3


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
    assert result.obeyed.low < result.obeyed.rate < result.obeyed.high <= 1


def _another(order: arena_eval.Intervention) -> str:
    return next(word for word in order.candidates if word != order.word)


def test_policy_entropy_lies_between_the_sticky_floor_and_free_choice() -> None:
    assert 1.0 < policy_entropy([arena.episode(seed) for seed in SEEDS]) < np.log(8)


def test_wilson_interval_against_known_values() -> None:
    rate = wilson_interval(8, 10)
    assert (rate.rate, rate.low, rate.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 20).low == 0 and wilson_interval(20, 20).high == 1
    assert wilson_interval(0, 0).low == 0 and wilson_interval(0, 0).high == 1
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_the_bootstrap_knows_that_tries_of_an_episode_hang_together() -> None:
    apart = [[bool(i % 2)] for i in range(80)]
    together = [[bool(i % 2)] * 8 for i in range(10)]
    alone, clustered = episode_bootstrap(apart), episode_bootstrap(together)
    assert alone.rate == clustered.rate == 0.5 and alone.n == clustered.n == 80
    assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)
    assert episode_bootstrap(apart) == alone
    certain = episode_bootstrap([[True] * 4] * 12)
    assert certain.rate == 1 and certain.low == wilson_interval(12, 12).low
    with pytest.raises(ValueError, match="no tries"):
        episode_bootstrap([[]])
