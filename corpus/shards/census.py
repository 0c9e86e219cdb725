"""What a set holds, counted while it is written: for its manifest and its card."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corpus.captions import KEEP, ClipCaptions
from corpus.ids import canonical_json
from corpus.shards.manifest import SPLITS
from corpus.shards.sample import CAPTIONS, INFO, LATENT, PREVIEW, Sample

MOST = 200  # different values that are counted one by one
LONGEST = 200  # characters of a value


@dataclass(frozen=True)
class Columns:
    """Columns of the users' manifests that tell where footage comes from: the first that a clip
    has counts. Letter case does not matter."""

    licence: tuple[str, ...] = ("license", "licence", "rights")
    source: tuple[str, ...] = ("source", "dataset", "collection")
    author: tuple[str, ...] = ("author", "creator", "attribution")

    def to_json(self) -> dict[str, list[str]]:
        return {name: list(columns) for name, columns in vars(self).items()}


@dataclass
class Census:
    """Sums over samples.

    Attributes:
        videos: how many videos each split has.
    """

    columns: Columns
    videos: Mapping[str, int]
    _samples: Counter[str] = field(default_factory=Counter)
    _chunks: Counter[str] = field(default_factory=Counter)
    _captions: Counter[str] = field(default_factory=Counter)
    _told: dict[str, Counter[str]] = field(default_factory=dict)
    _members: dict[str, Any] | None = None
    _alike: bool = True

    def add(self, sample: Sample, split: str) -> None:
        """Count a sample."""
        chunks = sample.latent.shape[1] - 1
        self._samples[split] += 1
        members = _members(sample)
        self._members = members if self._members is None else self._members
        self._alike = self._alike and members == self._members
        self._chunks[split] += chunks
        self._say(sample.captions)
        meta = sample.info.get("meta") or {}
        told = {str(name).lower(): value for name, value in sorted(meta.items())}
        for about, columns in vars(self.columns).items():
            named = (told[name.lower()] for name in columns if told.get(name.lower()))
            self._count(about, next((_text(value) for value in named), ""))

    def to_json(self) -> dict[str, Any]:
        """``splits``, ``captions``, ``members`` if all samples have the same, and how many clips
        each licence, source, author, model and prompt has; "" are clips whose row does not tell."""
        splits = {
            split: {
                "samples": self._samples[split],
                "videos": self.videos.get(split, 0),
                "chunks": self._chunks[split],
            }
            for split in SPLITS
        }
        told = ("licence", "source", "author", "model", "prompt")
        counted = {name: dict(sorted(self._told.get(name, {}).items())) for name in told}
        captions = ("segments", "shown", "words", "meta", "ladders")
        return {
            "splits": splits,
            "captions": {name: self._captions[name] for name in captions},
            "members": (self._members or {}) if self._alike else {},
            "columns": self.columns.to_json(),
            **counted,
        }

    def _say(self, captions: ClipCaptions) -> None:
        segments = [span.caption for span in captions.segments]
        shown = [one for one in segments if one.text and one.verdict == KEEP]
        self._captions["segments"] += len(segments)
        self._captions["shown"] += len(shown)
        self._captions["words"] += sum(len(one.text.split()) for one in shown)
        self._captions["meta"] += any(one.text for one in captions.meta)
        ladders = [span.caption for spans in captions.ladders.values() for span in spans]
        self._captions["ladders"] += sum(bool(one.text) for one in ladders)
        every = [*captions.meta, *segments, *ladders]
        self._each("model", {one.model for one in every if one.text})
        self._each("prompt", {one.prompt for one in every if one.text})

    def _each(self, about: str, values: Iterable[str]) -> None:
        for value in values:
            if value:
                self._count(about, _text(value))

    def _count(self, about: str, value: str) -> None:
        counts = self._told.setdefault(about, Counter())
        counts[value if value in counts or len(counts) < MOST else "others"] += 1


def _members(sample: Sample) -> dict[str, Any]:
    """Members by name: ``json``, ``mp4``, or dtype and axes of an array."""
    found: dict[str, Any] = {CAPTIONS: "json", INFO: "json", LATENT: [sample.dtype, 4]}
    if sample.preview is not None:
        found[PREVIEW] = "mp4"
    arrays = {f"{name}.npy": [one.dtype.name, one.ndim] for name, one in sample.streams.items()}
    return dict(sorted({**found, **arrays}.items()))


def _text(value: Any) -> str:
    """A user's value as one short line."""
    text = value if isinstance(value, str) else canonical_json(value)
    return " ".join(text.split())[:LONGEST]
