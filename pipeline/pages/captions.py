"""The report's part on captions: what each question showed and took, why answers were rejected,
and what bounded the stage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import unit_hash
from corpus.layout import Media
from corpus.rows import Row
from corpus.video import read_video
from pipeline.ledger.replay import Answered
from pipeline.ledger.walk import Slice
from pipeline.pages.captions_load import (
    CAPTIONS,
    CHECKS,
    CaptionLoad,
    bound,
    canary_words,
    check_words,
    read_load,
)
from pipeline.pages.clip_cards import Picture, picture
from pipeline.pages.first import First
from pipeline.pages.html import environment
from pipeline.plan import Plan
from pipeline.sweep.spread import Spread

CLIPS = 4  # shown with all their questions
PICTURES = 9  # of one question; all its times are told
TRACK = 240  # pixels of a clip's length in the page
OK = "ok"
LEVELS = {"clip": "whole clips", "segment": "segments"}


@dataclass(frozen=True)
class Question:
    """One question of a clip as shown.

    Attributes:
        name: ``whole clip``, ``segment`` or a ladder's density.
        shown, before: times in seconds of the frames it saw.
        marks: places of these on the clip's track: (percent, whether shown).
        reason: why there is no caption, or "".
    """

    name: str
    shown: tuple[float, ...]
    before: tuple[float, ...]
    marks: tuple[tuple[float, bool], ...]
    size: str
    text: str
    previous: str
    reason: str
    tries: int
    tokens_in: int
    tokens_out: int
    seconds: float
    binding: str
    sampling: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ClipQuestions:
    title: str
    model: str
    prompt: str
    questions: tuple[Question, ...]
    note: str


class CaptionsSeen:
    """Sums of what captions took, and the few clips that are shown with all their questions."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        names = [stage.name for stage in plan.stages]
        self._at = names.index(CAPTIONS) if CAPTIONS in names else None
        self._asked = Counter[str]()
        self._ok = Counter[str]()
        self._reasons = Counter[str]()
        self._sums = Counter[str]()
        self._cost = 0.0
        self._seconds = Spread()
        self._clips = 0
        self._shown = First[Answered](CLIPS)

    def add(self, part: Slice) -> None:
        """Take what is kept of a slice."""
        for answered in part.found.answered:
            if answered.stage == self._at:
                self._clips += 1
                self._shown.add([(unit_hash("captions", answered.unit), answered)])
                for row in answered.rows:
                    if row.columns.get("status"):
                        self._row(row)

    def _row(self, row: Row) -> None:
        self._count(LEVELS[row.level], row.columns, row.outcome == OK)
        if row.reason:
            self._reasons[row.reason] += 1
        for step in row.columns.get("ladders") or ():
            self._count(f"ladder {step['every']}", step, step["status"] == OK)
            if step["status"] != OK:
                self._reasons[step["status"]] += 1

    def _count(self, level: str, one: dict[str, Any], ok: bool) -> None:
        self._asked[level] += 1
        self._ok[level] += ok
        self._sums["again"] += one["tries"] > 1
        self._sums["saved"] += one["tries"] > 1 and one["status"] == OK
        for name in ("tokens_in", "tokens_out"):
            if one.get(name):
                self._sums[name] += one[name]
                self._sums[f"{name} told"] += 1
        self._cost += one.get("cost") or 0
        if one.get("seconds"):
            self._seconds.add(one["seconds"])

    def render(self, log: Path) -> Markup:
        """The part as HTML; "" for a recipe or a corpus without captions."""
        if not self._asked:
            return Markup("")
        load, clock = read_load(log), self._plan.recipe.clock.clock()
        media = self._plan.layout.media
        text = (
            environment()
            .get_template("captions.html")
            .render(
                levels=self._levels(),
                reasons=self._reasons.most_common(),
                again=self._sums["again"],
                saved=self._sums["saved"],
                took=self._took(),
                load=load,
                shares=load.shares,
                bound=bound(load),
                canaries=canary_words(load),
                checks=check_words(read_load(log, CHECKS)),
                worded=_worded(load),
                track=TRACK,
                clips=[_clip(one, media, clock) for one in self._shown.found],
                all_clips=self._clips,
            )
        )
        return Markup(text)  # noqa: S704 - the template has escaped every value

    def _levels(self) -> list[tuple[str, int, int]]:
        """(what, asked, captions) of whole clips, segments, and each ladder."""
        first = [name for name in LEVELS.values() if self._asked[name]]
        ladders = sorted(set(self._asked) - set(LEVELS.values()))
        return [(name, self._asked[name], self._ok[name]) for name in (*first, *ladders)]

    def _took(self) -> list[tuple[str, str]]:
        """(value, label) of what captions took, where anything was counted."""
        sums = self._sums
        found = [(f"{self._asked.total():,}", "questions answered")]
        if told := sums["tokens_in told"]:
            found.append((f"{sums['tokens_in'] / told:,.0f}", "tokens read per caption"))
        if told := sums["tokens_out told"]:
            found.append((f"{sums['tokens_out'] / told:.1f}", "tokens written per caption"))
        if self._seconds.count:
            (middle,) = self._seconds.quantiles([0.5])
            found.append((f"{middle:.2f} s", "from question to answer, median"))
        if self._cost:
            found.append((f"{self._cost:,.4g}", "cost, at the recipe's prices"))
        return found


def _worded(load: CaptionLoad) -> bool:
    """Whether the backend takes several questions at once."""
    return load.limit > 1


def _clip(answered: Answered, media: Media, clock: Clock) -> ClipQuestions:
    named = [(_name(row), row.columns) for row in answered.rows if row.columns.get("status")]
    reasons = [row.reason or "" for row in answered.rows if row.columns.get("status")]
    for row in answered.rows:
        for step in row.columns.get("ladders") or ():
            named.append((f"ladder {step['every']}", step))
            reasons.append("" if step["status"] == OK else step["status"])
    length = max((max(one["times"] or [0]) for _, one in named), default=0.0) or 1.0
    pictures, note = _pictures(media.path(media.clip(answered.unit)), named, clock)
    questions = tuple(
        _question(name, one, reason, length, pictures)
        for (name, one), reason in zip(named, reasons, strict=True)
    )
    first = named[0][1] if named else {}
    return ClipQuestions(
        f"clip {answered.unit[:12]}",
        first.get("model", ""),
        first.get("prompt", ""),
        questions,
        note,
    )


def _name(row: Row) -> str:
    return "whole clip" if row.level == "clip" else "segment"


def _question(
    name: str, one: dict[str, Any], reason: str, length: float, pictures: dict[float, Picture]
) -> Question:
    shown, before = tuple(one["times"] or ()), tuple(one["before"] or ())
    marks = [(100 * time / length, False) for time in before]
    marks += [(100 * time / length, True) for time in shown]
    return Question(
        name=name,
        shown=shown,
        before=before,
        marks=tuple(marks),
        size=f"{one['width']}×{one['height']}" if shown else "",
        text=one["text"] or "",
        previous=one["previous"] or "",
        reason=reason,
        tries=one["tries"],
        tokens_in=one["tokens_in"],
        tokens_out=one["tokens_out"],
        seconds=one["seconds"],
        binding=one["binding"][:12],
        sampling=one["sampling"],
        pictures=tuple(pictures[time] for time in _some(shown) if time in pictures),
    )


def _some(times: Sequence[float]) -> list[float]:
    """At most `PICTURES`, evenly, the first and the last among them."""
    if len(times) <= PICTURES:
        return list(times)
    last = len(times) - 1
    return [times[round(i * last / (PICTURES - 1))] for i in range(PICTURES)]


def _pictures(
    path: Path, named: Sequence[tuple[str, dict[str, Any]]], clock: Clock
) -> tuple[dict[float, Picture], str]:
    """Frames of the clip by time, those that are shown; and why there are none."""
    times = sorted({time for _, one in named for time in _some(one["times"] or ())})
    if not times:
        return {}, "This backend looks at no frames."
    try:
        frames = read_video(path, [round(time * clock.fps) for time in times])
    except UserError as error:
        return {}, str(error)
    return {time: picture(f, time) for time, f in zip(times, frames, strict=True)}, ""
