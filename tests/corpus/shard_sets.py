"""Small shard sets that keep the whole contract, as the pipeline would write them."""

from dataclasses import replace
from typing import Any

import numpy as np

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.clock import Clock
from corpus.codecs import DctCodec
from corpus.ids import content_id, segment_id
from corpus.shards import Sample, ShardPlan, write_shards
from corpus.store import Folder

CODEC = DctCodec(12)
HEADER: dict[str, Any] = {
    "clock": Clock().to_json(),
    "codec": CODEC.info.to_json(),
    "recipe": {"name": "test", "seed": 0, "stages": {}},
    "fingerprints": {"latents": "f"},
}


def key_of(number: int) -> str:
    return content_id("clip", number)


def caption(text: str, **more: Any) -> Caption:
    about = {"scores": {"rules": 0.5}, "prompt": "p/1", "model": "m@1", **more}
    return Caption(text, binding=content_id(text), **about)


def good_sample(number: int, chunks: int | None = None) -> Sample:
    """Of 4 chunks; every fifth has none: it is an image."""
    key = key_of(number)
    if chunks is None:
        chunks = 0 if number % 5 == 4 else 4
    latent = np.random.default_rng(number).standard_normal((12, 1 + chunks, 2, 3))
    spans = tuple(
        SegmentCaption(a, a + 2, caption(f"clip {number} does {a}"), segment_id(key, a, a + 2))
        for a in range(0, chunks, 2)
    )
    ladders = {}
    if number % 3 == 0 and chunks:
        whole = SegmentCaption(0, chunks, caption("all of it"), segment_id(key, 0, chunks))
        ladders = {"clip": (whole,)}
    info = {
        "clip_id": key,
        "video_id": f"video{number // 3}",
        "shot_id": "s",
        "clip_sha256": "0" * 64,
        "chunks": chunks,
        "width": 24,
        "height": 16,
        "source": {"start_pts": 0, "end_pts": 1 + 4 * chunks, "time_base": [1, 16]},
        "meta": {"license": "CC0"},
        "quality": {"motion": 0.25},
        **{name: HEADER[name] for name in ("clock", "codec", "fingerprints")},
    }
    captions = ClipCaptions((caption(f"about {number}"),), spans, ladders)
    return Sample(key, latent.astype(np.float32), captions, info)


def good_set(
    folder: Folder, count: int = 12, changes: dict[int, dict[str, Any]] | None = None, **plan: Any
) -> dict[str, Any]:
    """Write a set; the manifest.

    Args:
        changes: of single samples, by number.
    """
    samples = {
        key_of(number): replace(good_sample(number), **(changes or {}).get(number, {}))
        for number in range(count)
    }
    videos = {key: str(one.info["video_id"]) for key, one in samples.items()}
    layout = ShardPlan(**{"target_bytes": 9000, "validation": 0.3, **plan})
    return write_shards(folder, videos, samples.__getitem__, HEADER, layout)
