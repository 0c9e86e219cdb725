"""Stage shots: where the shots of a film lie, to the picture.

One child decodes the film once and pipes every picture, made small; its timestamps become the
film's timing table. `cutting.boundaries` looks at the pictures while they pass by. What has fewer
pictures than packets, or timestamps that do not increase, is refused here. With the detector
``given`` the shots come from the film's timeline instead, exact in time, and no picture is looked
at.

Reasons, all of the whole film:
    failed: ``no_frames``, ``corrupt``, ``timestamps``, ``timeline``; filtered: ``no_shots``;
    quarantined: ``crash``, ``timeout``, ``memory``.
"""

import errno
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa
import scenedetect
from pydantic import Field, model_validator

from corpus.errors import UserError
from corpus.ids import shot_id
from corpus.rows import Row
from corpus.timeline import read_timeline
from corpus.video import ffmpeg_build
from stages.cutting.blends import BlendTest
from stages.cutting.boundaries import (
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
from stages.libraries import versions
from stages.reading.child import Child, ChildTrouble, Ended, twice
from stages.reading.damage import TELLING, TELLING_LEVEL, Damage, outside
from stages.reading.foreign import Unfit, decoder, decoding_limits
from stages.reading.media_time import Ticks, first_from, is_sane, write_timing
from stages.reading.pictures import FLOW_SIZE, Frames
from stages.reading.reels import Reel
from stages.stage import Record, Resources, StageConfig, VideoStage, children

# One line per picture, its timestamp in the stream's own ticks.
_TIMES = [
    *("-fps_mode", "passthrough", "-enc_time_base", "demux"),
    *("-stats_enc_pre_fmt", "{pts}", "-stats_enc_pre"),
]
_AT_ONCE = 32  # pictures that are read together
_SMALL = f"scale={FLOW_SIZE[0]}:{FLOW_SIZE[1]}:flags=area"
_PICTURES = ["-vf", _SMALL, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]


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
    version = "3"
    level = "shot"
    reads = ("video_id", "stream", "packets", "fps", "time_base", "end_pts")
    aids = (*VideoStage.aids, "timeline", "width", "height", "transfer", "matrix")
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
            pa.field("opened_by", pa.string()),  # start, cut, gradual, black, given, damage
            pa.field("opened_score", pa.float64()),  # of the boundary before it
            pa.field("decoded", pa.int64()),  # pictures of the whole film
            pa.field("damaged", pa.int64()),  # of those, cut away as damaged or built on damage
        ]
    )

    # Set by the stage that makes clips: what it would have of a film.
    ahead: Callable[[Record], Reel] | None = None

    @property
    def resources(self) -> Resources:
        return Resources(cpus=1.0, batch=1)

    def identity(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"timeout", "memory"})
        found = {**config, "ffmpeg": ffmpeg_build(), "decoding": _TIMES}
        if self.config.given:
            return found
        return {**found, "pictures": _PICTURES, **versions(cv2, scenedetect)}

    def content(self, record: Record) -> Record:
        """A timeline is content only where it is read."""
        read = super().content(record)
        if self.config.given:
            read["timeline_sha256"] = record["timeline_sha256"]
        return read

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [self._answer(record) for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        timing = self.context.media.timing(self.fingerprint, record["video_id"])
        return [{**film, "timing": timing} for film in children(record, rows, "shots", "shot_id")]

    def _answer(self, record: Record) -> list[Row]:
        rows = self._shots(record)
        if self.ahead is not None and not any(row.outcome == "ok" for row in rows):
            self.ahead(record).drop()  # nobody comes for it
        return rows

    def _shots(self, record: Record) -> list[Row]:
        try:
            decoded = twice(lambda share: self._whole(record, share))
            pts = self._check(record, decoded)
            found = self._given(record, pts) if self.config.given else _between(decoded, len(pts))
            spoilt = decoded.damage.ranges(pts)
            whole = _undamaged(found, spoilt)
        except ChildTrouble as error:
            return self.end(record, "quarantined", error.reason, str(error))
        except Unfit as error:
            return self.end(record, "failed", error.reason, str(error))
        timing = self.context.media.timing(self.fingerprint, record["video_id"])
        with self.context.media.writing(timing) as temporary:
            write_timing(temporary, pts)
        damaged = sum(b - a for a, b in spoilt)
        counts = {"decoded": len(pts), "damaged": damaged}
        rows = [self._row(record, pts, shot, counts) for shot in whole]
        if found and not rows:
            lost = f"{damaged} of {len(pts)} pictures are damaged or built on damage"
            return self.end(record, "failed", "corrupt", f"{lost}: no shot is left")
        return rows or self.end(record, "filtered", "no_shots", "all of it is black or in transit")

    def _whole(self, record: Record, share: float) -> "Decoded":
        """Decode the film; once more where something is damaged, to know what."""
        decoded = self._reeled(record, share)
        return self._decode(record, share, telling=True) if decoded.damage.heard else decoded

    def _reeled(self, record: Record, share: float) -> "Decoded":
        """Decode the film, and leave a reel for its clips where there is room for one."""
        reel = None if self.ahead is None else self.ahead(record)
        if reel is None or not reel.has_room(record["packets"]):
            return self._decode(record, share)
        try:
            decoded = self._decode(record, share, reel.output(record["stream"]))
        except BaseException:
            reel.drop()
            raise
        if decoded.ended.code:  # by the film or by the reel: the film alone will tell
            reel.drop()
            return self._decode(record, share)
        reel.keep()
        return decoded

    def _decode(
        self, record: Record, share: float, more: Sequence[str] = (), telling: bool = False
    ) -> "Decoded":
        """Decode every picture once, and look at it unless the shots are given.

        Args:
            more: a further output of the child.
            telling: the child says where the film is damaged, which costs a fifth more.
        """
        limits = decoding_limits(record, self.config.timeout, self.config.memory)
        boundaries: list[Boundary] = []
        with tempfile.NamedTemporaryFile(prefix="tv2tv-") as times:
            out = [f"file:{times.name}", *_PICTURES]
            if self.config.given:
                out = ["pipe:1", "-f", "null", "-"]
            damage = Damage()
            start = [*decoder(record, TELLING_LEVEL), *TELLING] if telling else decoder(record)
            command = [*start, *_TIMES, *out, *more]
            with Child(command, limits.part(share), damage) as child:
                if self.config.given:
                    times.writelines(child.chunks())
                    times.seek(0)
                else:
                    boundaries = self._boundaries(record, child)
                ended = child.finish()
            text = times.read()
        if ended.trouble:
            raise ChildTrouble(ended.trouble, ended.describe())
        if "No space left" in ended.stderr:
            why = f"no room for the timestamps of {record['uri']}: {ended.describe()}"
            raise OSError(errno.ENOSPC, why)
        return Decoded([int(line) for line in text.split()], ended, boundaries, damage)

    def _boundaries(self, record: Record, child: Child) -> list[Boundary]:
        detectors = [d for d in self.config.detectors if not isinstance(d, Given)]
        return find_boundaries(
            _pictures(child), record["fps"], detectors, self.config.cuts, self.config.blends
        )

    def _check(self, record: Record, decoded: "Decoded") -> Ticks:
        """The timing table of a film that is whole."""
        times, expected = decoded.times, record["packets"]
        if not times:
            how = decoded.ended.describe()
            raise Unfit("no_frames", f"none of {expected} packets decodes; {how}")
        known = [time for time in times if is_sane(time)]
        pts = np.array(known, np.int64)
        backward = int((np.diff(pts) <= 0).sum()) + len(times) - len(known)
        if backward:
            order = f"{backward} of {len(times)} pictures do not follow in time"
            raise Unfit("timestamps", order)
        missing, damaged = max(0, expected - len(times)), decoded.damage.corrupt
        # One picture may always be: packers of old films hide one, and a cut may cost the last.
        if missing + damaged > max(1, self.config.max_lost * expected):
            lost = f"of {expected} pictures {missing} are missing, {damaged} damaged"
            raise Unfit("corrupt", lost)
        if decoded.ended.code:
            raise Unfit("corrupt", decoded.ended.describe())
        return pts

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

    def _row(self, record: Record, pts: Ticks, shot: "Shot", counts: dict[str, int]) -> Row:
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
            **counts,
        }
        video = record["video_id"]
        return Row("shot", video, shot_id(video, start, end), columns=columns)


@dataclass(frozen=True)
class Decoded:
    """Every picture's tick, how the child ended, what was seen and what was damaged."""

    times: list[int]
    ended: Ended
    boundaries: list[Boundary]
    damage: Damage


@dataclass(frozen=True)
class Shot:
    """Decoded pictures ``[start, end)``, and the boundary before them."""

    start: int
    end: int
    opened_by: str
    score: float


def _pictures(child: Child) -> Iterator[Frames]:
    """Small BGR pictures as the child makes them."""
    width, height = FLOW_SIZE
    size = width * height * 3
    filled = whole = size * _AT_ONCE
    while filled == whole:
        pictures = np.empty((_AT_ONCE, height, width, 3), np.uint8)
        filled = child.read_into(pictures.reshape(-1).data)
        yield from pictures[: filled // size]


def _between(decoded: Decoded, pictures: int) -> list[Shot]:
    return [
        Shot(start, end, *_opening(decoded.boundaries, start))
        for start, end in shots_between(decoded.boundaries, pictures)
    ]


def _undamaged(shots: Sequence[Shot], spoilt: Sequence[tuple[int, int]]) -> list[Shot]:
    """What is left of shots where nothing is damaged; one may fall into several."""
    return [
        replace(shot, end=end) if start == shot.start else Shot(start, end, "damage", 0.0)
        for shot in shots
        for start, end in outside(shot.start, shot.end, spoilt)
    ]


def _end(record: Record, pts: Ticks) -> int:
    """Tick at which the last picture ends; a usual picture's length where the packets say less."""
    last = int(pts[-1])
    usual = int(np.median(np.diff(pts))) if len(pts) > 1 else 1
    return record["end_pts"] if record["end_pts"] > last else last + usual


def _opening(boundaries: Sequence[Boundary], frame: int) -> tuple[str, float]:
    """Kind and score of the boundary at which a shot begins."""
    before = [boundary for boundary in boundaries if boundary.end == frame]
    return (before[-1].kind, before[-1].score) if before else ("start", 0.0)
