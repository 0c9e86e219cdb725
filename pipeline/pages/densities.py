"""What captions a corpus offers at each density: per second, in words, and how many are accepted.

Gathered slice by slice, through the caption policy itself: what is told of a density is what a
loader would be given by it.
"""

from collections import Counter
from dataclasses import dataclass, field

from corpus.captions import KEEP, ClipCaptions
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.policy import CLIP, STORED, Policy, width_of
from corpus.views import median, seen
from pipeline.ledger.walk import Slice
from stages.shards import captions_of

MERGED = ("1s", "2s", "4s", "8s", CLIP)


@dataclass(frozen=True)
class Density:
    """One row of the table.

    Attributes:
        name: ``stored``, a density that joins stored captions, or a ladder's.
        captions: spans that show text.
        spans: these, and those that show none because all that was said of them is rejected.
        seconds: of all video.
    """

    name: str
    spans: int
    captions: int
    words: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.captions / self.seconds if self.seconds else 0.0

    @property
    def words_per_second(self) -> float:
        return self.words / self.seconds if self.seconds else 0.0

    @property
    def accepted(self) -> float:
        """Share of the spans of which something was said that still show some."""
        return self.captions / self.spans if self.spans else 0.0


@dataclass
class _Sum:
    spans: int = 0
    captions: int = 0
    words: int = 0
    chunks: int = 0


@dataclass
class Densities:
    """Sums over finished clips."""

    clock: Clock
    _sums: dict[str, _Sum] = field(default_factory=dict)
    _inner: Counter[int] = field(default_factory=Counter)
    _last: Counter[int] = field(default_factory=Counter)

    def add(self, part: Slice) -> None:
        """Count the finished clips of a slice."""
        for record in part.found.finished:
            if record.get("segments") and "meta_text" in record:  # a plan may end before captions
                self.count(captions_of(record))

    def count(self, captions: ClipCaptions) -> None:
        """Count one clip."""
        widths = [segment.b - segment.a for segment in captions.segments]
        self._inner.update(widths[:-1])
        self._last.update(widths[-1:])
        self._sum(STORED, Policy(), captions)
        for every in self._merged():
            self._sum(every, Policy(every=every), captions)
        for every in captions.ladders:
            policy = Policy(every=every, coarser="ladder")
            self._sum(f"ladder {every}", policy, captions)

    def rows(self) -> list[Density]:
        """The stored density, coarser ones, then ladders, each from fine to coarse."""
        stored, second = median(self._inner or self._last), self.clock.chunk_seconds
        made = []
        for name in sorted(self._sums, key=self._rank):
            width = None if name == STORED else width_of(name.removeprefix("ladder "), self.clock)
            if name in MERGED and width is not None and width <= stored:
                continue
            one = self._sums[name]
            made.append(Density(name, one.spans, one.captions, one.words, one.chunks * second))
        return made

    def _merged(self) -> list[str]:
        """Densities that are whole chunks by the corpus' clock."""
        return [every for every in MERGED if every == CLIP or _fits(every, self.clock)]

    def _sum(self, name: str, policy: Policy, captions: ClipCaptions) -> None:
        spans = seen(policy, self.clock, width_of(policy.every, self.clock), captions)
        shown = [span.caption for span in spans]
        texts = [caption.text for caption in shown if caption.text]
        sums = self._sums.setdefault(name, _Sum())
        sums.spans += sum(bool(one.text) or one.verdict != KEEP for one in shown)
        sums.captions += len(texts)
        sums.words += sum(len(text.split()) for text in texts)
        sums.chunks += captions.chunks

    def _rank(self, name: str) -> tuple[int, float]:
        if name == STORED:
            return 0, 0
        every = name.removeprefix("ladder ")
        width = width_of(every, self.clock)
        return 1 + (name != every), float("inf") if width is None else width


def _fits(every: str, clock: Clock) -> bool:
    try:
        width_of(every, clock)
    except UserError:
        return False
    return True
