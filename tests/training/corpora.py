"""Small shard sets and configs for the tests of this folder."""

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.codecs import DctCodec
from corpus.shards import Sample, ShardPlan, write_shards
from training.config import RunConfig, parse_config
from worlds import arena
from worlds.verbalise import arena_words

CODEC = DctCodec(96)
HEADER = {
    "clock": arena.CLOCK.to_json(),
    "codec": CODEC.info.to_json(),
    "recipe": {"name": "arena"},
    "fingerprints": {},
}


@lru_cache
def arena_sample(seed: int, chunks: int = arena.CHUNKS) -> Sample:
    """One arena episode as the pipeline would hand it over."""
    film = arena.episode(seed, chunks)
    segments = tuple(
        SegmentCaption(i, i + 1, Caption(text)) for i, text in enumerate(arena_words(film.actions))
    )
    captions = ClipCaptions((Caption(film.meta),), segments)
    key = f"episode-{seed:06d}"
    return Sample(key, CODEC.encode(film.frames), captions, {"meta": {"world": "arena"}})


def arena_shards(
    folder: Path,
    episodes: int,
    *,
    chunks: int = arena.CHUNKS,
    per_shard: int = 10,
    validation: float = 0.0,
    wide: Collection[str] = (),
) -> Path:
    """A shard set of so many episodes; those whose keys are in ``wide`` have wider latents."""
    samples = {each.key: each for each in (arena_sample(i, chunks) for i in range(episodes))}
    for key in wide:
        latent = np.pad(samples[key].latent, [(0, 0), (0, 0), (0, 0), (0, 2)])
        samples[key] = replace(samples[key], latent=latent)
    size = sum(map(len, next(iter(samples.values())).members().values()))
    plan = ShardPlan(target_bytes=per_shard * size, validation=validation)
    write_shards(folder, {key: key for key in samples}, samples.__getitem__, HEADER, plan)
    return folder


def small_config(**changes: Any) -> RunConfig:
    """A model of a few thousand weights on short arena films, all in this process."""
    data: dict[str, Any] = {
        "steps": 6,
        "model": {"change": {"layers": 1, "width": 32, "heads": 2, "hidden": 48}},
        "tokenizer": {"size": 300},
        "rows": {"text": 24, "clean": 5, "noisy": 4, "per_step": 4, "per_pass": 4},
        "optimizer": {"warmup": 2},
        "sampling": {"steps": 2, "start_frames": 2},
        "runtime": {"workers": 0, "device": "cpu", "threads": 1},
    }
    return parse_config(data | changes, "test")
