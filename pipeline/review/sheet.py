"""A sample as a CSV sheet, for people who label in a spreadsheet; and such a sheet read back.

What the verdicts and other people say is not in it, as on the page.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.layout import Media
from pipeline.review.desk import Statement
from pipeline.review.labels import JUDGEMENTS, KINDS
from pipeline.review.sample import Clip

GIVEN = ("segment_id", "binding", "clip", "from", "to", "text")
FILLED = ("label", "kinds")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_sheet(clips: Iterable[Clip], media: Media) -> str:
    """One row for each caption, in the order of the page; ``label`` and ``kinds`` are empty.

    ``clip`` is a file to look at, ``from`` and ``to`` are seconds of it.
    """
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow((*GIVEN, *FILLED))
    for clip in clips:
        for one in clip.segments:
            if one["text"]:
                about = (one["id"], one["binding"], media.store.place(clip.media))
                rows.writerow([*about, *one["seconds"], _words(one["text"]), "", ""])
    return text.getvalue()


def _words(text: str) -> str:
    """As a spreadsheet shows it: what begins like a formula would be carried out."""
    return f"'{text}" if text.startswith(FORMULA) else text


def read_sheet(path: Path) -> list[Statement]:
    """What the rows say that have a label.

    Raises:
        UserError: no such file, columns that are missing, or what is no label or no kind of error.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"sheet {path} cannot be read: {error}") from error
    if missing := sorted({"segment_id", "binding", "label"} - set(reader.fieldnames or ())):
        raise UserError(
            f"{path} has no column {', '.join(missing)}: `tv2tv review CORPUS --sheet FILE` "
            "writes a sheet to fill"
        )
    found = [
        _statement(row, f"{path}, row {number}")
        for number, row in enumerate(rows, 2)
        if (row["label"] or "").strip()
    ]
    if not found:
        raise UserError(f"{path}: no row has a label; write accept or reject")
    return found


def _statement(row: dict[str, Any], where: str) -> Statement:
    said = row["label"].strip().lower()
    label = next((one for one in JUDGEMENTS if one == said), None)
    if label is None:
        raise UserError(f"{where}: {said!r} is no label; write {', '.join(JUDGEMENTS[:2])}")
    kinds = _kinds((row.get("kinds") or "").split(";"))
    if strange := sorted(set(kinds) - set(KINDS)):
        raise UserError(f"{where}: {strange[0]!r} is no kind of error: {', '.join(KINDS)}")
    if kinds and label != JUDGEMENTS[1]:
        raise UserError(f"{where}: kinds are of rejected captions, not of label {label}")
    return Statement(
        segment=row["segment_id"], binding=row["binding"] or "", label=label, kinds=kinds
    )


def _kinds(named: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(one.strip() for one in named if one.strip()))
