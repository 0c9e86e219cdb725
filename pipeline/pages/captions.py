"""The report's part on captions: what each question showed and took, why answers were rejected,
and what bounded the stage."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import unit_hash
from corpus.layout import Media
from corpus.rows import Row
from corpus.video import read_video
from pipeline.ledger.replay import Answered
from pipeline.ledger.status import Status
from pipeline.pages.captions_load import CAPTIONS, CaptionLoad, bound, canary_words, read_load
from pipeline.pages.clip_cards import Picture, picture
from pipeline.pages.html import environment

CLIPS = 4  # shown with all their questions
PICTURES = 9  # of one question; all its times are told
TRACK = 240  # pixels of a clip's length in the page
OK = "ok"


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


def captions_part(status: Status, log: Path) -> Markup:
    """The part as HTML; "" for a recipe or a corpus without captions."""
    answered = list(_answered(status))
    rows = [row for one in answered for row in one.rows if row.columns.get("status")]
    if not rows:
        return Markup("")
    load, clock = read_load(log), status.plan.recipe.clock.clock()
    every = [row.columns for row in rows]
    every += [step for row in rows for step in row.columns.get("ladders") or ()]
    shown = sorted(answered, key=lambda one: unit_hash("captions", one.unit))[:CLIPS]
    media = status.plan.layout.media
    text = (
        environment()
        .get_template("captions.html")
        .render(
            levels=_levels(rows),
            reasons=_reasons(rows).most_common(),
            again=sum(one["tries"] > 1 for one in every),
            saved=sum(one["tries"] > 1 and one["status"] == OK for one in every),
            took=_took(every),
            load=load,
            shares=load.shares,
            bound=bound(load),
            canaries=canary_words(load),
            worded=_worded(load),
            track=TRACK,
            clips=[_clip(one, media, clock) for one in shown],
            all_clips=len(answered),
        )
    )
    return Markup(text)  # noqa: S704 - the template has escaped every value


def _answered(status: Status) -> Iterator[Answered]:
    places = {at for at, stage in enumerate(status.plan.stages) if stage.name == CAPTIONS}
    return (one for one in status.found.answered if one.stage in places)


def _levels(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """(what, asked, captions) of whole clips, segments, and each ladder."""
    found: dict[str, list[bool]] = {"whole clips": [], "segments": []}
    for row in rows:
        name = "whole clips" if row.level == "clip" else "segments"
        found[name].append(row.outcome == OK)
        for step in row.columns.get("ladders") or ():
            found.setdefault(f"ladder {step['every']}", []).append(step["status"] == OK)
    return [(name, len(ok), sum(ok)) for name, ok in found.items() if ok]


def _reasons(rows: Sequence[Row]) -> Counter[str]:
    found = Counter(str(row.reason) for row in rows if row.reason)
    steps = [step for row in rows for step in row.columns.get("ladders") or ()]
    return found + Counter(step["status"] for step in steps if step["status"] != OK)


def _took(every: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(value, label) of what captions took, where anything was counted."""
    found = [(f"{len(every):,}", "questions answered")]
    written = [one["tokens_out"] for one in every if one.get("tokens_out")]
    read = [one["tokens_in"] for one in every if one.get("tokens_in")]
    seconds = [one["seconds"] for one in every if one.get("seconds")]
    cost = sum(one.get("cost") or 0 for one in every)
    if read:
        found.append((f"{sum(read) / len(read):,.0f}", "tokens read per caption"))
    if written:
        found.append((f"{sum(written) / len(written):.1f}", "tokens written per caption"))
    if seconds:
        found.append((f"{median(seconds):.2f} s", "from question to answer, median"))
    if cost:
        found.append((f"{cost:,.4g}", "cost, at the recipe's prices"))
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
