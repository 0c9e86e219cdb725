"""What backends that are asked in words share: what a question looks like, and what an answer is.

A question is frames with their times told in words, oldest first, and then the prompt: questions on
the same frames share all but their ends, which is what a prefix cache wants. An answer is one JSON
value after the question's schema; text around it, or a text that no one meant, is no caption.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from referencing import Registry

from stages.captioning.backend import OK, CaptionRequest, Shown, View
from stages.captioning.degenerate import looping, refusal, wrong_language, wrong_script
from stages.measures.text_rules import Language

CHAT_ENDS = ("stop", "length", "content_filter")
LOOPED, TIMEOUT = "loop", "timeout"
MOST_TOLD = 200  # characters of a fault
_MARKUP = re.compile("<(?=[|｜])")  # as all models begin the tokens that part turns and pictures
# Broken bytes, nothing at all, or an order of letters: a page would show what nobody said.
_STEERING = re.compile("[\ufffd\ufeff\u00ad\u200b\u2060\u202a-\u202e\u2066-\u2069]")
MOST_KEPT = 4000  # characters of an answer that is no caption


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


# -- what an answer is ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Understood:
    """What a raw answer comes to: the arguments of `CaptionRequest.answer`."""

    status: str
    text: str = ""
    message: str = ""


def understand(request: CaptionRequest, raw: str, end: str, wanted: WordedConfig) -> Understood:
    """Sort a raw answer.

    Args:
        raw: what the model wrote.
        end: why it stopped: one of `CHAT_ENDS`, `LOOPED` or `TIMEOUT`.
        wanted: script and language it should be in.

    Returns:
        ``ok`` with the caption, in one line; or another status with the raw text.
    """
    status, caption, message = _sorted(request, raw, end, wanted)
    kept = caption if status == OK else _storable(raw[:MOST_KEPT])
    return Understood(status, kept, message[:MOST_TOLD])


def _sorted(
    request: CaptionRequest, raw: str, end: str, wanted: WordedConfig
) -> tuple[str, str, str]:
    turn = looping(raw)
    if end == TIMEOUT:
        return "timeout", "", "the answer took too long"
    if end == "content_filter":
        return "blocked", "", "stopped by a content filter"
    if end not in (*CHAT_ENDS, LOOPED):
        return "error", "", f"ended for an unknown reason: {end}"
    if end == LOOPED or turn is not None:
        return "degenerate", "", f"repeats {turn!r}"
    if end == "length":
        return "truncated", "", f"not finished after {request.sampling.get('max_tokens')} tokens"
    if refusal(raw):
        return "blocked", "", "the model refused"
    if not raw.strip():
        return "degenerate", "", "empty"
    try:
        caption = _caption(request.schema, raw)
    except _NoCaptionError as error:
        return "schema", "", str(error)
    if len(caption) >= _most(request.schema) and caption[-1] not in ".!?":
        return "truncated", "", f"cut off after {len(caption)} characters by its schema"
    return _judged(" ".join(caption.split()), wanted)


def _judged(caption: str, wanted: WordedConfig) -> tuple[str, str, str]:
    if not caption:
        return "degenerate", "", "empty"
    if refusal(caption):
        return "blocked", "", "the model refused"
    if (turn := looping(caption)) is not None:
        return "degenerate", "", f"repeats {turn!r}"
    if _storable(caption) != caption:
        return "degenerate", "", "holds characters that are no text"
    if wrong_script(caption, wanted.script):
        return "degenerate", "", f"most letters are not {wanted.script}"
    if wanted.language and wrong_language(caption, wanted.language):
        return "degenerate", "", f"most words are not {wanted.language} (language)"
    return OK, caption, ""


class _NoCaptionError(Exception):
    """An answer that is not after its schema."""


def _caption(schema: Mapping[str, Any], raw: str) -> str:
    """The caption in an answer: the JSON value itself, or its member ``caption``.

    Without a schema the answer is the caption.
    """
    if not schema:
        return raw
    try:
        # Grammars let line breaks into strings, which a caption may well do without.
        value = json.loads(raw, strict=False, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _NoCaptionError(f"not JSON: {error}") from error
    fault = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(value))
    if fault is not None:
        raise _NoCaptionError(f"not after the schema: {fault.json_path}: {fault.message}")
    caption = value.get("caption") if isinstance(value, dict) else value
    if not isinstance(caption, str):
        raise _NoCaptionError("has no text 'caption'")
    return caption


def _most(schema: Mapping[str, Any]) -> float:
    """Characters at which a grammar ends a caption, wherever its sentence stands."""
    caption = schema.get("properties", {}).get("caption", schema)
    return float(caption.get("maxLength", "inf"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _storable(text: str) -> str:
    """Without control characters, halves of surrogate pairs, which no table can hold, and what
    makes a reader see another text."""
    kept = _STEERING.sub("", text)
    return "".join(c for c in kept if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))


# -- choices --------------------------------------------------------------------------------------


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as probabilities that add up to 1."""
    total = sum(weights.values())
    return {choice: weight / total for choice, weight in weights.items()}
