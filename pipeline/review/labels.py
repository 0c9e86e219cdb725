"""Labels: what people said of captions, as rows of a table in the corpus.

::

    CORPUS/tables/labels/1/part-<hash of its keys>.parquet

Each row is one statement and is durable at once; nothing is ever changed. Of what a reviewer said
of one caption the last statement counts, and one of them takes a label back. A label holds for the
caption with its binding only: a segment that is captioned anew has none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

from corpus.errors import UserError
from corpus.ids import content_id
from corpus.layout import Layout
from corpus.rows import Row
from pipeline.ledger.compaction import MANY, compact
from pipeline.ledger.lock import NAME, Lock
from pipeline.ledger.tables import Table, is_sorted

Judgement = Literal["accept", "reject", "none"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)
# Kinds of error, in the order of their keys on the page.
KINDS = {
    "wrong_object": "wrong object",
    "wrong_action": "wrong action",
    "wrong_time": "wrong time",
    "wrong_direction": "wrong direction",
    "missing": "something missing",
    "hallucinated": "hallucinated",
    "language": "language",
}
COLUMNS = pa.schema(
    [
        pa.field("reviewer", pa.string()),
        pa.field("binding", pa.string()),
        pa.field("label", pa.string()),
        pa.field("kinds", pa.list_(pa.string())),
        pa.field("at", pa.float64()),  # seconds since 1970
    ]
)
TRIES = 5


@dataclass(frozen=True)
class Label:
    """One statement of a reviewer about one caption.

    Attributes:
        binding: of the caption (`corpus.ids.binding`).
        label: ``none`` takes an earlier label back.
        kinds: of error, from `KINDS`; only of a rejected caption.
        at: seconds since 1970.
    """

    reviewer: str
    video_id: str
    clip_id: str
    segment_id: str
    binding: str
    label: Judgement
    kinds: tuple[str, ...]
    at: float

    @property
    def about(self) -> tuple[str, str]:
        """The caption: its segment and binding."""
        return self.segment_id, self.binding

    @property
    def key(self) -> str:
        return content_id("label", self.reviewer, *self.about, self.at)

    def row(self) -> Row:
        names = ("reviewer", "binding", "label", "at")
        columns: dict[str, Any] = {name: getattr(self, name) for name in names}
        columns["kinds"] = list(self.kinds)
        return Row("segment", self.clip_id, self.segment_id, columns=columns)

    @staticmethod
    def of(stored: dict[str, Any]) -> "Label":
        """From a stored row."""
        names = ("reviewer", "binding", "label", "at")
        return Label(
            video_id=stored["video"],
            clip_id=stored["parent"],
            segment_id=stored["id"],
            kinds=tuple(stored["kinds"]),
            **{name: stored[name] for name in names},
        )


class Labels:
    """The labels of a corpus."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._table = Table(layout.table("labels", "1"), COLUMNS)

    def write(self, labels: Sequence[Label]) -> None:
        """Make statements durable, in one part."""
        answers = [(one.key, one.video_id, [one.row()]) for one in labels]
        for left in reversed(range(TRIES)):
            try:
                self._table.write(answers)
                return
            except FileNotFoundError:  # a run that begins sweeps away what is being written
                if not left:
                    raise

    def read(self) -> list[Label]:
        """All statements, in the order in which they were made."""
        while True:
            try:
                parts = [self._table.load(name) for name in self._table.parts()]
                break
            except FileNotFoundError:
                continue  # it was sorted into another part
        found = {one["key"]: Label.of(one) for part in parts for one in part.to_pylist()}
        return [found[key] for key in sorted(found, key=lambda key: (found[key].at, key))]

    def standing(self) -> list[Label]:
        """The last judgement of every reviewer on every caption, without those taken back."""
        return standing(self.read())

    def tidy(self) -> None:
        """Sort many small parts into a few, unless a run holds the corpus or another did it."""
        loose = [name for name in self._table.parts() if not is_sorted(name)]
        if len(loose) < MANY or self._layout.store.has(NAME):
            return
        try:
            with Lock(self._layout.store):
                compact(self._table)
        except UserError:
            return  # a run began meanwhile: another day will do


def standing(labels: Iterable[Label]) -> list[Label]:
    """See `Labels.standing`; ``labels`` in the order in which they were made."""
    last = {(one.reviewer, *one.about): one for one in labels}
    return [last[key] for key in sorted(last) if last[key].label != "none"]
