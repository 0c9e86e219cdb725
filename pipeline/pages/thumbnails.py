"""A few pictures of foreign films, decoded by children that can be killed.

What they decode reaches us as pixels of a size that we chose: not one byte of the film's own is
parsed here.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corpus.video import Frames
from stages.reading.child import ChildTrouble, Limits, run
from stages.reading.foreign import decoder

WIDTH, HEIGHT = 224, 126
SECONDS = 10.0  # for one picture
MEMORY = 4 << 30


class Thumbnails:
    """Takes pictures until its time is over.

    Args:
        seconds: for all pictures together: a report is not worth hours.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._end = time.monotonic() + seconds

    def at(self, path: str, stream: int, moments: Sequence[float]) -> list[Frames]:
        """Pictures uint8 (126, 224, 3) at presentation times in seconds; those that there are."""
        found = []
        for moment in moments:
            left = self._end - time.monotonic()
            if left <= 0 or not Path(path).is_file():
                break
            pictures = decode(path, stream, moment, min(left, SECONDS))
            if not pictures:
                break
            found += pictures
        return found


def decode(
    path: str, stream: int, moment: float, seconds: float, count: int = 1, fps: float | None = None
) -> list[Frames]:
    """Pictures uint8 (126, 224, 3) of a film from a presentation time on; none if it gives fewer.

    Args:
        seconds: of work, after which it is given up.
        count: how many.
        fps: how many of each second; by default those that follow each other.
    """
    command = decoder({"path": path, "stream": stream})
    at = command.index("-i")
    seek = ["-seek_timestamp", "1", "-ss", f"{moment:.3f}"] if moment > 0 else []
    fit = f"{WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease"
    chain = f"scale={fit},pad={WIDTH}:{HEIGHT}:(ow-iw)/2:(oh-ih)/2,format=rgb24"
    chain = chain if fps is None else f"fps={fps}:start_time={moment:.3f},{chain}"
    out = ["-vf", chain, "-frames:v", str(count), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    size = WIDTH * HEIGHT * 3 * count
    try:
        _, pixels = run([*command[:at], *seek, *command[at:], *out], Limits(seconds, MEMORY), size)
    except (ChildTrouble, OSError):
        return []  # pictures are a help, not a result
    if len(pixels) != size:
        return []
    return list(np.frombuffer(pixels, np.uint8).reshape(count, HEIGHT, WIDTH, 3))
