"""Reels: a film's pictures as its clips want them, kept from one decoding for the next stage.

Stage shots decodes every film, and stage clips would decode it again. Where there is room, the
child of the first also writes all pictures, sized and coloured for clips, to a file in the folder
for temporary files; a clips stage on the same machine reads them there and removes the file. A reel
is never needed: without one the film is decoded again, and its clips are the same, to the byte.
"""

import atexit
import contextlib
import hashlib
import math
import os
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.reading.pictures import Frames

MOST_BYTES = 4 << 30  # of all reels on a machine; 448x256 at 30 pictures a second: 13 minutes
MOST_OF_DISK = 0.25  # part of what is free
KEPT = 3600.0  # seconds after which nobody will come for a reel


@dataclass(frozen=True)
class Reel:
    """Every picture of one film through one filter chain, raw.

    Attributes:
        name: of the file; says which film and which chain.
        chain: ffmpeg's filters.
        pixels, shape: pixel format and uint8 shape of a picture.
    """

    name: str
    chain: str
    pixels: str
    shape: tuple[int, ...]

    _made: ClassVar[set[Path]] = set()

    @classmethod
    def of(cls, video_id: str, chain: str, pixels: str, shape: tuple[int, ...]) -> "Reel":
        how = hashlib.sha256(f"{video_id} {chain} {pixels}".encode()).hexdigest()
        return cls(f"{how[:32]}.reel", chain, pixels, shape)

    # -- by the stage that makes it -----------------------------------------------------------

    def has_room(self, pictures: int) -> bool:
        """Whether a reel of so many pictures may be made now; old ones are swept away."""
        folder = _folder()
        if folder is None:
            return False
        taken = 0
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                if time.time() - state.st_mtime > KEPT:
                    path.unlink()
                else:
                    taken += state.st_size
        need = pictures * math.prod(self.shape)
        free = shutil.disk_usage(folder).free
        return taken + need <= MOST_BYTES and need <= free * MOST_OF_DISK

    def output(self, stream: int) -> list[str]:
        """A further output of the ffmpeg command that decodes the film."""
        return [
            *("-map", f"0:{stream}", "-vf", self.chain, "-fps_mode", "passthrough"),
            *("-f", "rawvideo", "-pix_fmt", self.pixels, f"file:{self._part}"),
        ]

    def keep(self) -> None:
        """It is whole. What nobody came for goes with the process that made it."""
        if not self._made:
            atexit.register(_forget, self._made)
        self._made.add(self._path)
        self._part.replace(self._path)

    # -- by the stage that uses it ------------------------------------------------------------

    def frames(self, pictures: int) -> "Frames | None":
        """uint8 (pictures, *shape), mapped; None where there is no such reel of just so many."""
        folder = _folder()
        if folder is None:
            return None
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != pictures * math.prod(self.shape):
                    return None
                return np.memmap(file, np.uint8, "r", shape=(pictures, *self.shape))
        except FileNotFoundError:
            return None

    def drop(self) -> None:
        """Remove it, whole or not; who has mapped it keeps it."""
        for path in (self._path, self._part):
            with contextlib.suppress(OSError):
                path.unlink()

    @property
    def _path(self) -> Path:
        return _place() / self.name

    @property
    def _part(self) -> Path:
        return self._path.with_suffix(f".{os.getpid()}")


class Reeled:
    """The pictures of a reel as `reading.chosen.Film` gives them."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def at(self, number: int) -> Frames:
        return self._frames[number]

    def end(self) -> None:
        """It was seen to be whole before it was used."""


def _place() -> Path:
    return Path(tempfile.gettempdir()) / f"tv2tv-reels-{os.getuid()}"


def _folder() -> Path | None:
    """The folder of this machine's reels; None where another user's folder has its name."""
    place = _place()
    place.mkdir(mode=0o700, exist_ok=True)
    state = place.lstat()
    mine = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
    return place if mine and not state.st_mode & 0o077 else None


def _forget(made: set[Path]) -> None:
    for path in made:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        _place().rmdir()
