"""The chunk clock: how frames, chunks and seconds relate.

A clip of k chunks has ``1 + n k`` frames (n = ``frames_per_chunk``): frame 0 is the start frame,
chunk i (0-based) is frames ``1 + n i .. n + n i``. In latents, frame 0 is latent 0 and chunk i is
latent ``1 + i``.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from corpus.errors import UserError


@dataclass(frozen=True)
class Clock:
    """One corpus, one clock.

    Attributes:
        fps: frames per second of every normalised clip.
        frames_per_chunk: frames that become one latent frame.
    """

    fps: int = 16
    frames_per_chunk: int = 4

    def __post_init__(self) -> None:
        if self.fps < 1 or self.frames_per_chunk < 1:
            raise UserError(
                f"clock: fps={self.fps} and frames_per_chunk={self.frames_per_chunk} "
                "must both be at least 1"
            )

    @property
    def chunk_seconds(self) -> float:
        """Seconds per chunk (0.25 by default)."""
        return self.frames_per_chunk / self.fps

    def frames(self, chunks: int) -> int:
        """Frames of a clip of ``chunks`` chunks."""
        return 1 + self.frames_per_chunk * chunks

    def chunks(self, frames: int) -> int:
        """Chunks of a clip of ``frames`` frames; ValueError unless frames = 1 + n k."""
        k, rest = divmod(frames - 1, self.frames_per_chunk)
        if rest or k < 0:
            raise ValueError(f"{frames} frames are not 1 + {self.frames_per_chunk}k")
        return k

    def chunk_frames(self, chunk: int) -> range:
        """Frame indices of one chunk."""
        n = self.frames_per_chunk
        return range(1 + n * chunk, 1 + n * (chunk + 1))

    def span_frames(self, a: int, b: int) -> range:
        """Frame indices of the segment ``[a, b)`` of chunks."""
        return range(1 + self.frames_per_chunk * a, 1 + self.frames_per_chunk * b)

    def chunks_of(self, seconds: float) -> int:
        """A duration as a whole number of chunks; UserError when it is none."""
        exact = Fraction(0)
        if math.isfinite(seconds):
            exact = Fraction(str(seconds)) * self.fps / self.frames_per_chunk
        if exact.denominator != 1 or exact < 1:
            raise UserError(
                f"{seconds} s is not a whole number of chunks of {self.chunk_seconds} s; "
                f"choose a multiple of {self.chunk_seconds}"
            )
        return int(exact)

    def to_json(self) -> dict[str, int]:
        return {"fps": self.fps, "frames_per_chunk": self.frames_per_chunk}
