"""Grounding: does a caption fit the frames it stands at, and better than the frames beside them?

An image-text model of the open_clip family compares each caption with frames of its own segment and
of the segments before and after. Likeness to its own frames alone misses captions that are true of
the film but stand at the wrong time; the contrast, own minus neighbours, is what shows those.

What it looks at are plain frames, or one `measures.montage` of the segment, for models that were
trained on such (`tv2tv scorer fit`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import decord
import numpy as np

from corpus.clock import Clock
from corpus.video import read_video
from stages.libraries import versions
from stages.measures import montage
from stages.measures.openclip import Embedded, ImageTextModel

VERSION = "1"
Input = Literal["frames", "montage"]


class Grounding:
    """Scores ``own`` and ``contrast`` of captions; cosines, so each is in -1..1 and -2..2.

    Args:
        weights: folder of an open_clip model, see `measures.openclip`.
        input: what the model looks at.
        frames: of each segment that are looked at, evenly spread; a montage has its own number.
        batch: pictures or texts that go through the model at once.
        device: where the model runs.

    Raises:
        UserError: a file is missing.
    """

    def __init__(
        self, weights: str, clock: Clock, input: Input, frames: int, batch: int, device: str
    ) -> None:
        self._model = ImageTextModel(weights, batch, device, "scores", "set scores.use to [rules]")
        self._clock = clock
        self._input = input
        self._frames = frames

    def identity(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"frames": self._frames}
        if self._input == "montage":
            seen = {"montage": montage.VERSION, **versions(cv2)}
        return {"version": VERSION, **versions(av, decord), **self._model.identity(), **seen}

    def open(self) -> None:
        """Load the model; UserError when its files are no such model."""
        self._model.open()

    def look(self, clip: Path, segments: Sequence[dict[str, Any]]) -> Embedded:
        """Unit vectors (N, D) of what each of a clip's segments shows.

        Args:
            segments: all of a clip's, in order, with ``a`` and ``b``.
        """
        spans = [self._clock.span_frames(segment["a"], segment["b"]) for segment in segments]
        montages = self._input == "montage"
        chosen = [montage.chosen(span) if montages else self._spread(span) for span in spans]
        indices = sorted({index for each in chosen for index in each})
        place = {index: n for n, index in enumerate(indices)}
        frames = read_video(clip, indices)
        if montages:
            side = self._model.side
            return self._model.pictures(
                montage.montage([frames[place[i]] for i in each], side) for each in chosen
            )
        embedded = self._model.pictures(frames)
        return np.stack([embedded[[place[i] for i in each]].mean(0) for each in chosen])

    def read(self, texts: Sequence[str]) -> Embedded:
        """Unit vectors (N, D) of captions."""
        return self._model.texts(texts)

    def _spread(self, span: range) -> list[int]:
        """Frames from the middles of equal parts of a segment."""
        count = min(self._frames, len(span))
        return [span[int((part + 0.5) * len(span) / count)] for part in range(count)]


def scores(seen: Embedded, said: Embedded, index: int) -> dict[str, float]:
    """Of one caption.

    Args:
        seen: (N, D) of all of a clip's segments.
        said: (D,) of the caption of segment ``index``.

    Returns:
        ``own``: mean likeness to its own frames. ``contrast``: that minus the mean likeness to its
        neighbours' frames; missing in a clip of one segment, which has none.
    """
    likeness = seen @ said
    found = {"own": float(likeness[index])}
    beside = [i for i in (index - 1, index + 1) if 0 <= i < len(seen)]
    if beside:
        found["contrast"] = float(likeness[index] - likeness[beside].mean())
    return found
