"""Finished clips to shards: the corpus stage at the end of the pipeline."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
from pydantic import Field
from safetensors.numpy import load

from corpus.captions import KEEP, Caption, ClipCaptions, SegmentCaption, Segments
from corpus.errors import UserError
from corpus.ids import canonical_json, content_id, segment_id, sha256_bytes
from corpus.layout import Media
from corpus.policy import Policy
from corpus.shards import Columns, Sample, ShardPlan, refresh_card, write_shards
from corpus.shards.manifest import read_manifest
from corpus.shards.reading import is_intact
from corpus.shards.writing import AHEAD
from corpus.store import Folder, LocalStore, store_at
from corpus.views import View
from corpus.views import ready as readied
from stages.captioning.backend import OK
from stages.latents import TENSOR
from stages.stage import CorpusStage, Record, StageConfig


class CardColumns(StageConfig):
    """Names of columns: the first that a film's row fills counts. Letter case does not matter."""

    licence: tuple[str, ...] = Columns.licence
    source: tuple[str, ...] = Columns.source
    author: tuple[str, ...] = Columns.author


class ShardsConfig(StageConfig):
    """
    Attributes:
        name: folder under ``CORPUS/shards``.
        target_mb: a shard is closed once it holds at least this many MiB.
        validation: chance of a video (never of a clip) to be held out for validation; at least one
            of two or more is, unless it is 0.
        preview: put each clip's mp4 beside its latent, to be looked at; for no trainer.
        card: columns of the films' rows that tell licences, sources and authors on the card.
        policy: what a *view* shows in place of the stored captions (`corpus.policy`); its spans
            are the segments of the samples. Without one every stored caption is written.
    """

    name: str = Field(default="main", pattern=r"^[A-Za-z0-9_-]+$")
    target_mb: float = Field(default=256.0, gt=0)
    validation: float = Field(default=0.05, ge=0, lt=1)
    preview: bool = False
    card: CardColumns = CardColumns()
    policy: Policy | None = None


class ShardsStage(CorpusStage[ShardsConfig]):
    """Joins clips, captions, verdicts and latents into WebDataset tars."""

    name = "shards"
    version = "6"
    Config = ShardsConfig

    def run(
        self,
        records: Mapping[str, Record],
        folder: Folder,
        header: dict[str, Any],
        ready: Callable[[], None] = lambda: None,
    ) -> bool:
        """See `CorpusStage.run`; no records make an empty set, so old samples never stay behind.

        Raises:
            UserError: a latent that is damaged, or a policy that the captions cannot fill.
        """
        if self.config.policy is not None:
            header = {**header, "policy": self.config.policy.model_dump(mode="json")}
        counts = header.get("counts")  # what never became a clip changes no sample, but the card
        header = {name: value for name, value in header.items() if name != "counts"}
        header["inputs"] = self._inputs(records, header)
        standing = _standing(folder, header["inputs"])
        if standing is not None:
            refresh_card(store_at(folder), standing, counts, ready)
            return False
        if counts is not None:
            header["counts"] = counts
        view = self._view(records)
        plan = ShardPlan(
            int(self.config.target_mb * 2**20), self.context.seed, self.config.validation
        )
        with _Ahead(self.context.media, records) as ahead:
            write_shards(
                folder,
                {key: intern(record["video_id"]) for key, record in records.items()},
                lambda key: self._sample(ahead.record(key), header, view),
                header,
                plan,
                ready,
                Columns(**self.config.card.model_dump()),
                ahead.soon,
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

    def _view(self, records: Mapping[str, Record]) -> View | None:
        """The policy, after a look at all captions."""
        if self.config.policy is None:
            return None
        index = ((key, captions_of(record)) for key, record in records.items())
        return readied(self.config.policy, self.context.clock, index)

    def _sample(self, record: Record, header: dict[str, Any], view: View | None) -> Sample:
        key, captions = record["clip_id"], captions_of(record)
        if view is not None:
            captions = view.captions(key, captions)
        latent, info = self._latent(record), _info(record, header)
        return Sample(key, latent, captions, info, preview=self._preview(record))

    def _preview(self, record: Record) -> bytes | None:
        if not self.config.preview:
            return None
        return self._read(record["clip"], record["clip_sha256"], "clips")

    def _latent(self, record: Record) -> np.ndarray[Any, Any]:
        return load(self._read(record["latent"], record["latent_sha256"], "latents"))[TENSOR]

    def _read(self, name: str, sha256: str, stage: str) -> bytes:
        """A media file, whole and unchanged."""
        path = self.context.media.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}): run again") from error
        if sha256_bytes(data) != sha256:
            raise UserError(
                f"{path} is not what the {stage} stage wrote: delete it and run again, which "
                "makes it anew"
            )
        return data


class _Ahead:
    """Fetches latents from a remote corpus while others are written: each is a request or two.

    Records may lie in a file that only this thread can read, so they are read here, once.
    """

    def __init__(self, media: Media, records: Mapping[str, Record]) -> None:
        self._media, self._records = media, records
        self._remote = not isinstance(media.store, LocalStore)
        self._pool = ThreadPoolExecutor(AHEAD if self._remote else 1)
        self._waiting: dict[str, tuple[Record, Future[Path] | None]] = {}

    def __enter__(self) -> "_Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def soon(self, key: str) -> None:
        record = self._records[key]
        fetch = self._pool.submit(self._media.path, record["latent"]) if self._remote else None
        self._waiting[key] = record, fetch

    def record(self, key: str) -> Record:
        """Of a key that was announced; its latent is in the cache then, if it can be had."""
        record, fetched = self._waiting.pop(key)
        if fetched is not None:
            wait([fetched])  # what it raised is raised again, and told, by who opens the file
        return record


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
    return ClipCaptions((meta,), segments, _ladders(record))


def _ladders(record: Record) -> dict[str, Segments]:
    """Captions made for other densities. No stage scores them: what stands there was answered, or
    says why not."""
    found: dict[str, list[SegmentCaption]] = {}
    for item in record.get("ladders", ()):
        ok = item["status"] == OK
        caption = Caption(
            (item["text"] or "") if ok else "",
            verdict=KEEP if ok else item["status"] or "no_caption",
            prompt=item["prompt"],
            model=item["model"],
            binding=item["binding"],
        )
        name = segment_id(record["clip_id"], item["a"], item["b"])
        span = SegmentCaption(item["a"], item["b"], caption, name)
        found.setdefault(item["every"], []).append(span)
    return {every: tuple(sorted(found[every], key=lambda span: span.a)) for every in sorted(found)}


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
        **({"policy": header["policy"]} if "policy" in header else {}),
    }


def _standing(folder: Folder, inputs: str) -> dict[str, Any] | None:
    """The manifest of a whole set made from these inputs, if it stands there."""
    try:
        manifest = read_manifest(folder)
        if manifest["inputs"] == inputs and is_intact(store_at(folder), manifest):
            return manifest
    except (UserError, OSError, KeyError, TypeError):
        pass  # nothing stands there, or what was never ours: it is made anew
    return None
