"""A few pictures of foreign films, decoded by children that can be killed.

What they decode reaches us as pixels of a size that we chose: not one byte of the film's own is
parsed here.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corpus.video import Frames
from stages.child import ChildTrouble, Limits, run
from stages.foreign import decoder

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
            picture = _picture(path, stream, moment, min(left, SECONDS))
            if picture is None:
                break
            found.append(picture)
        return found


def _picture(path: str, stream: int, moment: float, seconds: float) -> Frames | None:
    command = decoder({"path": path, "stream": stream})
    at = command.index("-i")
    seek = ["-seek_timestamp", "1", "-ss", f"{moment:.3f}"] if moment > 0 else []
    fit = f"{WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease"
    chain = f"scale={fit},pad={WIDTH}:{HEIGHT}:(ow-iw)/2:(oh-ih)/2,format=rgb24"
    out = ["-vf", chain, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    size = WIDTH * HEIGHT * 3
    try:
        _, pixels = run([*command[:at], *seek, *command[at:], *out], Limits(seconds, MEMORY), size)
    except (ChildTrouble, OSError):
        return None  # a picture less in a report
    if len(pixels) != size:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)
