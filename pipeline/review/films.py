"""Clips as files that a browser can play.

Most are played as they are. Browsers do not decode lossless RGB: of such clips (worlds, mostly
tiny) a copy is made when it is first asked for, in ordinary colours and with every pixel made
larger.
"""

import threading
from pathlib import Path

import numpy as np

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from corpus.video import Encoding, read_video, write_video
from pipeline.review.sample import Clip

SHORT_SIDE = 256  # pixels of a copy, at least


class Films:
    """Playable files; safe to use from several threads.

    Args:
        copies: a folder for copies, which may grow by the clips looked at.
    """

    def __init__(self, media: Media, clock: Clock, encoding: Encoding, copies: Path) -> None:
        self._media, self._clock = media, clock
        self._encoding, self._copies = encoding, copies
        self._turn = threading.Lock()

    def path(self, clip: Clip) -> Path:
        """A file to send; UserError where the clip's own is missing or damaged."""
        path = self._media.path(clip.media)
        if not path.is_file():
            raise UserError(f"{path} is missing: `tv2tv run` makes it again")
        if self._encoding != "rgb_lossless":
            return path
        copy = self._copies / f"{clip.clip_id}.mp4"
        with self._turn:
            if not copy.is_file():
                self._copy(path, copy, clip)
        return copy

    def _copy(self, path: Path, copy: Path, clip: Clip) -> None:
        count = round(clip.seconds * self._clock.fps)
        frames = read_video(path, range(count))
        times = max(2, -(-SHORT_SIDE // min(clip.width, clip.height)))  # even, as yuv420p needs it
        times += times % 2
        larger = (np.repeat(np.repeat(frame, times, 0), times, 1) for frame in frames)
        write_video(copy, larger, self._clock.fps)
