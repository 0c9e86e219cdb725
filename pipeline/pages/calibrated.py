"""The report's part on calibration: in short, what `tv2tv calibrate` left beside the latest run."""

from dataclasses import dataclass

from markupsafe import Markup
from pydantic import TypeAdapter

from corpus.errors import UserError
from corpus.store import Store

FILE = "calibration.json"
SCORES = 4  # shown, the best of them


@dataclass(frozen=True)
class Part:
    """
    Attributes:
        rows: scores with their AUROC by kind of damage as words, words alone last.
        chart: what thresholds on the best score keep; its lines in `paint`, by kind.
        notes: what it all rests on.
    """

    kinds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    best: str | None
    chart: Markup
    paint: dict[str, str]
    notes: tuple[str, ...]


def calibration_part(run: Store) -> Part | None:
    """None for a run that was not calibrated; UserError where the file is damaged."""
    if not run.has(FILE):
        return None
    from pipeline.calibration import page  # with scipy, which nothing else here needs
    from pipeline.calibration.calibrate import WORDS, Calibration
    from pipeline.calibration.curves import colours, draw

    try:
        found = TypeAdapter(Calibration).validate_json(run.read_text(FILE))
    except ValueError as error:  # a ValidationError is one
        raise UserError(
            f"{run.place(FILE)} is not what this version writes: calibrate again, or remove it"
        ) from error
    scores, kinds = page.ordered(found.scores), tuple(page.judged_kinds(found))
    shown = [one for one in scores if one.score != WORDS][:SCORES]
    shown += [one for one in scores if one.score == WORDS]
    best = next((one for one in scores if one.score == found.best), None)
    thresholds = {one.score: one.value for one in found.filters if one.least}
    return Part(
        kinds,
        tuple((one.score, tuple(page.short(one.aurocs[kind]) for kind in kinds)) for one in shown),
        found.best,
        draw(best, kinds, thresholds.get(best.score)) if best else Markup(""),
        colours(kinds),
        tuple(page.notes(found)),
    )
