"""Obedience: the ruler measures what it should, and never stands without chance and ceiling."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import CODEC, HEADER, arena_sample, arena_shards, small_config

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.errors import UserError
from corpus.shards import ShardPlan, ShardSet, write_shards
from training.api import evaluate, train
from training.evaluate import Obedience, draw, measure, obedience, render, roll_out
from training.evaluate import _words as words_before
from training.film import settings_of
from training.generate import Film, Prompt, Settings, Slot
from training.run_folder import Run, load_run
from worlds import arena
from worlds.arena import HELD_OUT_SEED, background
from worlds.arena_eval import score
from worlds.arena_oracle import read_blocks, see
from worlds.arena_own import OWN_CHUNKS, score_own


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arena_shards(tmp_path_factory.mktemp("corpus") / "main", 8, chunks=4)


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned nothing."""
    return train(small_config(steps=1), shards, tmp_path_factory.mktemp("run") / "run")


def judged(run: Path, chunks: list[np.ndarray], instructions: int = 48) -> Obedience:
    loaded = load_run(run)
    settings = settings_of(loaded, 0, None, None, 1)
    return obedience(loaded, draw(instructions, 0), chunks, None, settings)


class Painter:
    """In place of `Sessions`: films in which the spoken word's true chunk is painted.

    What a chunk starts from it reads off the latents given, as a model would.
    """

    def __init__(self, run: Run, prompts: Sequence[Prompt], listens: bool) -> None:
        self.run, self.prompts, self.listens = run, prompts, listens
        self.told: dict[tuple[int, int], tuple[int, ...]] = {}
        self.slots = [[Slot(w, "prompt", latent) for w, latent in p.history] for p in prompts]
        self.generator = np.random.default_rng(0)

    def say(self, row: int, at: int, words: Sequence[int]) -> None:
        self.told[row, at] = tuple(words)

    def film(self, row: int) -> Film:
        return Film(self.prompts[row], tuple(self.slots[row]))

    def advance(self, chunks: int) -> None:
        for row, slots in enumerate(self.slots):
            while len(slots) < chunks:
                slots.append(self.paint(row))

    def paint(self, row: int) -> Slot:
        film = self.film(row)
        frames = self.run.codec.decode(film.latent)
        state = see(frames[-1], background(read_blocks(frames[0])))
        assert state is not None
        own = arena.legal(state)[int(self.generator.integers(len(arena.legal(state))))]
        words = self.told.get((row, len(film.slots)), tuple(self.run.tokenizer.encode(own)))
        word = self.run.tokenizer.decode(words) if self.listens else own
        chunk = arena.step(state, word)[1]
        latent = self.run.codec.encode(np.concatenate([arena.render(state)[None], chunk]))[:, 1]
        return Slot(words, "model", latent)


@pytest.fixture
def painters(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[Painter]]:
    """Puts painters in place of the model; gives the list of those that were made."""

    def put(listens: bool) -> list[Painter]:
        made: list[Painter] = []

        def begin(model: object, prompts: Sequence[Prompt], settings: Settings) -> Painter:
            made.append(Painter(load_run(run), prompts, listens))
            return made[-1]

        monkeypatch.setattr("training.evaluate.Sessions", begin)
        return made

    return put


def test_who_paints_what_is_said_obeys_at_every_k(
    run: Path, painters: Callable[[bool], list[Painter]]
) -> None:
    """The order that was drawn reaches the model, and the chunk painted for it is judged."""
    painters(True)
    loaded, orders = load_run(run), draw(48, 0)
    settings = settings_of(loaded, 0, None, None, 10**6)
    found = score(orders, render(loaded, orders, settings))
    assert found.obeyed.rate == found.strict.rate == 1
    assert {k: rate.rate for k, rate in found.per_chunk.items()} == {2: 1, 4: 1, 8: 1, 12: 1}


def test_who_is_deaf_is_at_chance(run: Path, painters: Callable[[bool], list[Painter]]) -> None:
    painters(False)
    loaded, orders = load_run(run), draw(48, 0)
    settings = settings_of(loaded, 0, None, None, 10**6)
    found = score(orders, render(loaded, orders, settings))
    assert found.obeyed.rate < 0.3 and found.valid.rate > 0.95


def test_what_the_model_is_given_before_chunk_k(
    run: Path, painters: Callable[[bool], list[Painter]]
) -> None:
    """The real film as shards hold it, word by word and chunk by chunk, and the order at k."""
    made = painters(True)
    loaded, orders = load_run(run), draw(8, 0)
    render(loaded, orders, settings_of(loaded, 0, None, None, 10**6))
    assert [len(each.prompts) for each in made] == [2, 2, 2, 2]
    given = {(p.key, len(p.history)): (each, row, p)
             for each in made for row, p in enumerate(each.prompts)}  # fmt: skip
    for order in orders:
        film, k = order.episode, order.chunk
        painter, row, prompt = given[f"{film.seed}/{k}", k]
        stored = CODEC.encode(film.frames).astype(np.float16)
        spell = loaded.tokenizer.decode
        assert spell(prompt.meta) == film.meta
        assert [spell(words) for words, _ in prompt.history] == list(film.actions[:k])
        np.testing.assert_array_equal(prompt.start, stored[:, 0])
        for i, (_, latent) in enumerate(prompt.history):
            np.testing.assert_array_equal(latent, stored[:, 1 + i])
        assert spell(painter.told[row, k]) == order.word
        assert len([1 for told in painter.told if told[0] == row]) == 1


def test_coarser_text_is_said_where_the_run_reads_it(run: Path) -> None:
    """A run that reads a text per two chunks gets no word per chunk; holds are said once."""
    loaded = load_run(run)
    policy = loaded.config.captions.model_copy(update={"every": 2})
    coarse = replace(loaded, config=loaded.config.model_copy(update={"captions": policy}))
    for order in draw(8, 0):
        words = [loaded.tokenizer.decode(each) for each in words_before(coarse, order)]
        assert words[1::2] == [""] * (order.chunk // 2)
        for i in range(0, order.chunk, 2):
            one, two = order.episode.actions[i : i + 2]
            assert words[i] == (one if one == two else f"{one} {two}")


def test_own_films_start_from_real_frames_and_are_told_something_after_three_seconds(
    run: Path, painters: Callable[[bool], list[Painter]]
) -> None:
    loaded = load_run(run)
    films = [arena.episode(HELD_OUT_SEED + i) for i in range(6)]
    settings = settings_of(loaded, 0, None, None, 10**6)
    made = painters(True)
    found = score_own(roll_out(loaded, films, settings))
    assert found.says_does.rate == found.legal.rate == found.valid.rate == found.obeyed.rate == 1
    assert (found.says_does.n, found.obeyed.n) == (6 * OWN_CHUNKS, 6)
    for film, prompt in zip(films, made[0].prompts, strict=True):
        start = CODEC.encode(film.frames[:1]).astype(np.float16)[:, 0]
        np.testing.assert_array_equal(prompt.start, start)
        assert not prompt.history
    painters(False)
    deaf = score_own(roll_out(loaded, films, settings))
    assert deaf.obeyed.rate < 1 and deaf.says_does.successes >= 6 * OWN_CHUNKS - 6


def test_true_frames_reach_the_ceiling(run: Path) -> None:
    orders = draw(48, 0)
    found = judged(run, [order.truth() for order in orders])
    assert (found.n, found.rate, found.strict.rate, found.vanished.rate) == (48, 1.0, 1.0, 0.0)
    whole = [np.concatenate([order.prefix, order.truth()]) for order in orders]
    coded = judged(run, [CODEC.decode(CODEC.encode(frames))[-4:] for frames in whole])
    assert coded.rate == coded.ceiling >= 0.95
    assert sum(rate.n for rate in found.per_action.values()) == 48
    assert {k: rate.n for k, rate in found.per_chunk.items()} == {2: 12, 4: 12, 8: 12, 12: 12}


def test_a_film_that_goes_its_own_way_is_at_chance(run: Path) -> None:
    orders = draw(96, 0)
    own = [order.episode.frames[1 + 4 * order.chunk : 5 + 4 * order.chunk] for order in orders]
    found = judged(run, own, 96)
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
    assert found.oracle.real.rate == 1 > found.oracle.shuffled.rate
    assert found.own is not None and found.own.obeyed.n == 4
    assert 0 < found.cf_psnr < found.cf_psnr_ceiling
    for word in ("chance", "exact frames", "no sprite", "own films", "oracle", "shuffled"):
        assert word in str(found)
    assert evaluate(run, shards, instructions=8) == found


def test_no_instruction_touches_an_episode_that_can_be_filmed(run: Path, shards: Path) -> None:
    with pytest.raises(UserError, match="seed=-1"):
        evaluate(run, shards, seed=-1)
    with pytest.raises(UserError, match="instructions=0"):
        evaluate(run, shards, instructions=0)


def of(run: Path, shards: ShardSet) -> Run:
    """The run, as if it had been trained on other shards."""
    loaded = load_run(run)
    identity = loaded.head.shards | {"index": shards.manifest["index"]["sha256"]}
    return replace(loaded, head=replace(loaded.head, shards=identity))


def refused(run: Run, shards: ShardSet, match: str) -> None:
    with pytest.raises(UserError, match=match):
        measure(
            run, shards, instructions=4, seed=0, guidance=None, steps=None, out=None
        )  # fmt: skip


def test_only_shards_that_the_run_was_trained_on_say_how_it_reads(
    run: Path, tmp_path: Path
) -> None:
    others = ShardSet.open(arena_shards(tmp_path / "others", 3, chunks=4))
    refused(load_run(run), others, "trained on other shards")


def test_only_the_arena_has_an_oracle(run: Path, tmp_path: Path) -> None:
    """One film of another world among many is enough."""
    samples = [arena_sample(i, 4) for i in range(3)]
    samples[2] = replace(samples[2], info={"meta": {"world": "doom"}})
    by_key = {each.key: each for each in samples}
    write_shards(
        tmp_path / "mixed", dict.fromkeys(by_key, "v"), by_key.__getitem__, HEADER, ShardPlan()
    )
    mixed = ShardSet.open(tmp_path / "mixed")
    refused(of(run, mixed), mixed, f"{samples[2].key} is no film of the arena")


def test_instructions_are_words_for_one_chunk(run: Path, tmp_path: Path) -> None:
    sample = arena_sample(0, 4)
    segments = (SegmentCaption(0, 2, Caption("left")), SegmentCaption(2, 4, Caption("up")))
    wide = replace(sample, captions=ClipCaptions((Caption("red calm"),), segments))
    write_shards(tmp_path / "wide", {wide.key: "v"}, lambda _: wide, HEADER, ShardPlan())
    shards = ShardSet.open(tmp_path / "wide")
    refused(of(run, shards), shards, "text for 2 chunks")
