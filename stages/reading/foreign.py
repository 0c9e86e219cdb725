"""How a foreign film is opened: by children only, as a plain file, with time to spare but not much.

A film that hangs is killed within a minute, however long it says it is: what counts is the time
without a new picture. The time for all of it grows with its packets, since slow is no fault.

`stages.probe` looks at packets, `stages.shots` and `stages.clips` decode. All three see the stream
that the probe chose: the first video stream that is no cover picture.
"""

from pathlib import Path
from typing import Any

from corpus.video import ffmpeg
from stages.reading.child import Limits

# Containers of films. Left out on purpose: playlists and concat scripts (they open other files),
# picture sequences (they read patterns into names) and text renderers (any letter is a film).
DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,ivf,nut,mxf,yuv4mpegpipe,gif"

SECONDS_PER_PICTURE = 0.25  # slowest decoding that we wait for: 4K AV1 on one old core is faster
BYTES_PER_SECOND = 10e6  # slowest disk that we wait for


class Unfit(Exception):
    """A film that does not go on, by its own fault: the reason in one word, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decoder(record: dict[str, Any], level: str = "repeat+warning") -> list[str]:
    """Begin of an ffmpeg command that decodes a record's film upright, on one thread.

    Damaged films decode the same way each time only on one thread. ``-copyts`` keeps the
    timestamps of the file; a crop that only the container knows is not the probe's size. A name is
    never read as an option, a protocol or a pattern.

    Args:
        level: what ffmpeg says on stderr.
    """
    path = Path(record["path"]).absolute()
    return [
        *(str(ffmpeg()), "-nostdin", "-hide_banner", "-loglevel", level, "-y"),
        *("-threads", "1", "-filter_threads", "1", "-apply_cropping", "codec"),
        *("-protocol_whitelist", "file", "-format_whitelist", DEMUXERS),
        *("-copyts", "-i", f"file:{path}", "-map", f"0:{record['stream']}"),
    ]


def decoding_limits(record: dict[str, Any], timeout: float, memory: int) -> Limits:
    """Limits of a child that decodes a record's film once.

    Args:
        timeout: seconds that it may be without a new picture; for the whole film each packet in
            the file adds a little.
        memory: bytes of address space.
    """
    return Limits(timeout + SECONDS_PER_PICTURE * record["packets"], memory, stall=timeout)


def reading_limits(size: int, timeout: float, memory: int) -> Limits:
    """Limits of a child that reads a file of ``size`` bytes without decoding it.

    Args:
        timeout: seconds that it may be without a new packet.
    """
    return Limits(timeout + size / BYTES_PER_SECOND, memory, stall=timeout)
