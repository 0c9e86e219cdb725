"""Stage shots: where the shots of a film lie, to the picture.

One child decodes the film once: every picture goes into a low-resolution proxy, its timestamp into
the film's timing table. What has fewer pictures than packets, or timestamps that do not increase,
is refused here. `stages.boundaries` then judges the proxy, read by decord. With the detector
``given`` the shots come from the film's timeline instead, exact in time, and no proxy is made.

Reasons, all of the whole film:
    failed: ``no_frames``, ``corrupt``, ``timestamps``, ``timeline``; filtered: ``no_shots``;
    quarantined: ``crash``, ``timeout``, ``memory``.
"""

import errno
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import decord
import numpy as np
import pyarrow as pa
import scenedetect
from pydantic import Field, model_validator

from corpus.errors import UserError
from corpus.ids import shot_id
from corpus.rows import Row
from corpus.timeline import read_timeline
from corpus.video import ffmpeg_build
from stages.blends import BlendTest
from stages.boundaries import (
    Adaptive,
    Boundary,
    Content,
    CutTest,
    Hash,
    Histogram,
    Threshold,
    find_boundaries,
    shots_between,
)
from stages.child import Child, ChildTrouble, Ended, twice
from stages.foreign import Unfit, decoder, decoding_limits
from stages.libraries import versions
from stages.media_time import Ticks, first_from, is_sane, write_timing
from stages.pictures import Frames
from stages.stage import Record, Resources, StageConfig, VideoStage, children

PROXY_SIZE = (256, 144)  # of every film, whatever its shape: differences do not mind stretching
PROXY_TICKS = 512  # per picture, at 12800 a second: the proxy's clock counts pictures
# metadata prints a line per picture on stdout, at once, and only where a picture has metadata
_TELL = "metadata=mode=add:key=x:value=1,metadata=mode=print:file=-:direct=1"
_PROXY = [
    *("-fps_mode", "passthrough", "-enc_time_base", "demux", "-an", "-sn", "-dn"),
    *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-g", "50", "-bf", "0"),
    *("-pix_fmt", "yuv420p", "-threads", "1", "-video_track_timescale", "12800"),
    *("-bsf:v", f"setts=ts=N*{PROXY_TICKS}:duration={PROXY_TICKS}:time_base=1/12800"),
]


class Given(StageConfig):
    """Shots come from the timeline that the manifest names."""

    kind: Literal["given"] = "given"


Detector = Annotated[
    Content | Adaptive | Hash | Histogram | Threshold | Given, Field(discriminator="kind")
]


class ShotsConfig(StageConfig):
    """How shots are found.

    Attributes:
        detectors: who proposes boundaries; ``given`` stands alone.
        cuts, blends: what makes a proposal a boundary.
        max_lost: part of a film's pictures that may be missing or damaged.
        timeout, memory: limits of the child: seconds without a new picture, and bytes.
    """

    detectors: tuple[Detector, ...] = (Content(), Adaptive(), Threshold())
    cuts: CutTest = CutTest()
    blends: BlendTest = BlendTest()
    max_lost: float = Field(default=0.01, ge=0, lt=1)
    timeout: float = Field(default=36.0, gt=0)
    memory: int = Field(default=4 << 30, gt=0)

    @model_validator(mode="after")
    def _given_stands_alone(self) -> "ShotsConfig":
        kinds = [detector.kind for detector in self.detectors]
        if not kinds or ("given" in kinds and len(kinds) > 1):
            raise ValueError("detectors: name at least one; given stands alone")
        return self

    @property
    def given(self) -> bool:
        return self.detectors[0].kind == "given"


class ShotsStage(VideoStage[ShotsConfig]):
    """One film in, its shots and its timing table out."""

    name = "shots"
    version = "1"
    level = "shot"
    reads = ("video_id", "stream", "packets", "fps", "time_base", "end_pts")
    aids = (*VideoStage.aids, "timeline")
    makes = "timing"
    Config = ShotsConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("start_frame", pa.int64()),  # decoded pictures [start_frame, end_frame)
            pa.field("end_frame", pa.int64()),
            pa.field("start_pts", pa.int64()),  # ticks [start_pts, end_pts)
            pa.field("end_pts", pa.int64()),
            pa.field("start", pa.float64()),  # seconds of presentation time
            pa.field("end", pa.float64()),
            pa.field("opened_by", pa.string()),  # start, cut, gradual, black, given
            pa.field("opened_score", pa.float64()),  # of the boundary before it
        ]
    )

    @property
    def resources(self) -> Resources:
        return Resources(cpus=1.0, batch=1)

    def identity(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"timeout", "memory"})
        found = {**config, "ffmpeg": ffmpeg_build(), "proxy": [_TELL, *PROXY_SIZE, *_PROXY]}
        return found if self.config.given else {**found, **versions(cv2, decord, scenedetect)}

    def content(self, record: Record) -> Record:
        """A timeline is content only where it is read."""
        read = super().content(record)
        if self.config.given:
            read["timeline_sha256"] = record["timeline_sha256"]
        return read

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._shots(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        timing = self.context.media.timing(self.fingerprint, record["video_id"])
        return [{**film, "timing": timing} for film in children(record, rows, "shots", "shot_id")]

    def _shots(self, record: Record) -> list[Row]:
        try:
            with tempfile.TemporaryDirectory(prefix="tv2tv-") as folder:
                proxy = None if self.config.given else Path(folder) / "proxy.mp4"
                decoded = twice(lambda share: self._decode(record, proxy, share))
                pts = self._check(record, decoded)
                found = self._given(record, pts) if proxy is None else self._found(record, proxy)
        except ChildTrouble as error:
            return self.end(record, "quarantined", error.reason, str(error))
        except Unfit as error:
            return self.end(record, "failed", error.reason, str(error))
        timing = self.context.media.timing(self.fingerprint, record["video_id"])
        write_timing(self.context.media.path(timing), pts)
        rows = [self._row(record, pts, shot) for shot in found]
        return rows or self.end(record, "filtered", "no_shots", "all of it is black or in transit")

    def _decode(self, record: Record, proxy: Path | None, share: float) -> "Decoded":
        """Decode every picture once; with a proxy, write all of them into it."""
        width, height = PROXY_SIZE
        scaled = f"{_TELL},scale={width}:{height}:flags=area"
        out = ["-vf", _TELL, "-fps_mode", "passthrough", "-f", "null", "-"]
        if proxy is not None:
            out = ["-vf", scaled, *_PROXY, str(proxy)]
        limits = decoding_limits(record, self.config.timeout, self.config.memory)
        command = [*decoder(record), *out]
        with Child(command, limits.part(share), count=b"corrupt decoded frame") as child:
            text = b"".join(child.chunks())
            ended = child.finish()
        if ended.trouble:
            raise ChildTrouble(ended.trouble, ended.describe())
        if "No space left" in ended.stderr:
            why = f"no room for the proxy of {record['uri']}: {ended.describe()}"
            raise OSError(errno.ENOSPC, why)
        return Decoded(_times(text), ended)

    def _check(self, record: Record, decoded: "Decoded") -> Ticks:
        """The timing table of a film that is whole."""
        times, expected = decoded.times, record["packets"]
        if not times:
            how = decoded.ended.describe()
            raise Unfit("no_frames", f"none of {expected} packets decodes; {how}")
        known = [time for time in times if time is not None and is_sane(time)]
        pts = np.array(known, np.int64)
        backward = int((np.diff(pts) <= 0).sum()) + len(times) - len(known)
        if backward:
            order = f"{backward} of {len(times)} pictures do not follow in time"
            raise Unfit("timestamps", order)
        missing, damaged = max(0, expected - len(times)), decoded.ended.counted
        # One picture may always be: packers of old films hide one, and a cut may cost the last.
        if missing + damaged > max(1, self.config.max_lost * expected):
            lost = f"of {expected} pictures {missing} are missing, {damaged} damaged"
            raise Unfit("corrupt", lost)
        if decoded.ended.code:
            raise Unfit("corrupt", decoded.ended.describe())
        return pts

    def _found(self, record: Record, path: Path) -> list["Shot"]:
        proxy = DecordProxy(path)
        detectors = [d for d in self.config.detectors if not isinstance(d, Given)]
        boundaries = find_boundaries(
            proxy, record["fps"], detectors, self.config.cuts, self.config.blends
        )
        return [
            Shot(start, end, *_opening(boundaries, start))
            for start, end in shots_between(boundaries, len(proxy))
        ]

    def _given(self, record: Record, pts: Ticks) -> list["Shot"]:
        if record["timeline"] is None:
            raise Unfit("timeline", "the recipe takes shots from timelines; this film has none")
        try:
            spans = read_timeline(Path(record["timeline"])).shots
        except UserError as error:
            raise Unfit("timeline", str(error)) from error
        tick = Fraction(*record["time_base"])
        film_end = float(_end(record, pts) * tick) + 1 / max(record["fps"], 1.0)
        shots: list[Shot] = []
        for span in spans:
            start, end = (first_from(pts, record["time_base"], t) for t in (span.start, span.end))
            what = f"shot {span.start}-{span.end} s"
            if start >= end or span.end > film_end:
                raise Unfit(
                    "timeline", f"{what} is not in the film, which ends at {film_end:.3f} s"
                )
            if shots and start < shots[-1].end:
                raise Unfit("timeline", f"{what} overlaps the shot before it")
            shots.append(Shot(start, end, "given", 0.0))
        return shots

    def _row(self, record: Record, pts: Ticks, shot: "Shot") -> Row:
        tick = Fraction(*record["time_base"])
        start = int(pts[shot.start])
        end = int(pts[shot.end]) if shot.end < len(pts) else _end(record, pts)
        columns = {
            "start_frame": shot.start,
            "end_frame": shot.end,
            "start_pts": start,
            "end_pts": end,
            "start": float(start * tick),
            "end": float(end * tick),
            "opened_by": shot.opened_by,
            "opened_score": shot.score,
        }
        video = record["video_id"]
        return Row("shot", video, shot_id(video, start, end), columns=columns)


@dataclass(frozen=True)
class Decoded:
    """What the child said of every picture; None for a picture without a timestamp."""

    times: list[int | None]
    ended: Ended


@dataclass(frozen=True)
class Shot:
    """Decoded pictures ``[start, end)``, and the boundary before them."""

    start: int
    end: int
    opened_by: str
    score: float


class DecordProxy:
    """The proxy as `stages.boundaries` reads it: our own clean film, so decord is exact."""

    def __init__(self, path: Path) -> None:
        self._reader = decord.VideoReader(str(path), num_threads=1)

    def __len__(self) -> int:
        return len(self._reader)

    def at(self, indices: Sequence[int]) -> Frames:
        return self._reader.get_batch(list(indices)).asnumpy()


def _times(text: bytes) -> list[int | None]:
    """Timestamps from the lines ``frame:12 pts:345 pts_time:...`` that ffmpeg's metadata prints."""
    fields = (line.split() for line in text.splitlines() if line.startswith(b"frame:"))
    values = [words[1].removeprefix(b"pts:") for words in fields]
    return [None if value == b"NOPTS" else int(value) for value in values]


def _end(record: Record, pts: Ticks) -> int:
    """Tick at which the last picture ends; a usual picture's length where the packets say less."""
    last = int(pts[-1])
    usual = int(np.median(np.diff(pts))) if len(pts) > 1 else 1
    return record["end_pts"] if record["end_pts"] > last else last + usual


def _opening(boundaries: Sequence[Boundary], frame: int) -> tuple[str, float]:
    """Kind and score of the boundary at which a shot begins."""
    before = [boundary for boundary in boundaries if boundary.end == frame]
    return (before[-1].kind, before[-1].score) if before else ("start", 0.0)
