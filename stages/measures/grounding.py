"""Grounding: does a caption fit the frames it stands at, and better than the frames beside them?

An image-text model of the open_clip family compares each caption with frames of its own segment and
of the segments before and after. Likeness to its own frames alone misses captions that are true of
the film but stand at the wrong time; the contrast, own minus neighbours, is what shows those.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np

from corpus.clock import Clock
from corpus.video import read_video
from stages.libraries import versions
from stages.measures.openclip import Embedded, ImageTextModel

VERSION = "1"


class Grounding:
    """Scores ``own`` and ``contrast`` of captions; cosines, so each is in -1..1 and -2..2.

    Args:
        weights: folder of an open_clip model, see `measures.openclip`.
        frames: of each segment that are looked at, evenly spread.
        batch: frames or texts that go through the model at once.
        device: where the model runs.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, weights: str, clock: Clock, frames: int, batch: int, device: str) -> None:
        self._model = ImageTextModel(weights, batch, device, "scores", "set scores.use to [rules]")
        self._clock = clock
        self._frames = frames

    def identity(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **versions(av, decord),
            **self._model.identity(),
            "frames": self._frames,
        }

    def open(self) -> None:
        """Load the model; UserError when its files are no such model."""
        self._model.open()

    def scores(self, clip: Path, segments: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
        """Scores of each segment's caption; none where there is no text.

        Args:
            segments: all of a clip's, in order, with ``a``, ``b`` and ``text``.

        Returns:
            ``own``: mean likeness to its own frames. ``contrast``: that minus the mean likeness
            to its neighbours' frames; missing in a clip of one segment, which has none.
        """
        spoken = [index for index, segment in enumerate(segments) if segment["text"]]
        if not spoken:
            return [{} for _ in segments]
        words = self._model.texts([segments[i]["text"] for i in spoken])
        likeness = words @ self._segments(clip, segments)
        found: list[dict[str, float]] = [{} for _ in segments]
        for row, index in zip(likeness, spoken, strict=True):
            found[index]["own"] = float(row[index])
            beside = [i for i in (index - 1, index + 1) if 0 <= i < len(segments)]
            if beside:
                found[index]["contrast"] = float(row[index] - row[beside].mean())
        return found

    def _segments(self, clip: Path, segments: Sequence[dict[str, Any]]) -> Embedded:
        """Mean embedding of each segment's frames, (D, segments)."""
        chosen = [self._spread(segment["a"], segment["b"]) for segment in segments]
        frames = read_video(clip, sorted({index for each in chosen for index in each}))
        places = {i: n for n, i in enumerate(sorted({i for each in chosen for i in each}))}
        embedded = self._model.pictures(frames)
        return np.stack([embedded[[places[i] for i in each]].mean(0) for each in chosen], axis=1)

    def _spread(self, a: int, b: int) -> list[int]:
        """Frames from the middles of equal parts of a segment."""
        span = self._clock.span_frames(a, b)
        count = min(self._frames, len(span))
        return [span[int((part + 0.5) * len(span) / count)] for part in range(count)]
