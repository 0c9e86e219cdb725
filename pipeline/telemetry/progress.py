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

from pipeline.ledger.endings import in_a_line
from pipeline.telemetry.events import Event

PLAIN_SECONDS = 10.0
RECENT = 600  # seconds that rates are told from: what was long ago says little of what is left
NAMED = 5  # failures that are shown as they come, for each reason of a stage


@dataclass
class StageProgress:
    """Sums over one stage's events.

    Attributes:
        waiting: records that waited for this stage when the run began.
        before: records that were answered by then.
        done: records answered since.
        onward: of those that went on from here.
        outcomes: rows by outcome, also of those before.
        reasons: rows that are not ok, by ``outcome:reason``, since the run began.
        first, last: seconds since the epoch of the first and the latest work.
        recent: records answered of late, by second.
    """

    name: str
    waiting: int = 0
    before: int = 0
    done: int = 0
    onward: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: float | None = None
    last: float = 0.0
    recent: dict[int, int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        self.done += event["records"]
        self.onward += event["onward"]
        self.outcomes.update(event["outcomes"])
        self.reasons.update(event.get("reasons", {}))
        begun = float(event["begun"])
        end = begun + event["seconds"]
        self.first = begun if self.first is None else min(self.first, begun)
        self.last = max(self.last, end)
        self.recent[int(end)] = self.recent.get(int(end), 0) + event["records"]
        if len(self.recent) > 2 * RECENT:
            self.recent = {at: n for at, n in self.recent.items() if at > self.last - RECENT}

    @property
    def rate(self) -> float:
        """Records per second of late; 0 while unknown."""
        if self.first is None:
            return 0.0
        since = max(self.first, self.last - RECENT)
        done = sum(count for at, count in self.recent.items() if at >= int(since))
        return done / (self.last - since) if self.last > since else 0.0


class Progress:
    """All stages of one run.

    Args:
        before: records that were answered when the run began, by stage.
        outcomes: of their rows.
    """

    def __init__(
        self,
        names: Sequence[str],
        waiting: Mapping[str, int],
        before: Mapping[str, int] | None = None,
        outcomes: Mapping[str, Counter[str]] | None = None,
    ) -> None:
        self.stages = [
            StageProgress(
                name,
                waiting.get(name, 0),
                (before or {}).get(name, 0),
                outcomes=Counter((outcomes or {}).get(name, {})),
            )
            for name in names
        ]
        self._by_name = {stage.name: stage for stage in self.stages}
        self._failed: Counter[tuple[str, str]] = Counter()
        self._news: list[str] = []

    def add(self, event: Event) -> None:
        if event["event"] == "batch":
            self._by_name[event["stage"]].add(event)
        if event["event"] == "failure":
            self._tell(event)

    def news(self) -> list[str]:
        """Failures since the last time one asked: the first few of each reason, in a line each."""
        told, self._news = self._news, []
        return told

    def _tell(self, event: Event) -> None:
        kind = (event["stage"], event["reason"])
        self._failed[kind] += 1
        if self._failed[kind] <= NAMED:
            what = f"{event['stage']}: {event['item']} {event['outcome']}: {event['reason']}"
            text = f"{what}: {event['message']}" if event["message"] else what
            self._news.append(in_a_line(text))
        if self._failed[kind] == NAMED:
            self._news.append(f"{kind[0]}: more of {kind[1]} are only counted from here on")

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

    def left(self) -> float | None:
        """Seconds until all is done: stages work side by side, so until the slowest is."""
        each = [self.remaining(*pair) for pair in zip(self.stages, self.expected(), strict=True)]
        known = [seconds for seconds in each if seconds is not None]
        return max(known) if known and len(known) == len(each) else None


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
        self._say_news(progress)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            self._say_line(progress)

    def end(self, progress: Progress) -> None:
        self._say_news(progress)
        self._say_line(progress)

    def _say_news(self, progress: Progress) -> None:
        for text in progress.news():
            self.say(text)

    def _say_line(self, progress: Progress) -> None:
        """No line twice: in a log it says nothing."""
        text = line(progress)
        if text != self._last:
            self._last = text
            left = progress.left()
            self.say(f"{text} | {_duration(left)} left" if left else text)


class LiveView(PlainView):
    """A table that is redrawn in place."""

    _live: Live | None = None

    def begin(self, progress: Progress) -> None:
        self._live = Live(table(progress), console=self._console, refresh_per_second=4)
        self._live.start()

    def update(self, progress: Progress) -> None:
        self._say_news(progress)  # above the table
        if self._live is not None:
            self._live.update(table(progress))

    def end(self, progress: Progress) -> None:
        self._say_news(progress)
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
    left = progress.left()
    caption = f"{_duration(left)} left in all" if left else None
    shown = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for name in ("stage", "done", "pending", "ok rows", "filtered", "failed", "quarantined"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    shown.add_column("per s", justify="right")
    shown.add_column("left", justify="right")
    for stage, expected in zip(progress.stages, progress.expected(), strict=True):
        counts = [str(stage.outcomes[name]) for name in ("ok", "filtered", "failed", "quarantined")]
        rate = f"{stage.rate:.2f}" if stage.rate else ""
        remaining = _duration(progress.remaining(stage, expected))
        done, pending = str(stage.before + stage.done), f"{expected - stage.done:.0f}"
        shown.add_row(stage.name, done, pending, *counts, rate, remaining)
    return shown


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
