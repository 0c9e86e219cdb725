"""What `tv2tv sweep` prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table as RichTable

from corpus.errors import UserError
from pipeline.ledger.status import Latest
from pipeline.sweep.items import STAGES, Level
from pipeline.sweep.thresholds import NEAR_DUPLICATE, Likeness, Scores, Sweep

SIGNS, HOW = (">=", "<="), ("alone", "with others")


@dataclass(frozen=True)
class Told:
    """What the command says."""

    level: Level
    sweeps: tuple[Sweep, ...]
    likeness: Likeness | None
    whole: bool
    waiting: int

    def to_json(self) -> dict[str, Any]:
        scores = [one.to_json() for one in self.sweeps]
        pairs = [self.likeness.to_json()] if self.likeness else []
        return {"level": self.level, "scores": [*scores, *pairs]}

    def shown(self) -> list[RichTable | str]:
        """For people."""
        if not self.whole:
            tables: list[RichTable | str] = [details(one) for one in self.sweeps]
            return [*tables, *([likeness_table(self.likeness)] if self.likeness else [])]
        if not self.sweeps and self.waiting:
            return [f"no {self.level} have scores yet, {self.waiting} records wait: run again"]
        if not self.sweeps:
            return [f"no {self.level} have scores: see `quality.use` of the recipe"]
        return [overview(self.sweeps), "one score by threshold: --score NAME"]


def tell(latest: Latest, level: str, score: str | None) -> Told:
    """All scores of a level, or one; near-duplicates are a score of clips, `NEAR_DUPLICATE`.

    Raises:
        UserError: no such level, or nothing has this score.
    """
    if level not in STAGES:
        raise UserError(f"{level} have no scores: choose from {', '.join(STAGES)}")
    known: Level = "clips" if level == "clips" else "segments"
    alike = known == "clips" and score in (None, NEAR_DUPLICATE)
    scores = Scores(latest.plan, known, signatures=alike)
    status = latest.count(scores.add)
    pairs = scores.likeness() if alike else None
    found = [] if score == NEAR_DUPLICATE and pairs else scores.sweeps(score)
    waiting = sum(status.waiting.values())
    return Told(known, tuple(found), pairs, score is None, waiting)


def overview(found: Sequence[Sweep]) -> RichTable:
    """One line a score, of 80 columns: how it is spread, and which thresholds hold."""
    shown = RichTable(box=None, pad_edge=False)
    for name in ("score", "least", "median", "most", "kept if", "alone", "with all"):
        words = name in ("score", "kept if")
        shown.add_column(name, justify="left" if words else "right", no_wrap=True)
    for one in found:
        least, _, median, _, most = one.spread
        spread = [f"{value:.3g}" for value in (least, median, most)]
        holds = [
            f"{sign} {value:g}"
            for sign, value in ((">=", one.at_least), ("<=", one.at_most))
            if value is not None
        ]
        alone = [
            str(getattr(step, side))
            for side, value in (("at_least", one.at_least), ("at_most", one.at_most))
            for step in one.steps
            if step.threshold == value
        ]
        shown.add_row(one.score, *spread, "\n".join(holds), "\n".join(alone), str(one.kept))
    return shown


def details(one: Sweep) -> RichTable:
    """One line a threshold of one score."""
    shown = RichTable(box=None, pad_edge=False)
    for name in (
        "threshold",
        "quantile",
        ">= alone",
        ">= with others",
        "<= alone",
        "<= with others",
    ):
        shown.add_column(name, justify="right")
    for step in one.steps:
        where = "in force" if step.quantile is None else f"{100 * step.quantile:g} %"
        kept = step.at_least, step.at_least_too, step.at_most, step.at_most_too
        shown.add_row(f"{step.threshold:.4g}", where, *map(str, kept))
    return shown


def likeness_table(found: Likeness) -> RichTable:
    """One line a threshold of likeness."""
    shown = RichTable(box=None, pad_edge=False)
    for name in ("likeness", "kept"):
        shown.add_column(name, justify="right")
    for value, kept in found.steps:
        mark = " in force" if value == found.holds else ""
        shown.add_row(f"{value:g}{mark}", str(kept))
    return shown
