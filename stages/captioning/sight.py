"""What a caption backend gets to see of a clip: frames with their true times, timeline rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import cv2
import numpy as np

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.timeline import Span, Timeline, read_timeline
from corpus.video import Frames, read_video
from stages.captioning.backend import NOTHING, Shown, View
from stages.captioning.given import overlapping
from stages.reading.pictures import one_thread

LEAST_SHARE = 0.5  # of a chunk that a caption row must share with a segment


class Sight:
    """A clip's frames as a backend wants them, decoded at once.

    Args:
        path: the clip.
        spans: stretches of chunks that questions will be about.
        view: which frames.

    Raises:
        UserError: the clip cannot be read.
    """

    def __init__(
        self, path: Path, clock: Clock, spans: Iterable[tuple[int, int]], view: View
    ) -> None:
        self._clock = clock
        self._view = view
        self._stride = max(1, round(clock.fps / view.fps)) if view.fps else 0
        # A segment is shown again as the one before: its frames need not be copied and hashed anew.
        self._shown: WeakValueDictionary[tuple[int, int], Shown] = WeakValueDictionary()
        if self._stride:
            wanted = sorted({index for span in spans for index in self._indices(*span)})
            self._places = {index: place for place, index in enumerate(wanted)}
            self._decoded = self._decode(path, wanted)

    def shown(self, a: int, b: int) -> Shown:
        """Frames of the chunks ``[a, b)``: the picture on show at their start, then every so many,
        and their last one."""
        if not self._stride:
            return NOTHING
        found = self._shown.get((a, b))
        if found is None:
            indices = self._indices(a, b)
            rows = [self._places[index] for index in indices]
            times = tuple(index / self._clock.fps for index in indices)
            found = self._shown[a, b] = Shown(self._decoded[rows], times)
        return found

    def before(self, chunks: tuple[int, int] | None) -> Shown:
        """Frames of the segment before, if there is one and the backend wants them."""
        return self.shown(*chunks) if chunks and self._view.before else NOTHING

    def parts(self, segments: Sequence[tuple[int, int]]) -> tuple[Shown, ...]:
        """Frames of every segment, if the backend wants them."""
        return tuple(self.shown(a, b) for a, b in segments) if self._view.parts else ()

    def _indices(self, a: int, b: int) -> list[int]:
        start, end = (self._clock.frames_per_chunk * chunk for chunk in (a, b))
        stride = self._stride
        if self._view.most:  # the fewest whole strides: frames stay evenly spaced
            while 1 + len(range(start, end, stride)) > max(2, self._view.most):
                stride += self._stride
        return sorted({*range(start, end, stride), end})

    def _decode(self, path: Path, indices: list[int]) -> Frames:
        frames = read_video(path, indices)
        side, least = min(frames.shape[1:3]), self._view.short_side
        if not least or side <= least:
            return frames
        size = (round(frames.shape[2] * least / side), round(frames.shape[1] * least / side))
        with one_thread():
            small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
        return np.stack(small).astype(np.uint8)


@dataclass(frozen=True)
class Known:
    """What a film's timeline says of one clip, in seconds from the clip's frame 0."""

    metas: tuple[Span, ...] = ()
    rows: tuple[Span, ...] = ()

    @staticmethod
    def of(record: dict[str, Any], seconds: float) -> "Known":
        """Read a clip record's sidecar; nothing is known of a film without one.

        Args:
            seconds: the clip's length.

        Raises:
            UserError: it is unreadable, or not the one that was listed.
        """
        if record["timeline"] is None:
            return Known()
        timeline = _timeline(record["timeline"], record["timeline_sha256"])
        start = record["start"]
        found = (_near(rows, start, seconds) for rows in (timeline.metas, timeline.captions))
        return Known(*found)

    def captions(self, start: float, end: float, chunk: float) -> tuple[Span, ...]:
        """Caption rows of a segment: those that share half a chunk with it, or lie within it."""
        return overlapping(self.rows, start, end, LEAST_SHARE * chunk)

    def clip(self, start: float, end: float) -> tuple[Span, ...]:
        """Meta rows of a clip: those that share half of it, or lie within it."""
        return overlapping(self.metas, start, end, (end - start) / 2)


@lru_cache(maxsize=8)  # a film's clips come one after the other
def _timeline(name: str, sha256: str) -> Timeline:
    timeline = read_timeline(Path(name))
    if sha256_file(Path(name)) != sha256:
        raise UserError(f"timeline {name} has changed since it was listed: run again")
    return timeline


def _near(rows: tuple[Span, ...], start: float, seconds: float) -> tuple[Span, ...]:
    """Rows that touch a clip, in its own time."""
    return tuple(
        Span(row.start - start, row.end - start, row.text)
        for row in rows
        if row.end > start and row.start < start + seconds
    )
