"""Captions of one clip: the record that shards store as ``<key>.captions.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

CAPTIONS_SCHEMA = 1
KEEP = "keep"
WHOLE = "clip"  # the density of one caption per clip


@dataclass(frozen=True)
class Caption:
    """One text and where it came from.

    Attributes:
        text: the words; may be empty when the source had none for this stretch.
        scores: every score that was computed, by name; thresholds are applied when reading.
        verdict: ``keep``, or the reason for which it was rejected.
        prompt: id and version of the prompt.
        model: id and revision of what wrote it.
        binding: ties the text to the frames shown and the prompt asked (`corpus.ids.binding`); ""
            where no single answer said this: texts were joined, or damaged.
        corruption: kind of damage that was done to it on purpose, or "".
    """

    text: str
    scores: dict[str, float] = field(default_factory=dict)
    verdict: str = KEEP
    prompt: str = ""
    model: str = ""
    binding: str = ""
    corruption: str = ""

    def to_json(self) -> dict[str, Any]:
        data = {**vars(self), "scores": dict(self.scores)}
        if not self.corruption:
            del data["corruption"]
        return data


@dataclass(frozen=True)
class SegmentCaption:
    """The caption of the chunks ``[a, b)``."""

    a: int
    b: int
    caption: Caption
    segment_id: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"chunks": [self.a, self.b], "id": self.segment_id, **self.caption.to_json()}


Segments = tuple[SegmentCaption, ...]


@dataclass(frozen=True)
class ClipCaptions:
    """All captions of a clip, its segments in order and an exact partition of its chunks.

    Attributes:
        ladders: captions made for another density, by that density (``"4s"``); each is a
            partition, too. The meta-caption is the one for whole clips (`all_ladders`).
    """

    meta: tuple[Caption, ...]
    segments: Segments
    ladders: Mapping[str, Segments] = field(default_factory=dict)

    @property
    def chunks(self) -> int:
        return self.segments[-1].b if self.segments else 0

    @property
    def all_ladders(self) -> dict[str, Segments]:
        """The ladders, with the meta-caption as that of density ``clip``."""
        if WHOLE in self.ladders or not self.meta or not self.chunks:
            return dict(self.ladders)
        return {**self.ladders, WHOLE: (SegmentCaption(0, self.chunks, self.meta[0]),)}

    def check(self, chunks: int) -> None:
        """ValueError unless segments and ladders partition ``[0, chunks)`` exactly."""
        _check("segments", self.segments, chunks)
        for every, spans in self.ladders.items():
            _check(f"ladder {every}", spans, chunks)

    def within(self, chunks: int) -> "ClipCaptions":
        """What ends within so many chunks; the first caption in any case."""
        if chunks >= self.chunks:
            return self
        ladders = {every: _within(spans, chunks) for every, spans in self.all_ladders.items()}
        return replace(self, segments=_within(self.segments, chunks), ladders=ladders)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "schema": CAPTIONS_SCHEMA,
            "meta": [caption.to_json() for caption in self.meta],
            "segments": [segment.to_json() for segment in self.segments],
        }
        if self.ladders:
            data["ladders"] = {
                every: [span.to_json() for span in spans] for every, spans in self.ladders.items()
            }
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> "ClipCaptions":
        """Parse what `to_json` wrote; ValueError names what does not fit. Unknown keys of newer
        minor versions are ignored."""
        if not isinstance(data, dict) or data.get("schema") != CAPTIONS_SCHEMA:
            raise ValueError(f"captions are not of schema {CAPTIONS_SCHEMA}")
        try:
            ladders = data.get("ladders", {}).items()
            return ClipCaptions(
                tuple(_caption(item) for item in data["meta"]),
                tuple(_segment(item) for item in data["segments"]),
                {str(every): tuple(_segment(item) for item in spans) for every, spans in ladders},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"captions: {error!r}") from error


def _check(what: str, spans: Sequence[SegmentCaption], chunks: int) -> None:
    edges = [0, *(span.b for span in spans)]
    starts = [span.a for span in spans]
    if starts != edges[:-1] or edges[-1] != chunks or sorted(set(edges)) != edges:
        ranges = [(span.a, span.b) for span in spans]
        raise ValueError(f"{what} {ranges} are no partition of [0, {chunks})")


def _within(spans: Segments, chunks: int) -> Segments:
    return tuple(span for span in spans if span.b <= chunks) or spans[:1]


def _caption(item: dict[str, Any]) -> Caption:
    text, verdict = item["text"], item.get("verdict", KEEP)
    if not isinstance(text, str) or not isinstance(verdict, str):
        raise ValueError(f"captions: text and verdict must be strings, got {text!r}, {verdict!r}")
    return Caption(
        text=text,
        scores={str(name): float(value) for name, value in item.get("scores", {}).items()},
        verdict=verdict,
        prompt=str(item.get("prompt", "")),
        model=str(item.get("model", "")),
        binding=str(item.get("binding", "")),
        corruption=str(item.get("corruption", "")),
    )


def _segment(item: dict[str, Any]) -> SegmentCaption:
    a, b = item["chunks"]
    if not isinstance(a, int) or not isinstance(b, int) or not 0 <= a < b:
        raise ValueError(f"captions: chunks {item['chunks']!r} are no range")
    return SegmentCaption(a, b, _caption(item), str(item.get("id", "")))
