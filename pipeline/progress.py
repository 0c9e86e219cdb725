"""Progress: events from workers, summed per stage, shown live and logged.

On a terminal one live table; elsewhere one plain line now and then. The log is
``runs/<run id>/events.jsonl``, one JSON object per line.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.events import Event

PLAIN_SECONDS = 10.0


@dataclass
class StageProgress:
    """Sums over one stage's events.

    Attributes:
        waiting: records that waited for this stage when the run began.
        before: records that were answered by then.
        done: records answered since.
        onward: of those that went on from here.
        outcomes: rows by outcome, also of those before.
        first, last: seconds since the epoch of the first and the latest work.
    """

    name: str
    waiting: int = 0
    before: int = 0
    done: int = 0
    onward: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    first: float | None = None
    last: float = 0.0

    def add(self, event: Event) -> None:
        self.done += event["records"]
        self.onward += event["onward"]
        self.outcomes.update(event["outcomes"])
        begun = float(event["begun"])
        self.first = begun if self.first is None else min(self.first, begun)
        self.last = max(self.last, begun + event["seconds"])

    @property
    def rate(self) -> float:
        """Records per second since its first batch began; 0 while unknown."""
        elapsed = self.last - self.first if self.first is not None else 0.0
        return self.done / elapsed if elapsed > 0 else 0.0


class Progress:
    """All stages of one run.

    Args:
        before: outcomes of the rows of each record that was answered when the run began, by stage.
    """

    def __init__(
        self,
        names: Sequence[str],
        waiting: Mapping[str, int],
        before: Mapping[str, Sequence[Sequence[str]]] | None = None,
    ) -> None:
        known = before or {}
        self.stages = [
            StageProgress(
                name,
                waiting.get(name, 0),
                len(known.get(name, ())),
                outcomes=Counter(one for rows in known.get(name, ()) for one in rows),
            )
            for name in names
        ]
        self._by_name = {stage.name: stage for stage in self.stages}

    def add(self, event: Event) -> None:
        if event["event"] == "batch":
            self._by_name[event["stage"]].add(event)

    def expected(self) -> list[float]:
        """Records per stage in the end: what waited there, and what stages before will pass on at
        the rate at which they did so far."""
        result: list[float] = []
        arriving = 0.0
        for stage in self.stages:
            total = max(float(stage.done), stage.waiting + arriving)
            result.append(total)
            arriving = total * (stage.onward / stage.done if stage.done else 1.0)
        return result

    def remaining(self, stage: StageProgress, expected: float) -> float | None:
        """Seconds until a stage is done; None while unknown."""
        left = expected - stage.done
        if left <= 0:
            return 0.0
        return left / stage.rate if stage.rate else None


class View(Protocol):
    """What shows a run to a person."""

    def say(self, text: str) -> None: ...
    def begin(self, progress: Progress) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def end(self, progress: Progress) -> None: ...


class PlainView:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._last = ""

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, progress: Progress) -> None:
        self._next = time.monotonic() + PLAIN_SECONDS

    def update(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            self._say_news(line(progress))

    def end(self, progress: Progress) -> None:
        self._say_news(line(progress))

    def _say_news(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self.say(text)


class LiveView(PlainView):
    """A table that is redrawn in place."""

    _live: Live | None = None

    def begin(self, progress: Progress) -> None:
        self._live = Live(table(progress), console=self._console, refresh_per_second=4)
        self._live.start()

    def update(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(table(progress))

    def end(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(table(progress))
            self._live.stop()
            self._live = None


def view_for(console: Console) -> View:
    return LiveView(console) if console.is_terminal else PlainView(console)


def line(progress: Progress) -> str:
    """One line: ``probe 14/14 (1 failed) | shots 9/11 ...``."""
    parts = []
    for stage, expected in zip(progress.stages, progress.expected(), strict=True):
        bad = [f"{n} {name}" for name, n in sorted(stage.outcomes.items()) if name != "ok"]
        note = f" ({', '.join(bad)})" if bad else ""
        done, of = stage.before + stage.done, stage.before + expected
        parts.append(f"{stage.name} {done}/{of:.0f}{note}")
    return " | ".join(parts)


def table(progress: Progress) -> Table:
    """The live table."""
    shown = Table(box=None, pad_edge=False)
    for name in ("stage", "done", "of", "ok rows", "filtered", "failed", "quarantined"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    shown.add_column("per s", justify="right")
    shown.add_column("left", justify="right")
    for stage, expected in zip(progress.stages, progress.expected(), strict=True):
        counts = [str(stage.outcomes[name]) for name in ("ok", "filtered", "failed", "quarantined")]
        rate = f"{stage.rate:.2f}" if stage.rate else ""
        left = _duration(progress.remaining(stage, expected))
        done, of = str(stage.before + stage.done), f"{stage.before + expected:.0f}"
        shown.add_row(stage.name, done, of, *counts, rate, left)
    return shown


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
