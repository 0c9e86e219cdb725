"""Say what a film file holds, as one JSON object on stdout; the child process of `stages.probe`.

It reads every packet and decodes nothing but the first picture, so its time grows with the file's
size and never with what the header claims. It imports nothing of ours and runs by path.

Usage: probe_child.py FILE DEMUXERS, where DEMUXERS is libav's ``format_whitelist``.
"""

import contextlib
import errno
import io
import json
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

ATTACHED_PICTURE = 0x400
TRIES_FOR_A_PICTURE = 100
SIGN_OF_LIFE = 1.0  # seconds of reading between two of them


def describe(path: str, demuxers: str) -> dict[str, Any]:
    """Facts about the first video stream that is a film and not a cover picture.

    Returns:
        ``{"error": ...}`` when the file is no media file, ``{"streams": 0}`` when it has no film,
        ``{"codec": None}`` when nothing decodes it, else times in ticks of ``time_base`` and
        counts of packets; see `stages.probe`.
    """
    # Opened by us, so that the name of a file can never mean a protocol or a pattern.
    with Bytes(io.FileIO(path)) as file:
        options = {"format_whitelist": demuxers}
        try:
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except av.FFmpegError as error:
            return {"error": str(error.strerror)}
        with container:
            films = [s for s in container.streams.video if not s.disposition & ATTACHED_PICTURE]
            if not films:
                return {"streams": 0, "container": container.format.name}
            if films[0].codec_context is None:  # libav knows no decoder for what the header says
                return {"streams": len(films), "container": container.format.name, "codec": None}
            film = Film(films[0])
            film.read(container)
            return {"streams": len(films), **film.facts(container)}


class Bytes(io.BufferedReader):
    """A file as libav reads it: a broken header may send it to a place that no file has."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the disk, and no fault of the film
                raise
            return -errno.EINVAL  # as libav tells errors


@dataclass
class Film:
    """What the packets of one stream say.

    Attributes:
        packets: all packets of the stream.
        times: presentation times of the packets that must become pictures.
        last: time and duration of the one shown last.
        media_end: seconds at which the last packet of any stream ends.
        rotation: degrees, as the decoder reports them; may be any nonsense.
    """

    stream: VideoStream
    packets: int = 0
    first_key: int | None = None
    times: list[int] = field(default_factory=list)
    last: tuple[int, int] | None = None
    media_end: float = 0.0
    rotation: int | None = None

    def read(self, container: InputContainer) -> None:
        """Take all packets; where the file breaks off, what came before counts."""
        self.stream.thread_type = "NONE"
        told = time.monotonic()
        # PyAV, having given all packets, stumbles over streams that were not there at first.
        with contextlib.suppress(av.FFmpegError, IndexError):
            for packet in container.demux():
                if packet.size:
                    self._take(packet)
                if time.monotonic() - told > SIGN_OF_LIFE:
                    print(flush=True)  # an empty line before the JSON
                    told = time.monotonic()

    def _take(self, packet: "av.Packet[Any]") -> None:
        # AVI has no presentation times: its decoding times are all there is.
        shown = packet.pts if packet.pts is not None else packet.dts
        length = packet.duration or 0
        if shown is not None and packet.time_base:
            self.media_end = max(self.media_end, float((shown + length) * packet.time_base))
        if packet.stream is not self.stream:
            return
        self.packets += 1
        if self.rotation is None and self.packets <= TRIES_FOR_A_PICTURE:
            self.rotation = _rotation(packet)
        if self.first_key is None and packet.is_keyframe:
            self.first_key = shown
        # No decoder shows what lies before the first key frame or outside an edit list.
        led = shown is not None and self.first_key is not None and shown >= self.first_key
        if shown is None or not led or packet.is_discard or self._hidden(packet):
            return
        self.times.append(shown)
        if self.last is None or shown >= self.last[0]:
            self.last = (shown, length)

    def _hidden(self, packet: "av.Packet[Any]") -> bool:
        """Whether a packet only prepares later pictures; VP8's first byte says so in bit 4."""
        head = bytes(memoryview(packet)[:1])
        return self.stream.codec_context.name.endswith("vp8") and not head[0] & 0x10

    def facts(self, container: InputContainer) -> dict[str, Any]:
        codec = self.stream.codec_context
        times = sorted(self.times)
        gaps = sorted(b - a for a, b in pairwise(times))
        return {
            "stream": self.stream.index,
            "container": container.format.name,
            "codec": codec.codec.canonical_name,
            "coded": [codec.width, codec.height],
            "pixel_aspect": _ratio(self.stream.sample_aspect_ratio or codec.sample_aspect_ratio),
            "rotation": self.rotation or 0,
            "time_base": _ratio(self.stream.time_base),
            "transfer": int(codec.color_trc),
            "matrix": int(codec.colorspace),
            "claimed_frames": self.stream.frames,
            "claimed_duration": container.duration / av.time_base if container.duration else None,
            "packets": self.packets,
            "pictures": len(times),
            "first": times[0] if times else None,
            "last": self.last,
            "gaps": [gaps[0], gaps[len(gaps) // 2], gaps[-1]] if gaps else None,
            "media_end": self.media_end,
        }


def _rotation(packet: "av.Packet[Any]") -> int | None:
    """Rotation that the first picture asks for; a damaged packet only postpones the answer."""
    try:
        frames = packet.decode()
    except av.FFmpegError:
        return None
    return frames[0].rotation if frames else None


def _ratio(value: Any) -> list[int] | None:
    return [value.numerator, value.denominator] if value else None


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1], sys.argv[2])))
