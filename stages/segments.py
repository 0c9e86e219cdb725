"""Clips to action segments: an exact partition of each clip's chunks, one caption each."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import av
import cv2
import decord
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from corpus.errors import UserError
from corpus.ids import segment_id
from corpus.rows import Row
from corpus.video import read_video
from stages.cutting.novelty import novelty
from stages.libraries import versions
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, children

Spans = list[tuple[int, int]]


class SegmentsConfig(StageConfig):
    """
    Attributes:
        mode: ``fixed`` cuts evenly, ``adaptive`` where motion or appearance changes.
        seconds: length of a segment (fixed), or average length (adaptive).
        chunks: the same in chunks; set one of the two.
        remainder: what a fixed cut leaves over goes to the last segment (``merge``) or is shared
            among all (``spread``); it is never dropped.
        min_seconds, max_seconds: bounds of an adaptive segment; a shorter clip is one segment.
    """

    mode: Literal["fixed", "adaptive"] = "fixed"
    seconds: float | None = Field(default=None, gt=0)
    chunks: int | None = Field(default=None, ge=1)
    remainder: Literal["merge", "spread"] = "merge"
    min_seconds: float = Field(default=1.0, gt=0)
    max_seconds: float = Field(default=4.0, gt=0)


DEFAULT_SECONDS = 2.0


class SegmentsStage(ClipStage[SegmentsConfig]):
    """Each clip's segments, in order: contiguous, no gap, no overlap."""

    name = "segments"
    version = "1"
    level = "segment"
    reads = ("clip_id", "clip_sha256", "chunks")
    Config = SegmentsConfig
    writes = pa.schema([pa.field("a", pa.int32()), pa.field("b", pa.int32())])

    def __init__(self, config: SegmentsConfig, context: Context) -> None:
        super().__init__(config, context)
        clock = context.clock
        if config.seconds is not None and config.chunks is not None:
            raise UserError("segments: set seconds or chunks, not both")
        self.target = config.chunks or clock.chunks_of(config.seconds or DEFAULT_SECONDS)
        self.bounds = clock.chunks_of(config.min_seconds), clock.chunks_of(config.max_seconds)
        low, high = self.bounds
        if config.mode == "adaptive" and not (low <= self.target <= high and 2 * low <= high):
            raise UserError(
                f"segments: adaptive needs min_seconds <= average <= max_seconds and max_seconds "
                f">= 2 min_seconds; got {low}, {self.target}, {high} chunks"
            )

    @property
    def resources(self) -> Resources:
        return Resources(batch=16)

    def identity(self) -> dict[str, Any]:
        if self.config.mode == "fixed":
            return {"mode": "fixed", "chunks": self.target, "remainder": self.config.remainder}
        how = {"mode": "adaptive", "chunks": self.target, "bounds": list(self.bounds)}
        return {**how, **versions(av, cv2, decord)}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._one(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return children(record, rows, "segments", "segment_id")

    def _one(self, record: Record) -> list[Row]:
        chunks = record["chunks"]
        if chunks < 1:
            return self.end(record, "filtered", "no_chunks", "an image has no segments")
        if self.config.mode == "fixed":
            spans = fixed_spans(chunks, self.target, self.config.remainder)
        else:
            clock = self.context.clock
            frames = read_video(self.clip_path(record), range(0, clock.frames(chunks), 2))
            change = novelty(frames, clock.fps / 2, chunks, clock.chunk_seconds)
            spans = adaptive_spans(change, self.target, *self.bounds)
        clip = record["clip_id"]
        return [
            Row("segment", clip, segment_id(clip, a, b), columns={"a": a, "b": b}) for a, b in spans
        ]


def fixed_spans(chunks: int, target: int, remainder: Literal["merge", "spread"]) -> Spans:
    """Half-open ranges of about ``target`` chunks that partition ``[0, chunks)``.

    ``merge``: all of ``target`` but the last, which is shorter than ``2 target``. ``spread``: as
    many segments, of lengths that differ by at most one.
    """
    count = max(1, chunks // target)
    if remainder == "merge":
        edges = [*(i * target for i in range(count)), chunks]
    else:
        edges = [i * chunks // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def adaptive_spans(change: NDArray[np.float64], target: int, low: int, high: int) -> Spans:
    """The partition with the greatest change at its boundaries.

    Args:
        change: (k - 1,) how much is new at the boundary between chunk i and i + 1.
        target: average length in chunks; decides the number of segments.
        low, high: least and greatest length in chunks; a clip shorter than ``low`` is one segment.

    Dynamic programming over (boundary, number of segments), so the bounds and the number hold
    exactly; equal changes prefer even lengths.
    """
    chunks = len(change) + 1
    count = max(1, round(chunks / target))
    count = min(max(count, -(-chunks // high)), max(1, chunks // low))
    even = 1e-3 * max(1.0, float(np.abs(change).max(initial=0.0))) / chunks**2
    best = np.full((count + 1, chunks + 1), -np.inf)
    origin = np.zeros((count + 1, chunks + 1), dtype=int)
    best[0, 0] = 0.0
    low = min(low, chunks)
    for n in range(1, count + 1):
        for end in range(low, chunks + 1):
            gain = change[end - 1] if end < chunks else 0.0
            for start in range(max(0, end - high), end - low + 1):
                score = best[n - 1, start] + gain - even * (end - start) ** 2
                if score > best[n, end]:
                    best[n, end], origin[n, end] = score, start
    edges = [chunks]
    for n in range(count, 0, -1):
        edges.append(int(origin[n, edges[-1]]))
    edges.reverse()
    return list(itertools.pairwise(edges))
