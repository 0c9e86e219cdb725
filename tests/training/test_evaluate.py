"""Obedience: the ruler measures what it should, and never stands without chance and ceiling."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import CODEC, HEADER, arena_sample, arena_shards, small_config

from corpus.errors import UserError
from corpus.shards import ShardPlan, ShardSet, write_shards
from training.api import evaluate, train
from training.evaluate import Obedience, draw, obedience, render
from training.film import settings_of
from training.run_folder import Run, load_run
from worlds.arena import HELD_OUT_SEED


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arena_shards(tmp_path_factory.mktemp("corpus") / "main", 8, chunks=4)


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned nothing."""
    return train(small_config(steps=1), shards, tmp_path_factory.mktemp("run") / "run")


def judged(run: Run, chunks: list[np.ndarray], instructions: int = 48) -> Obedience:
    settings = settings_of(run, 0, None, None, 1)
    return obedience(run, draw(instructions, 0), chunks, settings)


def test_true_frames_reach_the_ceiling(run: Path) -> None:
    loaded, orders = load_run(run), draw(48, 0)
    found = judged(loaded, [order.truth() for order in orders])
    assert (found.n, found.rate, found.strict.rate, found.vanished.rate) == (48, 1.0, 1.0, 0.0)
    whole = [np.concatenate([order.prefix, order.truth()]) for order in orders]
    coded = judged(loaded, [CODEC.decode(CODEC.encode(frames))[-4:] for frames in whole])
    assert coded.rate == coded.ceiling >= 0.95
    assert sum(rate.n for rate in found.per_action.values()) == 48
    assert {k: rate.n for k, rate in found.per_chunk.items()} == {2: 12, 4: 12, 8: 12, 12: 12}


def test_a_film_that_goes_its_own_way_is_at_chance(run: Path) -> None:
    loaded, orders = load_run(run), draw(96, 0)
    own = [order.episode.frames[1 + 4 * order.chunk : 5 + 4 * order.chunk] for order in orders]
    found = judged(loaded, own, 96)
    assert found.low <= found.chance_own <= found.high
    assert found.chance_own < found.chance < 0.3
    assert found.valid.rate == 1.0


def test_instructions_are_held_out_fixed_and_as_many_as_asked() -> None:
    orders = draw(50, 3)
    assert len(orders) == 50
    asked = [(order.episode.seed, order.chunk, order.word) for order in orders]
    assert asked == [(o.episode.seed, o.chunk, o.word) for o in draw(50, 3)]
    assert all(order.episode.seed >= HELD_OUT_SEED for order in orders)
    assert not {o.episode.seed for o in orders} & {o.episode.seed for o in draw(50, 4)}


def test_a_model_is_asked_chunk_by_chunk_in_any_order(run: Path) -> None:
    """What one order gets does not depend on which others are asked with it."""
    loaded, orders = load_run(run), draw(8, 0)
    settings = settings_of(loaded, 0, None, None, 10**6)
    together = render(loaded, orders, settings)
    assert all(frames.shape == (4, 24, 24, 3) for frames in together)
    alone = render(loaded, orders[5:6], settings)[0]
    assert np.abs(alone.astype(int) - together[5]).max() <= 1


def test_the_report_says_what_the_number_must_be_held_against(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    found = evaluate(run, shards, instructions=8, out=tmp_path / "obedience.json")
    told = json.loads((tmp_path / "obedience.json").read_text())
    assert told == json.loads(json.dumps(found.to_json()))
    assert {"rate", "low", "high", "n", "chance", "ceiling", "valid", "vanished"} <= set(told)
    assert found.low <= found.rate <= found.high
    assert "chance" in str(found) and "ceiling" in str(found)
    assert evaluate(run, shards, instructions=8) == found


def test_no_instruction_touches_an_episode_that_can_be_filmed(run: Path, shards: Path) -> None:
    with pytest.raises(UserError, match="seed=-1"):
        evaluate(run, shards, seed=-1)
    with pytest.raises(UserError, match="instructions=0"):
        evaluate(run, shards, instructions=0)


def test_only_the_arena_has_an_oracle(run: Path, tmp_path: Path) -> None:
    doom = replace(arena_sample(0, 4), info={"meta": {"world": "doom"}})
    write_shards(tmp_path / "doom", {doom.key: "v"}, lambda _: doom, HEADER, ShardPlan())
    with pytest.raises(UserError, match="no corpus of the arena"):
        evaluate(run, tmp_path / "doom")
    other = HEADER | {"clock": {"fps": 8, "frames_per_chunk": 4}}
    write_shards(tmp_path / "slow", {doom.key: "v"}, lambda _: doom, other, ShardPlan())
    with pytest.raises(UserError, match="clock"):
        evaluate(run, tmp_path / "slow")
    assert ShardSet.open(tmp_path / "slow").clock.fps == 8
