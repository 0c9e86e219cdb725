"""Stage clips: shots become normalised clips at the clock.

A shot gives windows of ``min_seconds`` to ``max_seconds``; a longer one is split evenly, a shorter
one dropped. Which pictures its clips show follows from the film's timing table
(`reading.media_time.sample`). One child decodes the film once and passes on these alone, upright,
with square pixels, HDR mapped to SDR, scaled to cover a size bucket and cropped at the centre. They
are encoded while they pass by: of an hours-long film one picture is in memory. Where the shots
stage left a reel (`reading.reels`), the pictures come from there and nothing is decoded.

Reasons:
    filtered: ``too_short`` (the shot's own, with its seconds);
    failed: ``corrupt`` (all of the film's shots: the second decoding gave other pictures);
    quarantined: ``crash``, ``timeout``, ``memory``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from corpus.ids import clip_id, sha256_file
from corpus.rows import Row
from corpus.video import Encoding, encode_video, encoder_arguments, ffmpeg_build, piped
from stages.cutting.normalising import bucket, filters
from stages.cutting.windows import Window, split
from stages.reading.child import Child, ChildTrouble, twice
from stages.reading.chosen import Film, picking
from stages.reading.foreign import Unfit, decoder, decoding_limits
from stages.reading.media_time import Ticks, read_timing, sample
from stages.reading.reels import Reel, Reeled
from stages.shots import ShotsStage
from stages.stage import Context, Record, Resources, Stage, StageConfig, VideoStage


class ClipsConfig(StageConfig):
    """What clips look like.

    Attributes:
        min_seconds, max_seconds: bounds of a clip's length [reported: 6-16], in whole chunks.
        buckets: sizes (width, height); a film takes the one whose shape is nearest its own.
        encoding: ``yuv420p`` for films, ``rgb_lossless`` for worlds with sprites of few pixels.
        timeout, memory: limits of the child: seconds without a new picture, and bytes.
    """

    min_seconds: float = Field(default=6.0, gt=0)
    max_seconds: float = Field(default=16.0, gt=0)
    buckets: tuple[tuple[int, int], ...] = (
        (512, 288),
        (448, 336),
        (384, 384),
        (336, 448),
        (288, 512),
    )
    encoding: Encoding = "yuv420p"
    timeout: float = Field(default=36.0, gt=0)
    memory: int = Field(default=4 << 30, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> "ClipsConfig":
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds={self.min_seconds} > max_seconds={self.max_seconds}")
        step = 2 if self.encoding == "yuv420p" else 1
        wrong = [size for size in self.buckets if min(size) < 8 or any(n % step for n in size)]
        if wrong or not self.buckets:
            raise ValueError(f"buckets: {wrong or 'none'}: sides of at least 8, even for yuv420p")
        return self


class ClipsStage(VideoStage[ClipsConfig]):
    """One film in, its clips out; decides the fate of the film's shots."""

    name = "clips"
    version = "3"
    level = "clip"
    reads = (
        *("video_id", "stream", "width", "height", "transfer", "matrix", "time_base"),
        "shots",
    )
    aids = (*VideoStage.aids, "timing", "packets")
    makes = "clip"
    Config = ClipsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("clip", pa.string()),  # name under the media root
            pa.field("clip_sha256", pa.string()),
            pa.field("chunks", pa.int32()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("start", pa.float64()),  # seconds of presentation time, first and last frame
            pa.field("end", pa.float64()),
            pa.field("start_pts", pa.int64()),  # ticks, the end rounded
            pa.field("end_pts", pa.int64()),
            pa.field("time_base", pa.list_(pa.int64(), 2)),
            pa.field("encoding", pa.string()),
        ]
    )

    def __init__(self, config: ClipsConfig, context: Context) -> None:
        super().__init__(config, context)
        # Here and not in a worker: a length that is no whole number of chunks is the plan's fault.
        bounds = (config.min_seconds, config.max_seconds)
        self._least, self._most = map(context.clock.chunks_of, bounds)

    def agree(self, earlier: Mapping[str, Stage[Any]]) -> None:
        """Films are decoded once, where the shots stage knows what their clips will need."""
        before = earlier.get("shots")
        if isinstance(before, ShotsStage):
            before.ahead = self.reel

    @property
    def resources(self) -> Resources:
        return Resources(cpus=1.0, batch=1)

    def identity(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"timeout", "memory"})
        return {**config, **self._encoder()}

    def reel(self, record: Record) -> Reel:
        """A film's pictures as its clips have them."""
        width, height = bucket(record["width"], record["height"], self.config.buckets)
        chain = filters(record, width, height, self.config.encoding)
        return Reel.of(record["video_id"], chain, *piped(self.config.encoding, width, height))

    def content(self, record: Record) -> Record:
        """Of a shot its place is read, never what found it."""
        read = ("shot_id", "start_pts", "end_pts", "start", "end")
        shots = [{name: shot[name] for name in read} for shot in record["shots"]]
        return {**super().content(record), "shots": shots}

    def subjects(self, record: Record) -> list[str]:
        return [shot["shot_id"] for shot in record["shots"]]

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._clips(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        film = {name: record[name] for name in ("video_id", "uri", "meta", "timeline")}
        film["timeline_sha256"] = record["timeline_sha256"]
        return [
            {"clip_id": row.id, "shot_id": row.parent, **film, **row.columns}
            for row in rows
            if row.outcome == "ok"
        ]

    def _encoder(self) -> dict[str, Any]:
        return {"ffmpeg": ffmpeg_build(), "encoder": encoder_arguments(self.config.encoding)}

    def _clips(self, record: Record) -> list[Row]:
        pts = read_timing(self.context.media.path(record["timing"]))
        rows, windows = self._windows(record)
        try:
            if not windows:
                return rows
            return rows + twice(lambda share: self._cut(record, pts, windows, share))
        except ChildTrouble as error:
            return self.end(record, "quarantined", error.reason, str(error))
        except Unfit as error:
            return self.end(record, "failed", error.reason, str(error))
        finally:
            self.reel(record).drop()

    # -- where ------------------------------------------------------------------------------

    def _windows(self, record: Record) -> tuple[list[Row], list[Window]]:
        """Rows of the shots that are too short, windows of the others, in order."""
        clock, base = self.context.clock, record["time_base"]
        chunk = Fraction(clock.frames_per_chunk, clock.fps)
        rows: list[Row] = []
        windows: list[Window] = []
        for shot in record["shots"]:
            parts = split(base, shot["start_pts"], shot["end_pts"], self._least, self._most, chunk)
            windows += [Window(shot["shot_id"], start, chunks) for start, chunks in parts]
            if not parts:
                seconds = shot["end"] - shot["start"]
                why = f"{seconds:.3f} s do not hold {self.config.min_seconds} s and a start frame"
                rows.append(
                    Row("clip", shot["shot_id"], None, "filtered", "too_short", why, seconds)
                )
        return rows, windows

    # -- what -------------------------------------------------------------------------------

    def _cut(
        self, record: Record, pts: Ticks, windows: Sequence[Window], share: float
    ) -> list[Row]:
        """Go through the film once and write every window's clip: all of them or none."""
        reel = self.reel(record)
        width, height = bucket(record["width"], record["height"], self.config.buckets)
        normalisation = {
            **{"size": [width, height], "fps": self.context.clock.fps, "filters": reel.chain},
            **self._encoder(),
        }
        shown = [self._shown(record, pts, window) for window in windows]
        rows = []
        with ExitStack() as files:
            frames = reel.frames(len(pts))
            film: Reeled | Film
            if frames is not None:
                film = Reeled(frames)
            else:
                film = files.enter_context(self._decoded(record, reel, pts, shown, share))
            for window, chosen in zip(windows, shown, strict=True):
                name = clip_id(record["video_id"], window.start_pts, window.chunks, normalisation)
                place = self.context.media.writing(self.context.media.clip(name))
                temporary = files.enter_context(place)
                pictures = (film.at(int(number)) for number in chosen)
                encode_video(temporary, pictures, self.context.clock.fps, self.config.encoding)
                columns = self._columns(record, window, name, temporary)
                columns |= {"width": width, "height": height}
                rows.append(Row("clip", window.shot, name, columns=columns))
            film.end()
        return rows

    @contextmanager
    def _decoded(
        self,
        record: Record,
        reel: Reel,
        pts: Ticks,
        shown: Sequence[NDArray[np.int64]],
        share: float,
    ) -> Iterator[Film]:
        """The film from a child that passes on what is shown."""
        # The last picture too: a film that has another now is not the film that was timed.
        wanted = np.unique(np.concatenate([*shown, [len(pts) - 1]]))
        limits = decoding_limits(record, self.config.timeout, self.config.memory)
        with NamedTemporaryFile("w", prefix="tv2tv-") as script:
            script.write(f"select='{picking(pts[wanted].tolist())}',{reel.chain}")
            script.flush()
            out = ["-/filter:v", script.name, "-fps_mode", "passthrough"]
            out += ["-f", "rawvideo", "-pix_fmt", reel.pixels, "-"]
            with Child([*decoder(record), *out], limits.part(share)) as child:
                yield Film(child, reel.shape, wanted)

    def _shown(self, record: Record, pts: Ticks, window: Window) -> NDArray[np.int64]:
        """Pictures that the frames of a window show."""
        clock = self.context.clock
        frames = clock.frames(window.chunks)
        return sample(pts, record["time_base"], window.start_pts, frames, clock.fps)

    def _columns(self, record: Record, window: Window, name: str, path: Path) -> dict[str, Any]:
        tick = Fraction(*record["time_base"])
        clock = self.context.clock
        seconds = Fraction(window.chunks * clock.frames_per_chunk, clock.fps)
        return {
            "clip": self.context.media.clip(name),
            "clip_sha256": sha256_file(path),
            "chunks": window.chunks,
            "start": float(window.start_pts * tick),
            "end": float(window.start_pts * tick + seconds),
            "start_pts": window.start_pts,
            "end_pts": window.start_pts + round(seconds / tick),
            "time_base": record["time_base"],
            "encoding": self.config.encoding,
        }
