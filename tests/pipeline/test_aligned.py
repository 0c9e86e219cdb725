"""Latent 1 + i is frames 1 + 4i .. 4 + 4i of the clip: from the film to what shards are read as.

Every picture of the film shows its number. What can be decoded is read off the pictures; a VAE with
random weights decodes to noise, so of it is asked which frames change which latent.
"""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
from films import counter_film, read_counter
from small_corpus import make_corpus, replayed
from vaes import saved

from corpus.clock import Clock
from corpus.codecs import Codec, from_description
from corpus.codecs.pca import BASIS
from corpus.codecs.pca_fit import fit_basis
from corpus.shards import ShardSet
from corpus.timeline import Span, Timeline, write_timeline
from corpus.video import read_video
from pipeline.plan import Plan
from stages.latents import LatentsConfig, LatentsStage
from stages.shards import ShardsConfig, ShardsStage
from stages.stage import Context, Record

SETTINGS = ("clips.buckets=[[96, 96]]", "clips.min_seconds=1", "clips.max_seconds=2")
PICTURES = 70
Decoding = Callable[[str], tuple[ShardSet, Codec]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[Record]]:
    """Clips of a film of 16 pictures a second, by the stages from probe on."""
    place = tmp_path_factory.mktemp("aligned")
    (place / "films").mkdir()
    film = counter_film(place / "films" / "a.mp4", range(PICTURES), Fraction(1, 16))
    end = PICTURES / 16
    told = Timeline((Span(0, end),), (), (Span(0, end, "counts"),))
    write_timeline(film.with_suffix(".timeline.jsonl"), told)
    plan = make_corpus(place / "corpus", place / "films", "arena", SETTINGS)
    return plan, sorted(replayed(place / "corpus").finished, key=lambda one: one["start"])


@pytest.fixture(scope="module")
def through(
    corpus: tuple[Plan, list[Record]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[ShardSet, Codec]]:
    """Latents by a codec and shards of them, opened by who knows the shards and weights alone."""
    plan, records = corpus

    def of(name: str) -> tuple[ShardSet, Codec]:
        place = tmp_path_factory.mktemp(name)
        weights, settings = None, dict[str, Any]()
        if name == "dct":
            settings = {"channels": 192}  # fewer keep no picture from looking like its neighbours
        elif name == "pca":
            films = [read_video(plan.layout.media.path(one["clip"])) for one in records]
            (place / BASIS).write_bytes(fit_basis(films, 96))
            weights = str(place)
        else:
            weights = str(saved(place / "vae", name))
        context = Context(plan.layout.media, Clock())
        config = LatentsConfig(codec=name, weights=weights, settings=settings, check=0.0)
        work = LatentsStage(config, context)
        work.open()
        rows = work.process(records)
        done = [
            after for one, r in zip(records, rows, strict=True) for after in work.advance(one, r)
        ]
        assert len(done) == len(records) > 1
        header: dict[str, Any] = {**plan.header(), "codec": work.identity()["codec"]}
        finished = {one["clip_id"]: one for one in sorted(done, key=lambda one: one["clip_id"])}
        ShardsStage(ShardsConfig(), context).run(finished, place / "shards", header)
        shards = ShardSet.open(place / "shards")
        return shards, from_description(shards.codec, weights)

    return of


def shown(frames: np.ndarray) -> list[int]:
    return [read_counter(frame) for frame in frames]


@pytest.mark.parametrize("name", ["dct", "pca"])
def test_a_latent_shows_the_pictures_of_its_chunk(
    corpus: tuple[Plan, list[Record]], through: Decoding, name: str
) -> None:
    plan, records = corpus
    shards, codec = through(name)
    firsts = {
        one["clip_id"]: shown(read_video(plan.layout.media.path(one["clip"])))[0] for one in records
    }
    assert min(firsts.values()) == 0 and len(set(firsts.values())) == len(records)
    for entry in shards.entries:
        latent, first = shards.latent(entry), firsts[entry.key]
        numbers = [first + n for n in range(1 + 4 * entry.chunks)]
        assert shown(codec.decode(latent)) == numbers
        for chunk in range(entry.chunks):
            alone = np.zeros_like(latent)
            alone[:, 1 + chunk] = latent[:, 1 + chunk]
            place = slice(1 + 4 * chunk, 5 + 4 * chunk)
            assert shown(codec.decode(alone)[place]) == numbers[place]


@pytest.mark.parametrize("name", ["dct", "pca", "wan", "cosmos"])
def test_a_latent_hangs_on_the_pictures_of_its_chunk_and_on_none_that_come_later(
    corpus: tuple[Plan, list[Record]], through: Decoding, name: str
) -> None:
    plan, records = corpus
    shards, codec = through(name)
    (entry,) = [one for one in shards.entries if one.key == records[1]["clip_id"]]
    film = read_video(plan.layout.media.path(records[1]["clip"]))
    latent = codec.encode(film)
    stored = shards.latent(entry)
    assert (stored == latent.astype(np.float16)).all(), "what is stored is this clip's"
    for chunk in range(3):
        changed = film.copy()
        changed[1 + 4 * chunk : 5 + 4 * chunk] ^= 255
        after = codec.encode(changed)
        same = [(after[:, at] == latent[:, at]).all() for at in range(2 + chunk)]
        assert same == [True] * (1 + chunk) + [False]
