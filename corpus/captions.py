"""Captions of one clip: the record that shards store as ``<key>.captions.json``."""

from dataclasses import dataclass, field
from typing import Any

CAPTIONS_SCHEMA = 1
KEEP = "keep"


@dataclass(frozen=True)
class Caption:
    """One text and where it came from.

    Attributes:
        text: the words; may be empty when the source had none for this stretch.
        scores: every score that was computed, by name; thresholds are applied when reading.
        verdict: ``keep``, or the reason for which it was rejected.
        prompt: id and version of the prompt.
        model: id and revision of what wrote it.
        binding: ties the text to the frames shown and the prompt asked (`corpus.ids.binding`).
    """

    text: str
    scores: dict[str, float] = field(default_factory=dict)
    verdict: str = KEEP
    prompt: str = ""
    model: str = ""
    binding: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "scores": dict(self.scores)}


@dataclass(frozen=True)
class SegmentCaption:
    """The caption of the chunks ``[a, b)``."""

    a: int
    b: int
    caption: Caption
    segment_id: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"chunks": [self.a, self.b], "id": self.segment_id, **self.caption.to_json()}


@dataclass(frozen=True)
class ClipCaptions:
    """All captions of a clip, its segments in order and an exact partition of its chunks."""

    meta: tuple[Caption, ...]
    segments: tuple[SegmentCaption, ...]

    @property
    def chunks(self) -> int:
        return self.segments[-1].b if self.segments else 0

    def check(self, chunks: int) -> None:
        """ValueError unless the segments partition ``[0, chunks)`` exactly."""
        edges = [0, *(segment.b for segment in self.segments)]
        starts = [segment.a for segment in self.segments]
        if starts != edges[:-1] or edges[-1] != chunks or sorted(set(edges)) != edges:
            spans = [(s.a, s.b) for s in self.segments]
            raise ValueError(f"segments {spans} are no partition of [0, {chunks})")

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": CAPTIONS_SCHEMA,
            "meta": [caption.to_json() for caption in self.meta],
            "segments": [segment.to_json() for segment in self.segments],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> "ClipCaptions":
        """Parse what `to_json` wrote; ValueError names what does not fit. Unknown keys of newer
        minor versions are ignored."""
        if not isinstance(data, dict) or data.get("schema") != CAPTIONS_SCHEMA:
            raise ValueError(f"captions are not of schema {CAPTIONS_SCHEMA}")
        try:
            return ClipCaptions(
                tuple(_caption(item) for item in data["meta"]),
                tuple(_segment(item) for item in data["segments"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"captions: {error!r}") from error


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
    )


def _segment(item: dict[str, Any]) -> SegmentCaption:
    a, b = item["chunks"]
    if not isinstance(a, int) or not isinstance(b, int) or not 0 <= a < b:
        raise ValueError(f"captions: chunks {item['chunks']!r} are no range")
    return SegmentCaption(a, b, _caption(item), str(item.get("id", "")))
