"""Clips to latents: one safetensors file per clip, standardised, checked before it is durable."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from safetensors.numpy import load, save

from corpus.codecs import Codec, build, psnr
from corpus.ids import sha256_bytes, unit_hash
from corpus.rows import Row
from corpus.video import READERS, read_video
from stages.libraries import versions
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, merged

TENSOR = "latent"
CHECKED = 0.25  # share of the clips that are decoded back


class LatentsConfig(StageConfig):
    """
    Attributes:
        codec: a name that `corpus.codecs.build` knows.
        settings: the codec's own settings, such as ``channels``.
    """

    codec: str = "dct"
    settings: dict[str, Any] = Field(default_factory=dict)


class LatentsStage(ClipStage[LatentsConfig]):
    """Encodes each clip on its own from its first frame: latents of a longer film cannot be cut."""

    name = "latents"
    version = "1"
    level = "clip"
    reads = ("clip_id", "clip_sha256", "chunks")
    makes = "latent"
    Config = LatentsConfig
    writes = pa.schema(
        [
            pa.field("latent", pa.string()),
            pa.field("latent_sha256", pa.string()),
            pa.field("latent_shape", pa.list_(pa.int32())),
            pa.field("psnr", pa.float64()),
        ]
    )

    def __init__(self, config: LatentsConfig, context: Context) -> None:
        super().__init__(config, context)
        self.codec: Codec = build(config.codec, **config.settings)

    @property
    def resources(self) -> Resources:
        return Resources(batch=16)

    def identity(self) -> dict[str, Any]:
        return {"codec": self.codec.info.to_json(), **versions(*READERS)}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)

    def _one(self, record: Record) -> list[Row]:
        frames = read_video(self.clip_path(record))
        expected = self.context.clock.frames(record["chunks"])
        if len(frames) != expected:
            return self.end(
                record, "failed", "frame_count", f"{len(frames)} frames read, {expected} expected"
            )
        try:
            latent = self.codec.encode(frames)
        except ValueError as error:
            return self.end(record, "failed", "codec", str(error))
        stored = latent.astype(np.float16, order="C")  # safetensors writes memory as it lies
        if not np.isfinite(stored).all():
            return self.end(record, "failed", "not_finite", "the latent overflows float16")
        name = self.context.media.latent(self.fingerprint, record["clip_id"])
        data = save({TENSOR: stored})
        self.context.media.store.write(name, data)
        columns = {
            "latent": name,
            "latent_sha256": sha256_bytes(data),
            "latent_shape": list(stored.shape),
            "psnr": self._decode_back(record, data, frames),
        }
        return [Row("clip", None, record["clip_id"], columns=columns)]

    def _decode_back(
        self, record: Record, data: bytes, frames: np.ndarray[Any, Any]
    ) -> float | None:
        """PSNR of what was stored against its clip, for a sample of the clips.

        Their names alone choose it: a diagnosis has no setting that would make latents anew.
        """
        if unit_hash(self.name, record["clip_id"]) >= CHECKED:
            return None
        return psnr(self.codec.decode(load(data)[TENSOR].astype(np.float32)), frames)
