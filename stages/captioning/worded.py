"""What backends that are asked in words share: their settings, and what a question looks like.

A question is frames with their times told in words, oldest first, and then the prompt: questions on
the same frames share all but their ends, which is what a prefix cache wants.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.captioning.backend import CaptionRequest, Shown, View
from stages.measures.text_rules import Language

_MARKUP = re.compile("<(?=[|｜])")  # as all models begin the tokens that part turns and pictures


class Decoding(BaseModel):
    """How tokens are chosen. The default takes the likeliest one, each time the same.

    Attributes:
        temperature: 0 draws nothing.
        top_p: tokens that make up this share of the probability are drawn from.
        repetition_penalty: above 1 makes tokens that occurred, the prompt's too, less likely; what
            speaks the plain OpenAI protocol does not know it.
        frequency_penalty: above 0 the same, by how often they occurred in the answer.
        max_tokens: an answer that is longer is ``truncated``.
        seed: of what is drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    max_tokens: int = Field(default=256, ge=1)
    seed: int = Field(default=0, ge=0)


class Again(Decoding):
    """Of a second try: the likeliest tokens gave no caption, so others are drawn."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    frequency_penalty: float = Field(default=0.5, ge=-2, le=2)
    seed: int = Field(default=1, ge=0)


class WordedConfig(BaseModel):
    """Settings of every backend that is asked in words.

    Attributes:
        model: what is asked.
        fps, short_side, before: the frames it is shown (`View`).
        most_frames: of one stretch; a longer one is shown at fewer frames per second.
        show: a stretch as one ``video``, or as single ``images``, for models that know no videos
            or confuse their times.
        script, language: that captions are in; others are ``degenerate``. None for a language that
            has no list of common words (`text_rules`).
        decoding: of the first try.
        again: of the second, where the first gave no caption. It must differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    model: str = ""
    fps: float = Field(default=2.0, gt=0)
    short_side: int = Field(default=336, ge=0)
    before: bool = True
    most_frames: int = Field(default=32, ge=2)
    show: Literal["video", "images"] = "video"
    script: str = Field(default="latin", min_length=1)
    language: Language | None = "en"
    decoding: Decoding = Decoding()
    again: Again = Again()

    @model_validator(mode="after")
    def _differs(self) -> Self:
        first, second = (d.model_dump(exclude={"seed"}) for d in (self.decoding, self.again))
        if first == second and not self.again.temperature:
            raise ValueError("again: must be another decoding, or its answer is the same again")
        return self

    def view(self) -> View:
        return View(self.fps, self.short_side, self.before, most=self.most_frames)


@dataclass(frozen=True)
class Still:
    """One picture, uint8 (H, W, 3)."""

    frame: NDArray[np.uint8]


@dataclass(frozen=True)
class Moving:
    """Pictures uint8 (T, H, W, 3), T > 1, evenly spaced at ``fps``."""

    frames: NDArray[np.uint8]
    fps: float


Piece = str | Still | Moving


def pieces(request: CaptionRequest, show: str) -> list[Piece]:
    """A question as text and pictures, in order; times are told in words whatever the model makes
    of a video's own. A caption that is quoted in it cannot end the turn or stand for a picture."""
    found: list[Piece] = []
    for shown in (request.before, request.shown):
        even = _evenly_spaced(shown.times) if show == "video" else 0
        if even > 1:
            found += _as_video(shown, even)
        found += _as_images(shown, even if even > 1 else 0)
    return [*found, _MARKUP.sub("< ", request.prompt)]


def _evenly_spaced(times: Sequence[float]) -> int:
    """How many pictures from the first on have one distance: the last may be nearer."""
    steps = np.diff(times)
    odd = np.flatnonzero(~np.isclose(steps, steps[:1], rtol=1e-3))
    return int(odd[0]) + 1 if len(odd) else len(times)


def _as_video(shown: Shown, count: int) -> list[Piece]:
    first, last = shown.times[0], shown.times[count - 1]
    step = (last - first) / (count - 1)
    told = f"{count} frames from {_spoken(first)} s to {_spoken(last)} s, one every"
    return [f"{told} {_spoken(step)} s:\n", Moving(shown.frames[:count], 1 / step), "\n"]


def _as_images(shown: Shown, start: int) -> list[Piece]:
    found: list[Piece] = []
    for frame, time in zip(shown.frames[start:], shown.times[start:], strict=True):
        found += [f"Frame at {_spoken(time)} s:\n", Still(frame), "\n"]
    return found


def _spoken(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
