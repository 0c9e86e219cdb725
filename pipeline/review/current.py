"""Labels beside the captions that stand now: a caption that was made anew has none."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.ledger.walk import Slice
from pipeline.review.labels import Label

CSV_COLUMNS = ("segment_id", "binding", "accepted", "kinds", "reviewer", "label", "text")


@dataclass(frozen=True)
class Judged:
    """A label of a caption that stands, and what the machine says of it."""

    label: Label
    text: str
    verdict: str


def current(labels: Iterable[Label], slices: Iterable[Slice]) -> list[Judged]:
    """Those of the labels whose captions are among the finished clips, in their order."""
    given = list(labels)
    wanted = {one.about for one in given}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for part in slices if wanted else ():
        for record in part.found.finished:
            for segment in record["segments"]:
                about = segment["segment_id"], segment["binding"]
                if about in wanted:
                    found[about] = segment["text"] or "", segment["verdict"]
    return [Judged(one, *found[one.about]) for one in given if one.about in found]


def to_csv(judged: Iterable[Judged]) -> str:
    """As `tv2tv classifier fit` reads it: ``accepted`` is 1 or 0, kinds joined by semicolons."""
    text = io.StringIO()
    rows = csv.writer(text)  # RFC 4180: a line's end within a text is in quotes, whichever it is
    rows.writerow(CSV_COLUMNS)
    for one in sorted(judged, key=lambda one: (*one.label.about, one.label.reviewer)):
        label = one.label
        kinds = ";".join(label.kinds)
        accepted = int(label.label == "accept")
        rows.writerow([*label.about, accepted, kinds, label.reviewer, label.label, one.text])
    return text.getvalue()
