"""`report`: one self-contained HTML page about the latest run of a corpus.

Everything that comes from outside (captions, file names, messages) is escaped by the template; the
page loads nothing and runs nothing, and its content security policy says so to the browser.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from corpus.files import write_text
from corpus.layout import TOOL_VERSION
from corpus.rows import OUTCOMES
from corpus.store import Store
from pipeline.ledger.conservation import NOT_OK, PENDING, Counts
from pipeline.ledger.status import Status, latest
from pipeline.pages.activity import draw as activity_lanes
from pipeline.pages.activity import read_activity, verdict
from pipeline.pages.calibrated import calibration_part
from pipeline.pages.charts import LEGEND, Chart, draw, of_spread
from pipeline.pages.clip_cards import card, render, style
from pipeline.pages.gathered import Gathered
from pipeline.pages.html import environment
from pipeline.pages.labels import labels_part
from pipeline.pages.thumbnails import Thumbnails
from pipeline.sweep.spread import Spread
from pipeline.telemetry.events import read_events

EVENTS = "events.jsonl"
BARS = (*OUTCOMES, PENDING)


@dataclass(frozen=True)
class Bar:
    """One level of the funnel: (outcome, count, percent of its inputs)."""

    name: str
    inputs: int
    parts: tuple[tuple[str, int, float], ...]


def write_report(corpus: Path | str, *, clips: int = 24, out: Path | None = None) -> str:
    """Write the page and return its path or URI.

    Args:
        clips: at most so many clips are shown in pictures.
        out: by default ``report.html`` in the folder of the latest run.
    """
    run = latest(corpus)
    gathered = Gathered(run.plan, clips)
    status = run.count(gathered.add)
    text = page(status, gathered)
    if out is not None:
        write_text(out, text)
        return str(out)
    _folder(status).write_text("report.html", text)
    return _folder(status).place("report.html")


def page(status: Status, gathered: Gathered) -> str:
    """The page as text."""
    place, clock = status.plan.layout, status.plan.recipe.clock.clock()
    activity = read_activity(_log(status))
    shown = gathered.shown
    return (
        environment()
        .get_template("report.html")
        .render(
            name=place.store.place().rstrip("/").rpartition("/")[2],
            run=status.run,
            recipe=status.plan.recipe.name,
            version=TOOL_VERSION,
            style=style(),
            tiles=tiles(gathered),
            outcomes=BARS,
            levels=bars(status.counts),
            endings=status.endings,
            waiting=status.waiting,
            ignored=status.listing.ignored,
            decoding=status.sums.decoding,
            files=gathered.files,
            listed=len(status.listing.sources),
            activity=activity,
            lanes=activity_lanes(activity),
            bound=verdict(activity),
            densities=gathered.densities.rows(),
            labels=labels_part(status.plan, status.listing),
            calibrated=calibration_part(_folder(status)),
            charts=[(chart, draw(chart)) for chart in charts(gathered)],
            rejects=gathered.rejects.groups(Thumbnails()),
            flagged=gathered.round_trips.worst(place.media),
            captions=gathered.captions.render(_log(status)),
            shown=len(shown),
            finished=gathered.clips.count,
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


def charts(gathered: Gathered) -> list[Chart]:
    """Lengths of what finished, then scores with their thresholds."""
    clips, segments, words = gathered.clips, gathered.segments, gathered.words
    drawn = [
        of_spread("clips: length", f"seconds; {_middle(clips)}", clips),
        of_spread("segments: length", f"seconds; {_middle(segments)}", segments),
        of_spread("kept captions: words", _middle(words), words),
    ]
    for one in (one for scores in gathered.scores for one in scores.histograms()):
        meaning = LEGEND[one.level].get(one.score, "")
        bounds = one.at_least, one.at_most
        drawn.append(Chart(f"{one.level}: {one.score}", meaning, one.edges, one.counts, *bounds))
    trips = gathered.round_trips
    title, about = f"latents of {trips.codec}: PSNR", f"dB; {_middle(trips.psnrs)}"
    drawn.append(replace(of_spread(title, about, trips.psnrs), floor=trips.floor))
    return [chart for chart in drawn if sum(chart.counts)]


def _middle(values: Spread) -> str:
    if not values.count:
        return "none"
    return f"mean {values.mean:.2f}, median {values.quantiles([0.5])[0]:.2f}"


def tiles(gathered: Gathered) -> list[tuple[str, str]]:
    """(value, label) of the numbers that matter."""
    clips, words, trips = gathered.clips, gathered.words, gathered.round_trips
    seconds, kept = clips.mean * clips.count if clips.count else 0.0, words.count
    found = [
        (f"{clips.count:,}", "clips"),
        (duration(seconds), "of video"),
        (f"{kept:,}", f"captions kept, of {gathered.segments.count:,}"),
    ]
    if kept:
        found += [
            (f"{seconds / kept:.2f} s", "per kept caption"),
            (f"{words.mean:.1f}", "words per caption"),
            (f"{gathered.texts.count / kept:.0%}", "of captions are distinct"),
        ]
    if trips.psnrs.count:
        middle = trips.psnrs.quantiles([0.5])[0]
        found.append((f"{middle:.1f} dB", f"median latent PSNR of {trips.psnrs.count:,} clips"))
    if trips.flagged and trips.floor is not None:
        found.append((f"{trips.flagged:,}", f"clips with a latent PSNR under {trips.floor:g} dB"))
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
