"""Finished clips to shards: the corpus stage at the end of the pipeline."""

import hashlib
from collections.abc import Callable, Mapping
from sys import intern
from typing import Any

import numpy as np
from pydantic import Field
from safetensors.numpy import load

from corpus.captions import Caption, ClipCaptions, SegmentCaption
from corpus.errors import UserError
from corpus.ids import canonical_json, content_id, sha256_bytes
from corpus.shards import Sample, ShardPlan, write_shards
from corpus.shards.reading import is_intact, read_manifest
from corpus.store import Folder, store_at
from stages.latents import TENSOR
from stages.stage import CorpusStage, Record, StageConfig


class ShardsConfig(StageConfig):
    """
    Attributes:
        name: folder under ``CORPUS/shards``.
        target_mb: a shard is closed once it holds at least this many MiB.
        validation: chance of a video (never of a clip) to be held out for validation; at least one
            of two or more is, unless it is 0.
    """

    name: str = Field(default="main", pattern=r"^[A-Za-z0-9_-]+$")
    target_mb: float = Field(default=256.0, gt=0)
    validation: float = Field(default=0.05, ge=0, lt=1)


class ShardsStage(CorpusStage[ShardsConfig]):
    """Joins clips, captions, verdicts and latents into WebDataset tars."""

    name = "shards"
    version = "3"
    Config = ShardsConfig

    def run(
        self,
        records: Mapping[str, Record],
        folder: Folder,
        header: dict[str, Any],
        ready: Callable[[], None] = lambda: None,
    ) -> bool:
        """See `CorpusStage.run`; no records make an empty set, so old samples never stay behind."""
        header = {**header, "inputs": self._inputs(records, header)}
        if _up_to_date(folder, header["inputs"]):
            return False
        plan = ShardPlan(
            int(self.config.target_mb * 2**20), self.context.seed, self.config.validation
        )
        write_shards(
            folder,
            {key: intern(record["video_id"]) for key, record in records.items()},
            lambda key: self._sample(records[key], header),
            header,
            plan,
            ready,
        )
        return True

    def _inputs(self, records: Mapping[str, Record], header: dict[str, Any]) -> str:
        """Id of everything that can change a byte of the result."""
        settings = {**self.config.model_dump(mode="json"), "seed": self.context.seed}
        samples = hashlib.sha256()
        for key, record in records.items():
            captions = captions_of(record).to_json()
            line = canonical_json([key, record["latent_sha256"], captions, record["meta"]])
            samples.update(f"{line}\n".encode())
        return content_id(self.name, self.version, settings, header, samples.hexdigest())

    def _sample(self, record: Record, header: dict[str, Any]) -> Sample:
        return Sample(
            record["clip_id"], self._latent(record), captions_of(record), _info(record, header)
        )

    def _latent(self, record: Record) -> np.ndarray[Any, Any]:
        path = self.context.media.path(record["latent"])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}): run again") from error
        if sha256_bytes(data) != record["latent_sha256"]:
            raise UserError(
                f"{path} is not what the latents stage wrote: delete it and run again, which "
                "makes it anew"
            )
        return load(data)[TENSOR]


def captions_of(record: Record) -> ClipCaptions:
    """The captions record of a finished clip."""
    meta = Caption(
        record["meta_text"],
        prompt=record["meta_prompt"],
        model=record["meta_model"],
        binding=record["meta_binding"],
    )
    segments = tuple(
        SegmentCaption(
            segment["a"],
            segment["b"],
            Caption(
                segment["text"] or "",
                segment["scores"],
                segment["verdict"],
                segment["prompt"],
                segment["model"],
                segment["binding"],
            ),
            segment["segment_id"],
        )
        for segment in record["segments"]
    )
    return ClipCaptions((meta,), segments)


def _info(record: Record, header: dict[str, Any]) -> dict[str, Any]:
    """Provenance without paths or times of day."""
    copied = ("clip_id", "video_id", "shot_id", "clip_sha256", "chunks", "width", "height")
    source = ("start", "end", "start_pts", "end_pts", "time_base")
    return {
        **{name: record[name] for name in copied},
        "source": {name: record[name] for name in source},
        "meta": record["meta"],
        "quality": record.get("quality", {}),
        "clock": header["clock"],
        "codec": header["codec"],
        "fingerprints": header["fingerprints"],
    }


def _up_to_date(folder: Folder, inputs: str) -> bool:
    """Whether a whole set made from these inputs stands there."""
    try:
        manifest = read_manifest(folder)
        return manifest["inputs"] == inputs and is_intact(store_at(folder), manifest)
    except (UserError, OSError, KeyError, TypeError):
        return False  # nothing stands there, or what was never ours: it is made anew
