"""What the answers of backends that are asked in words come to.

An answer is one JSON value after the question's schema; text around it, or a text that no one
meant, is no caption.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry

from stages.captioning.backend import OK, CaptionRequest
from stages.captioning.degenerate import looping, refusal, wrong_language, wrong_script
from stages.captioning.worded import WordedConfig

CHAT_ENDS = ("stop", "length", "content_filter")
LOOPED, TIMEOUT = "loop", "timeout"
MOST_TOLD = 200  # characters of a fault
# Broken bytes, nothing at all, or an order of letters: a page would show what nobody said.
_STEERING = re.compile("[\ufffd\ufeff\u00ad\u200b\u2060\u202a-\u202e\u2066-\u2069]")
MOST_KEPT = 4000  # characters of an answer that is no caption


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


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as probabilities that add up to 1."""
    total = sum(weights.values())
    return {choice: weight / total for choice, weight in weights.items()}
