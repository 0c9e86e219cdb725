"""Which windows of a clip may be shown, what is said in them, and what is told of the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import arena_sample, arena_shards, small_config

from corpus.errors import UserError
from corpus.shards import ShardSet
from training.api import train
from training.config import RunConfig
from training.plan import LeftOut
from training.samples import Samples
from training.tokenizer import train_tokenizer
from worlds import arena

TOKENIZER = train_tokenizer([*arena.ACTIONS, *arena.COLOURS] * 3, 300)
EPISODES, CHUNKS, HELD = 6, 8, 4  # a row of `small_config` holds 4 chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arena_shards(tmp_path_factory.mktemp("corpus") / "main", EPISODES, chunks=CHUNKS)


def config(chunks: int = HELD, text: int = 90, **changes: Any) -> RunConfig:
    rows = {"text": text, "clean": 1 + chunks, "noisy": chunks, "per_step": 4, "per_pass": 4}
    return small_config(rows=rows, **changes)


def samples(folder: Path, given: RunConfig) -> Samples:
    return Samples(ShardSet.open(folder), "train", given, TOKENIZER)


def said(of: Samples, sample: int) -> list[str]:
    return [TOKENIZER.decode(span.tokens) for span in of.texts[sample].spans]


def words(of: Samples, sample: int) -> list[str]:
    number = int(of.entries[sample].key.removeprefix("episode-"))
    captions = arena_sample(number, CHUNKS).captions.segments
    return [segment.caption.text for segment in captions]


@pytest.mark.parametrize("held", [HELD, CHUNKS, 2 * CHUNKS])
def test_windows_are_beginnings_and_only_a_whole_clip_has_room_for_its_end(
    folder: Path, held: int
) -> None:
    of = samples(folder, config(held))
    longest = min(held, CHUNKS)
    assert (of.index.clips == CHUNKS).all()
    for sample, text in enumerate(of.texts):
        first, last = of.index.offsets[sample : sample + 2]
        assert of.index.chunks[first:last].tolist() == list(range(1, longest + 1))
        for m, cost in zip(range(1, longest + 1), of.index.costs[first:last], strict=True):
            tokens = len(text.meta) + sum(len(span.tokens) for span in text.spans[:m])
            frames = 2 * (1 + m)  # BOF and EOF around each
            assert cost.tolist() == [tokens + frames + (m == CHUNKS), 1 + m, m]


def test_noisy_copies_take_their_room(folder: Path) -> None:
    rows = {"text": 90, "clean": 9, "noisy": 7}
    of = samples(folder, small_config(rows=rows, sequence={"noisy_copies": 2}))
    assert set(of.index.chunks.tolist()) == {1, 2, 3}


def test_a_caption_of_the_whole_clip_tells_what_is_shown_and_no_more(folder: Path) -> None:
    of = samples(folder, config(captions={"every": "clip"}))
    whole = samples(folder, config(CHUNKS, captions={"every": "clip"}))
    assert of.index.chunks.tolist() == [HELD] * EPISODES
    for sample in range(EPISODES):
        (shown,), (everything,) = of.texts[sample].spans, whole.texts[sample].spans
        assert (shown.a, shown.b, everything.b) == (0, HELD, CHUNKS)
        told = words(of, sample)[:HELD]
        once = [word for i, word in enumerate(told) if i == 0 or word != told[i - 1]]
        assert said(of, sample) == [" ".join(once)]
        assert everything.tokens[: len(shown.tokens)] == shown.tokens


def test_the_share_of_damaged_captions_is_exact_among_those_that_are_shown(folder: Path) -> None:
    of = samples(folder, config(captions={"corrupt": [{"kind": "drop", "rate": 0.5}]}))
    spans = [text for sample in range(EPISODES) for text in said(of, sample)]
    assert len(spans) == EPISODES * HELD
    assert spans.count("") == EPISODES * HELD // 2


def test_a_segment_that_is_longer_than_a_row_is_named(folder: Path) -> None:
    of = samples(folder, config(captions={"every": "clip"}, text=20))
    with pytest.raises(UserError, match=r"raise the row budgets \(rows\.text=\d+\).*every"):
        _ = of.left_out


def test_what_no_row_shows_is_counted_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert samples(folder, config(CHUNKS)).left_out == LeftOut(EPISODES, 0, EPISODES * CHUNKS, 0)
    # With text for three words only, text is what cuts.
    of = samples(folder, config(CHUNKS, text=16))
    cut = sum(CHUNKS - int(m) for m in of.index.chunks[_longest(of, 16)])
    assert of.left_out == LeftOut(EPISODES, EPISODES, EPISODES * CHUNKS, cut)
    assert cut > EPISODES * (CHUNKS - HELD)

    run = train(config(steps=1), folder, tmp_path / "run")
    assert "6 of 6 clips are longer than a row" in capsys.readouterr().err
    head = json.loads((run / "run.json").read_text())["shards"]
    assert [head[name] for name in ("clips", "cut_clips", "chunks", "cut_chunks")] == [6, 6, 48, 24]
    train(config(CHUNKS, steps=1), folder, tmp_path / "whole")
    assert "longer than a row" not in capsys.readouterr().err


def _longest(of: Samples, text: int) -> np.ndarray:
    """Per sample the last window whose words fit."""
    fits = of.index.costs[:, 0] <= text
    pairs = zip(of.index.offsets, of.index.offsets[1:], strict=False)
    return np.array([first + np.flatnonzero(fits[first:last])[-1] for first, last in pairs])
