"""Timelines: what is already known about a video, as a sidecar of JSON lines.

Each line is one statement about a stretch of presentation time, in seconds::

    {"kind": "shot",    "start": 0.0, "end": 4.0625}
    {"kind": "meta",    "start": 0.0, "end": 4.0625, "text": "a red square in a grey room"}
    {"kind": "caption", "start": 0.0, "end": 0.25,   "text": "left"}

Worlds write them beside their films; human labels and subtitles come in the same way.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from corpus.errors import UserError
from corpus.files import write_text

KINDS = ("shot", "meta", "caption")
_TOO_MUCH = (OverflowError, RecursionError)  # a number of 400 digits, a list in a list in a ...


@dataclass(frozen=True)
class Span:
    """``[start, end)`` in seconds of presentation time, with its text (empty for shots)."""

    start: float
    end: float
    text: str = ""


@dataclass(frozen=True)
class Timeline:
    """All statements about one video, each kind ordered by start."""

    shots: tuple[Span, ...] = field(default=())
    metas: tuple[Span, ...] = field(default=())
    captions: tuple[Span, ...] = field(default=())


def read_timeline(path: Path) -> Timeline:
    """Read a sidecar; UserError names the file and line of the first mistake."""
    spans: dict[str, list[Span]] = {kind: [] for kind in KINDS}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() splits texts, too
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"timeline {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            kind, span = _parse(line, f"timeline {path}, line {number}")
            spans[kind].append(span)
    shots, metas, captions = (
        tuple(sorted(spans[kind], key=lambda span: (span.start, span.end))) for kind in KINDS
    )
    return Timeline(shots, metas, captions)


def write_timeline(path: Path, timeline: Timeline) -> None:
    """Write a sidecar, atomically."""
    write_text(path, "".join(_lines(timeline)))


def _parse(line: str, where: str) -> tuple[str, Span]:
    try:
        row = json.loads(line)
        kind, start, end = row["kind"], float(row["start"]), float(row["end"])
        text = row.get("text", "")
        str(text).encode()  # JSON may hold half a character, which no table does
    except (LookupError, ValueError, TypeError, AttributeError, *_TOO_MUCH) as error:
        raise UserError(f"{where}: expected kind, start, end and text ({error!r})") from error
    if kind not in KINDS:
        raise UserError(f"{where}: kind {kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= start < end < float("inf"):
        raise UserError(f"{where}: [{start}, {end}) is no stretch of time")
    if not isinstance(text, str) or (kind != "shot" and not text.strip()):
        raise UserError(f"{where}: a {kind} needs a text")
    return kind, Span(start, end, text)


def _lines(timeline: Timeline) -> Iterable[str]:
    groups = zip(KINDS, (timeline.shots, timeline.metas, timeline.captions), strict=True)
    for kind, spans in groups:
        for span in spans:
            row = {"kind": kind, "start": span.start, "end": span.end}
            if span.text:
                row["text"] = span.text
            yield json.dumps(row, ensure_ascii=False) + "\n"
