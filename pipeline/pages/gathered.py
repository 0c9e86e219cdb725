"""What the report keeps of a corpus that comes slice by slice: sums, spreads, and a few examples.

Examples are drawn by the hashes of their ids, so neither order nor slicing is any matter.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from corpus.captions import KEEP
from corpus.ids import unit_hash
from pipeline.ledger.conservation import fates
from pipeline.ledger.endings import last_words
from pipeline.ledger.walk import Slice
from pipeline.pages.captions import CaptionsSeen
from pipeline.pages.densities import Densities
from pipeline.pages.first import First
from pipeline.pages.rejects import Rejects
from pipeline.pages.round_trips import RoundTrips
from pipeline.plan import Plan
from pipeline.sweep.spread import Spread
from pipeline.sweep.thresholds import all_scores
from stages.stage import Record

MAX_FILES = 200
MOST_DISTINCT = 4096


class Distinct:
    """How many different texts there are: told from the least of their hashes once these are more
    than `MOST_DISTINCT` (Bar-Yossef et al., Counting distinct elements in a data stream, 2002), and
    then right to 2 or 3 in a hundred."""

    def __init__(self) -> None:
        self._hashes: set[float] = set()
        self._below = 1.0

    def __len__(self) -> int:
        """Hashes that are held."""
        return len(self._hashes)

    def add(self, text: str) -> None:
        place = unit_hash("text", text)
        if place < self._below:
            self._hashes.add(place)
        if len(self._hashes) > MOST_DISTINCT:
            self._below = max(self._hashes)
            self._hashes.remove(self._below)

    @property
    def count(self) -> float:
        return len(self._hashes) / self._below


@dataclass(frozen=True)
class File:
    """One listed file and what came of it."""

    uri: str
    outcome: str
    reason: str
    clips: int
    seconds: float


class Gathered:
    """All that the page shows but for what `Status` counts.

    Args:
        clips: how many of them are shown.
    """

    def __init__(self, plan: Plan, clips: int) -> None:
        self._plan = plan
        self._second = plan.recipe.clock.clock().chunk_seconds
        self.clips = Spread()  # seconds each
        self.segments = Spread()  # seconds each
        self.words = Spread()  # of each kept caption
        self.texts = Distinct()
        self.scores = all_scores(plan)
        self.rejects = Rejects(plan)
        self.captions = CaptionsSeen(plan)
        self.densities = Densities(plan.recipe.clock.clock())
        self.round_trips = RoundTrips(plan)
        self._files = First[File](MAX_FILES)
        self._shown = First[Record](clips)

    @property
    def files(self) -> list[File]:
        """At most `MAX_FILES`, those that ended early first."""
        return self._files.found

    @property
    def shown(self) -> list[Record]:
        """Finished clips, every file once before any twice; in the order of their films."""
        return sorted(self._shown.found, key=lambda one: (one["uri"], one["start"], one["clip_id"]))

    def add(self, part: Slice) -> None:
        """Take what is kept of a slice."""
        for record in part.found.finished:
            self._count(record)
        self._shown.add(turns(part.found.finished))
        self._files.add(((f.outcome == "ok", f.uri), f) for f in self._files_of(part))
        self.rejects.add(part)
        for scores in self.scores:
            scores.add(part)
        self.captions.add(part)
        self.densities.add(part)
        self.round_trips.add(part)

    def _count(self, record: Record) -> None:
        self.clips.add(record["chunks"] * self._second)
        for segment in record["segments"]:
            self.segments.add((segment["b"] - segment["a"]) * self._second)
            if segment.get("verdict") == KEEP and segment.get("text"):
                self.words.add(float(len(segment["text"].split())))
                self.texts.add(segment["text"])

    def _files_of(self, part: Slice) -> Iterable[File]:
        fate = fates(part.sources, self._plan.stages, part.found)
        own, borrowed = last_words(part.found)
        clips, chunks = Counter[str](), Counter[str]()
        for record in part.found.finished:
            clips[record["video_id"]] += 1
            chunks[record["video_id"]] += record["chunks"]
        for source in part.sources:
            if source.outcome != "ok" or source.video_id is None:
                why = _why(source.reason, source.message)
                yield File(source.uri, source.outcome, why, 0, 0.0)
                continue
            video, end = source.video_id, fate[source.video_id]
            why = _why(end.reason, own.get(video) or borrowed.get(video)) if end.reason else ""
            yield File(source.uri, end.outcome, why, clips[video], chunks[video] * self._second)


def turns(records: Iterable[Record]) -> Iterable[tuple[Any, Record]]:
    """Records with the order in which they are shown, of whole films: each film's first by the hash
    of its id, then the second of each, and so on."""
    met = Counter[str]()
    for record in sorted(records, key=_place):
        yield (met[record["video_id"]], *_place(record)), record
        met[record["video_id"]] += 1


def _place(record: Record) -> tuple[float, str]:
    return unit_hash("report", record["clip_id"]), record["clip_id"]


def _why(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)
