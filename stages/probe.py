"""Stage probe: what is in a film file, and whether it is worth decoding.

A child process (`reading.probe_child`) reads all packets of the file and tells; nothing here trusts
a claim of the header. Of several video streams the **first** that is no cover picture counts.

Reasons:
    failed: ``not_media``, ``no_video``, ``no_decoder``, ``no_frames``, ``truncated``,
        ``timestamps``;
    filtered: ``too_short``, ``too_small``;
    quarantined: ``crash``, ``timeout``, ``memory``.
"""

import json
import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import pyarrow as pa
from pydantic import Field

from corpus.rows import Row
from stages.libraries import versions
from stages.reading.child import ChildTrouble, run, twice
from stages.reading.foreign import DEMUXERS, Unfit, reading_limits
from stages.reading.media_time import is_sane
from stages.stage import Record, Resources, StageConfig, VideoStage, merged

CHILD = Path(__file__).parent / "reading" / "probe_child.py"
HEADER_COUNTS_FRAMES = ("mov", "avi")
HEADER_KNOWS_DURATION = ("matroska",)
SANE_PIXEL_ASPECT = (Fraction(1, 8), Fraction(8))
HD_HEIGHT = 720  # players read untagged films of at least this height as BT.709

# Code points of ITU-T H.273, as libav reports them.
TRANSFERS = {16: "pq", 18: "hlg"}
MATRICES = {0: "rgb", 1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}


class ProbeConfig(StageConfig):
    """What a film must be.

    Attributes:
        min_seconds: least real duration.
        min_size: least number of pixels of the shorter side, as displayed.
        max_gap: seconds that one picture may stay; more is taken for broken timestamps.
        max_missing: part of the frames that the header promises which may be missing.
        timeout, memory: limits of the child: seconds without a new packet, and bytes. After a
            hang there is a second try, with half the seconds.
    """

    min_seconds: float = Field(default=1.0, ge=0)
    min_size: int = Field(default=64, ge=1)
    max_gap: float = Field(default=60.0, gt=0)
    max_missing: float = Field(default=0.01, ge=0, lt=1)
    timeout: float = Field(default=36.0, gt=0)
    memory: int = Field(default=4 << 30, gt=0)


class ProbeStage(VideoStage[ProbeConfig]):
    """One video file in, the facts about it out."""

    name = "probe"
    version = "1"
    level = "video"
    reads = ("video_id",)
    Config = ProbeConfig
    writes: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("stream", pa.int32()),  # index in the file
            pa.field("container", pa.string()),
            pa.field("codec", pa.string()),
            pa.field("width", pa.int32()),  # as displayed: after pixel aspect and rotation
            pa.field("height", pa.int32()),
            pa.field("rotation", pa.int32()),  # clockwise degrees that put it upright, 0..359
            pa.field("fps", pa.float64()),  # from presentation times
            pa.field("vfr", pa.bool_()),
            pa.field("duration", pa.float64()),  # seconds, from presentation times
            pa.field("packets", pa.int64()),  # those that must become pictures
            pa.field("time_base", pa.list_(pa.int64(), 2)),  # seconds per tick, a fraction
            pa.field("end_pts", pa.int64()),  # tick at which the last picture ends
            pa.field("transfer", pa.string()),  # sdr, pq, hlg
            pa.field("matrix", pa.string()),  # rgb, bt601, bt709, bt2020
            pa.field("claimed_duration", pa.float64()),
            pa.field("claimed_frames", pa.int64()),
        ]
    )

    @property
    def resources(self) -> Resources:
        return Resources(cpus=1.0, batch=4)

    def identity(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"timeout", "memory"})
        return {**config, **versions(av), "libav": av.library_versions}

    def process(self, records: Sequence[Record]) -> list[list[Row]]:
        return [[self._probe(record)] for record in records]

    def advance(self, record: Record, rows: Sequence[Row]) -> list[Record]:
        return merged(record, rows)

    def _probe(self, record: Record) -> Row:
        video = record["video_id"]
        try:
            columns = self._columns(self._facts(record))
        except ChildTrouble as error:
            return Row("video", None, video, "quarantined", error.reason, str(error))
        except Unfit as error:
            return Row("video", None, video, "failed", error.reason, str(error))
        short, small = columns["duration"], min(columns["width"], columns["height"])
        if short < self.config.min_seconds:
            message = f"{short:.3f} s, at least {self.config.min_seconds} s wanted"
            return Row("video", None, video, "filtered", "too_short", message, short, columns)
        if small < self.config.min_size:
            message = f"shorter side {small} pixels, at least {self.config.min_size} wanted"
            return Row("video", None, video, "filtered", "too_small", message, small, columns)
        return Row("video", None, video, columns=columns)

    def _facts(self, record: Record) -> dict[str, Any]:
        path = Path(record["path"]).absolute()
        with path.open("rb") as file:  # a file that cannot be opened is no fault of its bytes
            size = os.fstat(file.fileno()).st_size
        if not size:
            raise Unfit("not_media", "the file is empty")
        limits = reading_limits(size, self.config.timeout, self.config.memory)
        command = [sys.executable, "-I", str(CHILD), str(path), DEMUXERS]

        def attempt(share: float) -> dict[str, Any]:
            ended, output = run(command, limits.part(share))
            if ended.trouble or ended.code:
                raise ChildTrouble(ended.trouble or "crash", ended.describe())
            return json.loads(output)

        return twice(attempt)

    def _columns(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Columns from what the child told, in ticks until the last line."""
        _refuse_no_film(facts)
        self._refuse_broken_promise(facts)
        if facts["time_base"] is None or facts["last"] is None:
            raise Unfit("timestamps", f"{facts['packets']} packets without a time or a key frame")
        tick = Fraction(*facts["time_base"])
        first, (last, length) = facts["first"], facts["last"]
        if not (is_sane(first) and is_sane(last)):
            raise Unfit("timestamps", f"pictures at ticks {first} to {last}")
        least, usual, most = facts["gaps"] or (length, length, length)
        # A last picture that claims to stay for hours is believed as little as any other.
        end = last + min(length or usual, max(1, int(Fraction(self.config.max_gap) / tick)))
        if facts["pictures"] > 1 and first == last:
            raise Unfit("timestamps", f"all {facts['pictures']} pictures at the same time")
        if most * tick > self.config.max_gap:
            raise Unfit("timestamps", f"one picture stays {float(most * tick):.1f} s")
        rotation = facts["rotation"] if abs(facts["rotation"]) <= 360 else 0
        width, height = _display(facts["coded"], facts["pixel_aspect"], rotation)
        return {
            **{name: facts[name] for name in ("stream", "container", "codec", "time_base")},
            "width": width,
            "height": height,
            "rotation": -rotation % 360,
            "fps": float((facts["pictures"] - 1) / ((last - first) * tick))
            if last > first
            else 0.0,
            "vfr": most - least > max(2, usual // 10),
            "duration": float((end - first) * tick),
            "packets": facts["pictures"],
            "end_pts": end,
            "transfer": TRANSFERS.get(facts["transfer"], "sdr"),
            "matrix": MATRICES.get(facts["matrix"], "bt709" if height >= HD_HEIGHT else "bt601"),
            "claimed_duration": facts["claimed_duration"],
            "claimed_frames": facts["claimed_frames"] or None,
        }

    def _refuse_broken_promise(self, facts: dict[str, Any]) -> None:
        """Files that end before their header says so: an interrupted download, a cut copy."""
        claimed, there = facts["claimed_frames"], facts["packets"]
        if _among(facts, HEADER_COUNTS_FRAMES) and there < claimed * (1 - self.config.max_missing):
            raise Unfit(
                "truncated", f"the header declares {claimed} frames, the file holds {there}"
            )
        seconds, end = facts["claimed_duration"] or 0.0, facts["media_end"]
        if _among(facts, HEADER_KNOWS_DURATION) and end < 0.95 * seconds - 1.0:
            raise Unfit(
                "truncated", f"the header declares {seconds:.2f} s, the file ends at {end:.2f}"
            )


def _among(facts: dict[str, Any], containers: tuple[str, ...]) -> bool:
    return any(name in containers for name in facts["container"].split(","))


def _refuse_no_film(facts: dict[str, Any]) -> None:
    if "error" in facts:
        raise Unfit("not_media", f"libav finds no film container: {facts['error']}")
    if not facts["streams"]:
        raise Unfit("no_video", f"a {facts['container']} file without a video stream")
    if facts["codec"] is None:
        raise Unfit("no_decoder", f"a {facts['container']} file of a codec that nothing decodes")
    if not facts["packets"]:
        raise Unfit("no_frames", f"an empty {facts['codec']} stream")


def _display(coded: list[int], pixel_aspect: list[int] | None, rotation: int) -> tuple[int, int]:
    """Size in square pixels, upright; an absurd pixel aspect is no aspect."""
    width, height = coded
    if width < 1 or height < 1:
        raise Unfit("no_frames", f"pictures of {width}x{height} pixels")
    aspect = Fraction(*pixel_aspect) if pixel_aspect else Fraction(1)
    if SANE_PIXEL_ASPECT[0] <= aspect <= SANE_PIXEL_ASPECT[1]:
        width = max(1, round(width * aspect))
    lies_on_its_side = abs(rotation % 180 - 90) <= 1
    return (height, width) if lies_on_its_side else (width, height)
