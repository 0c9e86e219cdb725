"""The page of a calibration, and the table that is printed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from rich.table import Table as RichTable

from corpus.files import write_text
from corpus.layout import TOOL_VERSION, open_corpus
from pipeline.calibration.calibrate import SILENT, WORDS, Calibration, Told
from pipeline.calibration.curves import colours, draw
from pipeline.calibration.filters import ALL, TRUE
from pipeline.calibration.statistics import Auroc, Step
from pipeline.pages.charts import SEGMENTS
from pipeline.pages.clip_cards import style
from pipeline.pages.html import environment

NAME = "calibration"
ROWS = 9  # thresholds of a score that the page lists
MEANING = {
    **SEGMENTS,
    WORDS: "no score: what the words of a caption give away without any picture",
}


@dataclass(frozen=True)
class Score:
    """A score as the page shows it.

    Attributes:
        cells: AUROC by kind, with how strong its colour is, 0 to 1.
    """

    told: Told
    meaning: str
    cells: tuple[tuple[Auroc, float], ...]
    chart: Markup
    steps: tuple[Step, ...]


def write(found: Calibration, out: Path | None = None) -> list[str]:
    """Write the page and its JSON, and return where they are.

    Args:
        out: folder; by default that of the latest run.
    """
    texts = {
        f"{NAME}.html": page(found),
        f"{NAME}.json": json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n",
    }
    if out is not None:
        for name, text in texts.items():
            write_text(out / name, text)
        return [str(out / name) for name in texts]
    _, layout = open_corpus(found.corpus)
    folder = layout.runs.at(found.run)
    for name, text in texts.items():
        folder.write_text(name, text)
    return [folder.place(name) for name in texts]


def page(found: Calibration) -> str:
    """One page; everything in it is escaped, and it loads nothing."""
    kinds = judged_kinds(found)
    thresholds = {one.score: one.value for one in found.filters if one.least}
    scores = [_score(one, kinds, thresholds.get(one.score)) for one in ordered(found.scores)]
    return (
        environment()
        .get_template(f"{NAME}.html")
        .render(
            name=found.corpus.rstrip("/").rpartition("/")[2],
            found=found,
            version=TOOL_VERSION,
            style=style(),
            kinds=kinds,
            paint=colours(kinds),
            all=ALL,
            truth=TRUE,
            words=WORDS,
            silent=SILENT,
            scores=scores,
            filters=found.filters,
            meanings=MEANING,
        )
    )


def ordered(scores: Sequence[Told]) -> list[Told]:
    """The best first, the yardstick last."""
    return sorted(scores, key=lambda one: (one.score == WORDS, -one.aurocs[ALL].value, one.score))


def table(found: Calibration) -> RichTable:
    """AUROC of every score by kind of damage, for a terminal."""
    kinds = [ALL, *judged_kinds(found)]
    shown = RichTable(box=None, pad_edge=False)
    shown.add_column("score", no_wrap=True)
    for kind in kinds:
        shown.add_column(kind.replace("_", " "), justify="right", overflow="fold")
    for one in ordered(found.scores):
        shown.add_row(one.score, *(short(one.aurocs[kind]) for kind in kinds))
    return shown


def filter_table(found: Calibration) -> RichTable:
    """What thresholds reject, for a terminal."""
    shown = RichTable(box=None, pad_edge=False)
    for name in ("filter", "", "true rejected", "damaged rejected", "damaged, first to"):
        words = name in ("filter", "")
        shown.add_column(name, justify="left" if words else "right", no_wrap=words)
    for one in found.filters:
        shares = one.true, one.damaged[ALL], one.first[ALL]
        kind = "proposed" if one.proposed else "in force"
        shown.add_row(one.rule, kind, *(f"{share:.1%}" for share in shares))
    together = 1 - found.passes[TRUE], 1 - found.passes[ALL]
    shown.add_row("any of them", "", *(f"{share:.1%}" for share in together), "")
    return shown


def notes(found: Calibration) -> list[str]:
    """What the numbers rest on, in sentences."""
    said = [
        f"{found.captions:,} accepted captions of {found.clips:,} clips from {found.videos:,} "
        f"videos; at rate {found.rate:g} damaged: "
        + ", ".join(f"{kind} {count:,}" for kind, count in found.counts.items())
    ]
    if found.left_out:
        said.append(f"{found.left_out:,} videos that the scorer was trained on are left out")
    if found.untold:
        said.append(f"nothing here can be damaged by {', '.join(found.untold)}")
    if SILENT in found.counts:
        said.append(f"{SILENT} leaves no text, so there is nothing to score: it is counted only")
    if any(auroc.low is None for one in found.scores for auroc in one.aurocs.values()):
        said.append("no intervals where there are fewer than 5 videos")
    return said


def judged_kinds(found: Calibration) -> list[str]:
    """Kinds of damage that leave something to judge."""
    return [kind for kind in found.counts if kind != SILENT]


def short(auroc: Auroc) -> str:
    """Without zeros in front, so that the table fits a terminal of 80 columns."""
    value = f"{auroc.value:.3f}".removeprefix("0")
    if auroc.low is None or auroc.high is None:
        return value
    wider = max(auroc.high - auroc.value, auroc.value - auroc.low)
    return f"{value} ±{wider:.3f}".replace("±0", "±")


def _score(told: Told, kinds: Sequence[str], threshold: float | None) -> Score:
    cells = tuple((told.aurocs[kind], _strength(told.aurocs[kind])) for kind in (ALL, *kinds))
    picked = told.steps
    if len(picked) > ROWS:
        places = [round(n * (len(picked) - 1) / (ROWS - 1)) for n in range(ROWS)]
        picked = tuple(picked[place] for place in places)
    meaning = MEANING.get(told.score, "")
    return Score(told, meaning, cells, draw(told, kinds, threshold), picked)


def _strength(auroc: Auroc) -> float:
    return abs(2 * auroc.value - 1)
