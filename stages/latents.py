"""Clips to latents: one safetensors file per clip, standardised, checked before it is durable.

Clips are read ahead while others are encoded, those of one size are encoded at once where the
codec gains by it, and where the device has no room for so many, fewer. None of that changes a
latent beyond rounding on a GPU, and nothing on a CPU.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator
from safetensors.numpy import save

from corpus.codecs import Codec, OutOfMemory, Runtime, check_fits, make, prove, psnr
from corpus.codecs.base import Frames, Latent
from corpus.codecs.weights import absolute
from corpus.ids import sha256_bytes, unit_hash
from corpus.rows import Row
from corpus.video import READERS, read_video
from stages.libraries import versions
from stages.stage import ClipStage, Context, Record, Resources, StageConfig, merged

TENSOR = "latent"
BATCH = 16  # clips per part
Size = tuple[int, ...]  # frames, height, width, colours
Read = tuple[int, Frames]  # a record's place in the batch, and its clip


class LatentsConfig(StageConfig):
    """
    Attributes:
        codec: a name that `corpus.codecs` knows.
        settings: the codec's own settings, such as ``channels``, ``dtype`` or ``tile``.
        weights: folder, file, or repository in the local cache of the Hugging Face hub; what the
            weights are is named by their bytes, not by where they lie.
        allow_torchscript: whether weights that are code may run; see `corpus.codecs.cosmos`.
        gpus: share of a GPU that a worker has; 0 computes on the CPU.
        at_once: clips of one size that a GPU encodes at once, at most.
        readers: clips that a worker with a GPU reads at once.
        check: share of the clips that are decoded back; by default what the codec is worth.
        floor: PSNR in dB under which the report shows a clip; by default the codec's. Neither it
            nor ``check`` changes a latent.
    """

    codec: str = "dct"
    settings: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    allow_torchscript: bool = False
    gpus: float = Field(default=0.0, ge=0)
    at_once: int = Field(default=4, ge=1)
    readers: int = Field(default=2, ge=1)
    check: float | None = Field(default=None, ge=0, le=1)
    floor: float | None = None

    @field_validator("weights")
    @classmethod
    def _anywhere(cls, weights: str | None) -> str | None:
        """The run's recipe is read again by commands that are called in other folders."""
        return None if weights is None else absolute(weights)


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
        device = "cuda" if config.gpus else "cpu"
        runtime = Runtime(config.weights, device, config.allow_torchscript)
        self.codec: Codec = make(config.codec, runtime, config.settings)
        check_fits(self.codec.info, context.clock)
        self._fits: dict[Size, int] = {}  # clips of a size at once, as far as the device taught us
        self._told: Counter[str] = Counter()

    @property
    def resources(self) -> Resources:
        if self.config.gpus:
            cpus = float(self.config.readers)
            return Resources(cpus, self.config.gpus, batch=BATCH, patient=True)
        return Resources(batch=BATCH)

    @property
    def floor(self) -> float | None:
        """PSNR in dB under which a clip's round trip is worth a look."""
        return self.codec.floor if self.config.floor is None else self.config.floor

    def identity(self) -> dict[str, Any]:
        return {
            "codec": self.codec.info.to_json(),
            **self.codec.libraries(),
            **versions(*READERS),
        }

    def open(self) -> None:
        self.codec.open()
        prove(self.codec)

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        ended: dict[int, list[Row]] = {}
        made: dict[int, Future[list[Row]]] = {}
        with ThreadPoolExecutor(self._readers) as pool:
            for group in self._groups(records, pool, ended):
                latents = self._encode([frames for _, frames in group], records[group[0][0]])
                for (at, frames), latent in zip(group, latents, strict=True):
                    psnr = self._decode_back(records[at], latent, frames)
                    made[at] = pool.submit(self._stored, records[at], latent, psnr)
        rows = {**ended, **{at: future.result() for at, future in made.items()}}
        return [rows[at] for at in range(len(records))]

    def told(self) -> dict[str, Any]:
        """``halved``: how often the device had no room for so many clips; ``unchecked``: clips that
        were not decoded back for want of it."""
        told, self._told = dict(self._told), Counter()
        return told

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)

    @property
    def _readers(self) -> int:
        return self.config.readers if self.config.gpus else 1

    def _groups(
        self, records: Sequence[Record], pool: ThreadPoolExecutor, ended: dict[int, list[Row]]
    ) -> Iterator[list[Read]]:
        """Clips of one size, as many as go at once; those that are not as they should be get their
        rows here. No more clips are held than one group of each frame size, and those read ahead.
        """
        waiting: dict[Size, list[Read]] = {}
        length = 0
        for at, frames in self._read(records, pool):
            if ending := self._misfit(records[at], frames):
                ended[at] = ending
                continue
            if len(frames) != length:  # they come by length: no other of those waiting will come
                yield from waiting.values()
                waiting, length = {}, len(frames)
            group = waiting.setdefault(frames.shape, [])
            group.append((at, frames))
            if len(group) >= self._at_once(frames.shape):
                yield waiting.pop(frames.shape)
        yield from waiting.values()

    def _read(self, records: Sequence[Record], pool: ThreadPoolExecutor) -> Iterator[Read]:
        """Clips by length, a few of them read ahead."""
        ahead: deque[tuple[int, Future[Frames]]] = deque()
        for at in sorted(range(len(records)), key=lambda at: (records[at]["chunks"], at)):
            ahead.append((at, pool.submit(read_video, self.clip_path(records[at]))))
            if len(ahead) > self._readers:
                first, frames = ahead.popleft()
                yield first, frames.result()
        for first, frames in ahead:
            yield first, frames.result()

    def _misfit(self, record: Record, frames: Frames) -> list[Row]:
        """How a clip ends that cannot be encoded; [] for one that can."""
        expected = self.context.clock.frames(record["chunks"])
        if len(frames) != expected:
            return self.end(
                record, "failed", "frame_count", f"{len(frames)} frames read, {expected} expected"
            )
        try:
            self.codec.latent_shape(*frames.shape[:3])
        except ValueError as error:
            return self.end(record, "failed", "codec", str(error))
        return []

    def _at_once(self, size: Size) -> int:
        return self._fits.get(size, self.config.at_once if self.config.gpus else 1)

    def _encode(self, clips: Sequence[Frames], first: Record) -> Iterator[Latent]:
        """Latents of clips of one size, in as few goes as the device has room for."""
        size, done = clips[0].shape, 0
        while done < len(clips):
            group = clips[done : done + self._at_once(size)]
            some = group[0][None] if len(group) == 1 else np.stack(group)  # clips are large
            try:
                latents = self.codec.encode_batch(some)
            except OutOfMemory as error:
                if len(some) == 1:
                    raise MemoryError(_no_room(size, first, error)) from error
                self._fits[size] = len(some) // 2
                self._told["halved"] += 1
                continue
            yield from latents
            done += len(some)

    def _decode_back(self, record: Record, latent: Latent, frames: Frames) -> float | None:
        """PSNR of what will be stored against its clip, for a sample chosen by the clips' names."""
        check = self.codec.checked if self.config.check is None else self.config.check
        if unit_hash(self.name, record["clip_id"]) >= check:
            return None
        stored = _half(latent)
        if not np.isfinite(stored).all():
            return None  # which is told when it is to be stored
        try:
            return psnr(self.codec.decode(stored.astype(np.float32)), frames)
        except OutOfMemory:  # decoding needs more than encoding did, and is but a look
            self._told["unchecked"] += 1
            return None

    def _stored(self, record: Record, latent: Latent, psnr: float | None) -> list[Row]:
        """The row of a latent, written by now; done beside further encoding."""
        stored = _half(latent)
        if not np.isfinite(stored).all():
            why = "overflows float16" if np.isfinite(latent).all() else "is not finite"
            return self.end(record, "failed", "not_finite", f"the latent {why}")
        name = self.context.media.latent(self.fingerprint, record["clip_id"])
        data = save({TENSOR: stored})
        self.context.media.store.write(name, data)
        columns = {
            "latent": name,
            "latent_sha256": sha256_bytes(data),
            "latent_shape": list(stored.shape),
            "psnr": psnr,
        }
        return [Row("clip", None, record["clip_id"], columns=columns)]


def _half(latent: Latent) -> np.ndarray[Any, np.dtype[np.float16]]:
    """As it is stored: safetensors writes memory as it lies. What overflows becomes infinite."""
    with np.errstate(over="ignore"):
        return latent.astype(np.float16, order="C")


def _no_room(size: Size, record: Record, error: Exception) -> str:
    frames, height, width, _ = size
    return (
        f"a clip of {frames} frames of {width}x{height} (such as {record['clip_id']}) does not fit "
        f"the device's memory alone ({error}): set latents.settings.tile where the codec encodes "
        "in tiles, make clips shorter or smaller, or take a larger device"
    )
