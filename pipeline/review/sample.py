"""Which clips are reviewed: a seeded sample, the same for every reviewer and on every machine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from corpus.clock import Clock
from corpus.ids import unit_hash
from pipeline.ledger.walk import Slice
from stages.stage import Record

Rank = tuple[int, float]


@dataclass(frozen=True)
class Clip:
    """A clip as the page shows it.

    Attributes:
        media: name of its file.
        segments: id, binding, text, verdict, scores and times of each; see `_segment`.
    """

    clip_id: str
    video_id: str
    media: str
    title: str
    start: float
    seconds: float
    fps: int
    width: int
    height: int
    meta: str
    segments: tuple[dict[str, Any], ...]

    def captions(self) -> dict[tuple[str, str], str]:
        """What can be judged: segment id and binding of each caption that has text, to the text."""
        return {(s["id"], s["binding"]): s["text"] for s in self.segments if s["text"]}


def draw(slices: Iterable[Slice], count: int, seed: int, clock: Clock) -> list[Clip]:
    """At most ``count`` clips with captions, by the hash of their ids: one of every film before a
    second of any. The first of a sample are the sample of fewer.
    """
    kept: list[tuple[Rank, Clip]] = []
    for part in slices:  # a film lies in one slice
        found = [record for record in part.found.finished if _has_text(record)]
        ranked = [(rank, record) for rank, record in _ranked(found, seed)]
        best = nsmallest(count, ranked, key=lambda one: one[0])
        kept += [(rank, clip_of(record, clock)) for rank, record in best]
        kept = nsmallest(count, kept, key=lambda one: one[0])
    return [clip for _, clip in kept]


def clip_of(record: Record, clock: Clock) -> Clip:
    """A finished clip record as it is shown."""
    return Clip(
        clip_id=record["clip_id"],
        video_id=record["video_id"],
        media=record["clip"],
        title=str(record["uri"]),
        start=record["start"],
        seconds=clock.frames(record["chunks"]) / clock.fps,
        fps=clock.fps,
        width=record["width"],
        height=record["height"],
        meta=record.get("meta_text") or "",
        segments=tuple(_segment(one, clock) for one in record["segments"]),
    )


def _ranked(records: Sequence[Record], seed: int) -> list[tuple[Rank, Record]]:
    """Each with its turn within its film, and its hash."""
    films: dict[str, list[tuple[float, Record]]] = defaultdict(list)
    for record in records:
        place = unit_hash("review", seed, record["clip_id"])
        films[record["video_id"]].append((place, record))
    found = []
    for film in films.values():
        film.sort(key=lambda one: one[0])
        found += [((turn, place), record) for turn, (place, record) in enumerate(film)]
    return found


def _has_text(record: Record) -> bool:
    return any(segment["text"] for segment in record["segments"])


def _segment(segment: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """``from`` and ``to`` are when its first frame comes and its last one goes, in seconds."""
    a, b = segment["a"], segment["b"]
    frames = clock.span_frames(a, b)
    return {
        "id": segment["segment_id"],
        "binding": segment["binding"],
        "text": segment["text"] or "",
        "verdict": segment["verdict"],
        "scores": segment["scores"],
        "from": 0.0 if a == 0 else frames.start / clock.fps,
        "to": frames.stop / clock.fps,
        "seconds": [a * clock.chunk_seconds, b * clock.chunk_seconds],
    }
