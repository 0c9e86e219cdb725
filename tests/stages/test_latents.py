from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus.clock import Clock
from corpus.codecs import DctCodec
from corpus.errors import UserError
from corpus.ids import sha256_file, unit_hash
from corpus.layout import Media
from corpus.video import write_video
from stages.latents import LatentsConfig, LatentsStage
from stages.stage import Context

CHECKED = next(n for n in (f"{i:032x}" for i in range(99)) if unit_hash("latents", n) < 0.25)


def record(media: Media, name: str = CHECKED, chunks: int = 3) -> dict[str, Any]:
    """A clip whose chunks have grey levels of their own: chunk i is 20 (1 + i) bright."""
    levels = [0, *(20 * (1 + i // 4) for i in range(4 * chunks))]
    frames = np.stack([np.full((16, 32, 3), level, np.uint8) for level in levels])
    path = media.path(media.clip(name))
    write_video(path, frames, 16, "rgb_lossless")
    return {
        "clip_id": name,
        "shot_id": "s",
        "clip": media.clip(name),
        "clip_sha256": sha256_file(path),
        "chunks": chunks,
    }


def stage(media: Media, **config: Any) -> LatentsStage:
    return LatentsStage(LatentsConfig(**config), Context(media, Clock()))


def test_latent_one_plus_i_is_chunk_i(tmp_path: Path) -> None:
    media = Media(tmp_path)
    work = stage(media, settings={"channels": 12})
    one = record(media)
    ((row,),) = work.process([one])
    (after,) = work.advance(one, [row])
    latent = load_file(media.path(after["latent"]))["latent"]
    assert latent.dtype == np.float16 and latent.shape == (12, 4, 2, 4)
    assert sha256_file(media.path(after["latent"])) == after["latent_sha256"]
    frames = DctCodec(12).decode(latent.astype(np.float32))
    brightness = frames.mean((1, 2, 3))
    assert brightness == pytest.approx([0] + [20] * 4 + [40] * 4 + [60] * 4, abs=1)
    assert after["psnr"] > 45


def test_the_fingerprint_follows_the_codec_not_the_clip(tmp_path: Path) -> None:
    media = Media(tmp_path)
    assert stage(media).fingerprint == stage(media).fingerprint
    assert stage(media).fingerprint != stage(media, settings={"channels": 48}).fingerprint
    one = record(media)
    assert stage(media).key(one) != stage(media).key({**one, "clip_sha256": "other"})
    assert stage(media).key(one) == stage(media).key({**one, "shot_id": "other"})


def test_a_clip_of_another_length_than_promised_fails_alone(tmp_path: Path) -> None:
    media = Media(tmp_path)
    good, wrong = record(media), {**record(media, "d" * 32), "chunks": 5}
    (wrong_row,), (good_row,) = stage(media).process([wrong, good])
    assert (wrong_row.outcome, wrong_row.reason) == ("failed", "frame_count")
    assert "13 frames read, 21 expected" in str(wrong_row.message)
    assert good_row.outcome == "ok"


def test_a_size_that_the_codec_cannot_hold_fails_with_its_reason(tmp_path: Path) -> None:
    media = Media(tmp_path)
    one = record(media)
    write_video(media.path(one["clip"]), np.zeros((13, 20, 32, 3), np.uint8), 16, "rgb_lossless")
    ((row,),) = stage(media).process([one])
    assert (row.outcome, row.reason) == ("failed", "codec")
    assert "choose clip buckets" in str(row.message)


def test_names_alone_choose_the_clips_that_are_decoded_back(tmp_path: Path) -> None:
    """Another seed: the same fingerprint, hence it must be the same rows."""
    media = Media(tmp_path)
    records = [record(media, f"{i:032x}", 1) for i in range(12)]
    rows = stage(media).process(records)
    assert 0 < sum(row.columns["psnr"] is not None for (row,) in rows) < 12
    other = LatentsStage(LatentsConfig(), Context(media, Clock(), seed=7))
    assert other.fingerprint == stage(media).fingerprint
    assert other.process(records) == rows


def test_an_unknown_codec_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of cosmos, dct"):
        stage(Media(tmp_path), codec="wan21")
