from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import PLAIN, SPECIALS, sample, samples

from corpus.errors import UserError
from training.config import parse_config
from training.sequence import (
    BUILDERS,
    NO_TARGET,
    Block,
    Cost,
    Document,
    Draws,
    Formulation,
    Sample,
    SequenceConfig,
    TextRun,
    build,
    cost,
)

MIXED = SequenceConfig(drop_text=0.3, drop_span=0.3, drop_meta=0.5, flip=0.5, noisy_copies=2)


def document(
    given: Sample, config: SequenceConfig = PLAIN, seed: int = 0, epoch: int = 0
) -> Document:
    return build(given, Draws(seed, given.key, epoch), config, SPECIALS)


def text(of: Document) -> list[tuple[str, int, int, int]]:
    """(kind, id, target, order) of every text token."""
    return [
        (run.kind, *token)
        for run in of.runs
        for token in zip(run.tokens, run.targets, run.order, strict=True)
    ]


def spelled(of: Document) -> str:
    """A document at a glance."""
    names = {SPECIALS.bof: "BOF", SPECIALS.eof: "EOF", SPECIALS.eos: "EOS", SPECIALS.drop: "drop"}
    words: list[str] = []
    for each in of.elements:
        if isinstance(each, Block):
            words.append(f"{each.kind}{each.latent}")
        else:
            words += [names.get(token, each.kind) for token in each.tokens]
    return " ".join(words)


def test_a_formulation_is_one_of_those_that_have_a_builder() -> None:
    assert set(get_args(Formulation)) == set(BUILDERS)
    with pytest.raises(UserError, match=r"sequence\.formulation.*'tv2tv'"):
        parse_config({"sequence": {"formulation": "t2v"}}, "test")


def test_the_order_of_the_paper() -> None:
    assert spelled(document(sample(meta=1, words=(1, 0, 2)))) == (
        "meta BOF start0 EOF words BOF noisy1 clean1 EOF BOF noisy2 clean2 "
        "EOF words words BOF noisy3 clean3 EOF EOS"
    )


def test_an_image_is_a_document_without_chunks() -> None:
    image = document(sample(meta=2, words=()))
    assert spelled(image) == "meta meta BOF start0 EOF EOS"
    assert [target for _, _, target, _ in text(image)] == [-1, -1, -1, SPECIALS.eos, -1]


def test_eos_only_where_the_clip_ends() -> None:
    assert spelled(document(sample(complete=True))).endswith("EOF EOS")
    cut = document(sample(complete=False))
    assert spelled(cut).endswith("clean3 EOF")
    assert text(cut)[-1][2] == NO_TARGET


@given(samples())
def test_every_text_token_learns_the_next_one_after_the_prefix(of: Sample) -> None:
    tokens = text(document(of))
    started = False
    for (kind, token, target, _), following in pairwise(tokens):
        started |= token == SPECIALS.eof
        if not started or kind == "bof":
            assert target == NO_TARGET
        else:
            assert target == following[1]
    assert tokens[-1][2] == NO_TARGET
    assert SPECIALS.eof not in [target for _, _, target, _ in tokens]


@given(samples(), st.integers(0, 5))
def test_places_advance_by_one_and_copies_share_theirs(of: Sample, epoch: int) -> None:
    made = document(of, MIXED, epoch=epoch)
    places: list[int] = []
    for each in made.elements:
        if isinstance(each, TextRun):
            assert each.order == each.position
            places += each.order
        else:
            assert each.order == each.position
            if each.kind in ("start", "clean"):
                places.append(each.order)
    assert places == list(range(len(places)))
    clean = {block.latent: block for block in made.blocks(lasting=True)}
    assert sorted(clean) == list(range(1 + of.chunks))
    noisy = made.blocks(lasting=False)
    assert [(block.latent, block.copy) for block in noisy] == [
        (1 + i, copy) for i in range(of.chunks) for copy in (1, 2)
    ]
    assert all(block.order == clean[block.latent].order for block in noisy)


@given(samples(), st.integers(0, 5))
def test_dropout_keeps_every_place_and_takes_no_loss_at_or_on_dropped_text(
    of: Sample, epoch: int
) -> None:
    whole, dropped = text(document(of)), text(document(of, MIXED, epoch=epoch))
    assert [(kind, order) for kind, _, _, order in whole] == [
        (kind, order) for kind, _, _, order in dropped
    ]
    gone = [token == SPECIALS.drop for _, token, _, _ in dropped]
    for i, ((_, token, target, _), (kind, now, learned, _)) in enumerate(
        zip(whole, dropped, strict=True)
    ):
        assert now == token or (gone[i] and kind in ("meta", "words"))
        lost = gone[i] or (i + 1 < len(gone) and gone[i + 1])
        assert learned == (NO_TARGET if lost else target)


def test_text_is_dropped_as_a_whole_span_by_span_and_apart_from_the_meta_caption() -> None:
    of = sample(meta=2, words=(1, 2, 0, 3))

    def kinds(**changes: float) -> set[str]:
        made = document(of, PLAIN.model_copy(update=changes))
        return {run.kind for run in made.runs if SPECIALS.drop in run.tokens}

    assert kinds() == set()
    assert kinds(drop_text=1.0) == kinds(drop_span=1.0) == {"words"}
    assert kinds(drop_meta=1.0) == {"meta"}

    spans = PLAIN.model_copy(update={"drop_span": 0.5})
    seen = set()
    for epoch in range(30):
        runs = [run for run in document(of, spans, epoch=epoch).runs if run.kind == "words"]
        assert all(len(set(run.tokens) & {SPECIALS.drop}) in (0, 1) for run in runs)
        assert all(
            set(run.tokens) == {SPECIALS.drop} for run in runs if SPECIALS.drop in run.tokens
        )
        seen.add(tuple(SPECIALS.drop in run.tokens for run in runs))
    assert len(seen) == 8


@given(samples(), st.integers(0, 3))
def test_blocks_show_what_they_say(of: Sample, epoch: int) -> None:
    made = document(of, MIXED, epoch=epoch)
    noisy = {(b.latent, b.copy): b for b in made.blocks(lasting=False)}
    for block in noisy.values():
        assert block.loss and 0 < block.t < 1 and block.noise is not None
        np.testing.assert_array_equal(block.clean, of.latent[:, block.latent])
        np.testing.assert_allclose(
            block.shown, block.t * block.clean + (1 - block.t) * block.noise, atol=1e-6
        )
    for block in made.blocks(lasting=True):
        assert not block.loss
        if block.noise is None:
            assert block.t == 1
            np.testing.assert_array_equal(block.shown, of.latent[:, block.latent])
        else:
            twin = noisy[block.latent, 1]
            assert block.t == twin.t
            np.testing.assert_array_equal(block.shown, twin.shown)


def test_flips_happen_at_their_rate_and_never_to_the_start_frame() -> None:
    of = sample(words=(0,) * 40)
    config = PLAIN.model_copy(update={"flip": 0.25})
    flipped = []
    for epoch in range(25):
        start, *chunks = document(of, config, epoch=epoch).blocks(lasting=True)
        assert start.noise is None
        flipped += [block.noise is not None for block in chunks]
    assert 0.2 < np.mean(flipped) < 0.3


def test_levels_are_a_squeezed_normal() -> None:
    of = sample(words=(0,) * 400)
    t = np.array([block.t for block in document(of).blocks(lasting=False)])
    z = np.log(t / (1 - t)) / 1.4
    assert abs(z.mean()) < 0.2 and 0.85 < z.std() < 1.15


def test_draws_hang_on_seed_key_and_epoch_only() -> None:
    of = sample()

    def noise(seed: int, key: str, epoch: int) -> bytes:
        made = build(of, Draws(seed, key, epoch), MIXED, SPECIALS)
        return b"".join(
            b.noise.tobytes() for b in made.blocks(lasting=False) if b.noise is not None
        )

    assert noise(0, "k", 1) == noise(0, "k", 1)
    assert len({noise(0, "k", 1), noise(1, "k", 1), noise(0, "l", 1), noise(0, "k", 2)}) == 4


def test_draws_are_the_same_on_every_machine() -> None:
    generator = Draws(7, "clip", 3).generator("time")
    np.testing.assert_allclose(generator.random(2), [0.386657, 0.321079], atol=1e-6)


@given(samples(), st.integers(1, 3))
def test_cost_is_what_the_builder_makes(of: Sample, copies: int) -> None:
    config = MIXED.model_copy(update={"noisy_copies": copies})
    made = document(of, config)
    words = sum(len(span.tokens) for span in of.spans)
    assert cost(len(of.meta), words, of.chunks, of.complete, config) == Cost(
        text=len(text(made)),
        clean=len(made.blocks(lasting=True)),
        noisy=len(made.blocks(lasting=False)),
    )


def test_spans_must_lie_in_the_window() -> None:
    whole = sample(words=(1, 1, 1))
    with pytest.raises(ValueError, match="spans start at"):
        Sample(whole.key, whole.meta, whole.spans, whole.latent[:, :3], complete=False)
    with pytest.raises(ValueError, match="spans start at"):
        Sample(whole.key, whole.meta, whole.spans[::-1], whole.latent, complete=True)


settings.register_profile("ours", deadline=None, max_examples=60)
settings.load_profile("ours")
