"""`report`: one self-contained HTML page about the latest run of a corpus.

Everything that comes from outside (captions, file names, messages) is escaped by the template; the
page loads nothing and runs nothing, and its content security policy says so to the browser.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from corpus.captions import KEEP
from corpus.clock import Clock
from corpus.files import write_text
from corpus.ids import unit_hash
from corpus.layout import TOOL_VERSION
from corpus.rows import OUTCOMES
from corpus.store import Store
from pipeline.ledger.conservation import NOT_OK, PENDING, Counts, fates
from pipeline.ledger.endings import last_words
from pipeline.ledger.status import Status, read_status
from pipeline.pages.activity import draw as activity_lanes
from pipeline.pages.activity import read_activity, verdict
from pipeline.pages.captions import captions_part
from pipeline.pages.charts import LEGEND, Chart, draw, of_values
from pipeline.pages.clip_cards import card, render, style
from pipeline.pages.densities import densities
from pipeline.pages.html import environment
from pipeline.pages.labels import labels_part
from pipeline.pages.rejects import rejects
from pipeline.pages.thumbnails import Thumbnails
from pipeline.sweep.thresholds import histograms
from pipeline.telemetry.events import read_events
from stages.stage import Record

EVENTS = "events.jsonl"
MAX_FILES = 200
BARS = (*OUTCOMES, PENDING)


@dataclass(frozen=True)
class Bar:
    """One level of the funnel: (outcome, count, percent of its inputs)."""

    name: str
    inputs: int
    parts: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class File:
    """One listed file and what came of it."""

    uri: str
    outcome: str
    reason: str
    clips: int
    seconds: float


def write_report(corpus: Path | str, *, clips: int = 24, out: Path | None = None) -> str:
    """Write the page and return its path or URI.

    Args:
        clips: at most so many clips are shown in pictures.
        out: by default ``report.html`` in the folder of the latest run.
    """
    status = read_status(corpus)
    text = page(status, clips)
    if out is not None:
        write_text(out, text)
        return str(out)
    _folder(status).write_text("report.html", text)
    return _folder(status).place("report.html")


def page(status: Status, clips: int) -> str:
    """The page as text."""
    place, clock = status.plan.layout, status.plan.recipe.clock.clock()
    activity = read_activity(_log(status))
    finished = status.found.finished
    shown = choose(finished, clips)
    return (
        environment()
        .get_template("report.html")
        .render(
            name=place.store.place().rstrip("/").rpartition("/")[2],
            run=status.run,
            recipe=status.plan.recipe.name,
            version=TOOL_VERSION,
            style=style(),
            tiles=tiles(finished, clock),
            outcomes=BARS,
            levels=bars(status.counts),
            endings=status.endings,
            waiting=status.waiting,
            ignored=status.listing.ignored,
            files=files(status, clock),
            listed=len(status.listing.sources),
            activity=activity,
            lanes=activity_lanes(activity),
            bound=verdict(activity),
            densities=densities(status.plan, status.listing),
            labels=labels_part(status.plan, status.listing),
            charts=[(chart, draw(chart)) for chart in charts(status, clock)],
            rejects=rejects(status, Thumbnails()),
            captions=captions_part(status, _log(status)),
            shown=len(shown),
            finished=len(finished),
            cards=render(card(record, place.media, clock) for record in shown),
        )
    )


def _folder(status: Status) -> Store:
    return status.plan.layout.runs.at(status.run)


def _log(status: Status) -> Path:
    """The events of the latest run that did any work: one that found all done has none to show."""
    runs = status.plan.layout.runs
    logs = [name for name in runs.names() if name.endswith(f"/{EVENTS}")]
    for name in reversed(logs):
        path = runs.local(name)
        if any(one["event"] == "batch" for one in read_events(path)):
            return path
    return _folder(status).local(EVENTS)


def charts(status: Status, clock: Clock) -> list[Chart]:
    """Lengths of what finished, then scores with their thresholds."""
    finished = status.found.finished
    second = clock.chunk_seconds
    segments = [segment for record in finished for segment in record["segments"]]
    clips = [record["chunks"] * second for record in finished]
    lengths = [(segment["b"] - segment["a"]) * second for segment in segments]
    kept = [one["text"] for one in segments if one.get("verdict") == KEEP and one.get("text")]
    words = [float(len(text.split())) for text in kept]
    drawn = [
        of_values("clips: length", f"seconds; {_middle(clips)}", clips),
        of_values("segments: length", f"seconds; {_middle(lengths)}", lengths),
        of_values("kept captions: words", _middle(words), words),
    ]
    scored = {"filters", "verdicts"} <= {stage.name for stage in status.plan.stages}
    for one in histograms(status) if scored else ():
        meaning = LEGEND[one.level].get(one.score, "")
        bounds = one.at_least, one.at_most
        drawn.append(Chart(f"{one.level}: {one.score}", meaning, one.edges, one.counts, *bounds))
    return [chart for chart in drawn if sum(chart.counts)]


def _middle(values: Sequence[float]) -> str:
    return f"mean {mean(values):.2f}, median {median(values):.2f}" if values else "none"


def choose(records: Sequence[Record], count: int) -> list[Record]:
    """At most ``count`` records, drawn by the hash of their ids, every file once before any twice;
    in the order of their films."""
    drawn = sorted(records, key=lambda record: unit_hash("report", record["clip_id"]))
    turns: Counter[str] = Counter()
    turn: dict[str, int] = {}
    for record in drawn:
        turn[record["clip_id"]] = turns[record["video_id"]]
        turns[record["video_id"]] += 1
    first = sorted(drawn, key=lambda record: turn[record["clip_id"]])[:count]
    return sorted(first, key=lambda record: (record["uri"], record["start"], record["clip_id"]))


def tiles(records: Sequence[Record], clock: Clock) -> list[tuple[str, str]]:
    """(value, label) of the numbers that matter."""
    seconds = sum(record["chunks"] for record in records) * clock.chunk_seconds
    segments = [segment for record in records for segment in record["segments"]]
    kept = [s["text"] for s in segments if s.get("verdict") == KEEP and s.get("text")]
    psnrs = [record["psnr"] for record in records if record.get("psnr") is not None]
    found = [
        (f"{len(records):,}", "clips"),
        (duration(seconds), "of video"),
        (f"{len(kept):,}", f"captions kept, of {len(segments):,}"),
    ]
    if kept:
        words = sum(len(text.split()) for text in kept)
        found += [
            (f"{seconds / len(kept):.2f} s", "per kept caption"),
            (f"{words / len(kept):.1f}", "words per caption"),
            (f"{len(set(kept)) / len(kept):.0%}", "of captions are distinct"),
        ]
    if psnrs:
        found.append((f"{median(psnrs):.1f} dB", f"median latent PSNR of {len(psnrs)} clips"))
    return found


def duration(seconds: float) -> str:
    """``1.2 h``, ``3.4 min`` or ``5.0 s``."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def bars(counts: Counts) -> list[Bar]:
    """The funnel."""
    found = []
    for name, level in counts.items():
        numbers = {"ok": level.ok, "pending": level.pending}
        numbers |= {kind: getattr(level, kind).total() for kind in NOT_OK}
        parts = [(o, numbers[o], 100 * numbers[o] / level.inputs) for o in BARS if numbers[o]]
        found.append(Bar(name, level.inputs, tuple(parts)))
    return found


def files(status: Status, clock: Clock) -> list[File]:
    """Listed files, those that ended early first; at most `MAX_FILES`."""
    fate = fates(status.listing.sources, status.plan.stages, status.found)
    own, borrowed = last_words(status.found)
    clips: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for record in status.found.finished:
        clips[record["video_id"]] += 1
        chunks[record["video_id"]] += record["chunks"]
    found = []
    for source in status.listing.sources:
        if source.outcome != "ok" or source.video_id is None:
            why = _why(source.reason, source.message)
            found.append(File(source.uri, source.outcome, why, 0, 0.0))
        else:
            video, end = source.video_id, fate[source.video_id]
            why = _why(end.reason, own.get(video) or borrowed.get(video))
            seconds = chunks[video] * clock.chunk_seconds
            found.append(
                File(source.uri, end.outcome, why if end.reason else "", clips[video], seconds)
            )
    return sorted(found, key=lambda file: (file.outcome == "ok", file.uri))[:MAX_FILES]


def _why(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)
