"""Rows: what a stage says about the entities it met, and how tables store it.

An *entity* is a video, a shot, a clip or a segment. Every row is about one entity:

* a row with an ``id`` creates that entity or adds to what is known of it;
* a row without an ``id`` says that ``parent`` ended here and has no children.

Zero outputs is thereby a finished state like any other; conservation counts with these two rules.
"""

from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal

import pyarrow as pa

Level = Literal["video", "shot", "clip", "segment"]
Outcome = Literal["ok", "filtered", "failed", "quarantined"]
LEVELS: tuple[Level, ...] = ("video", "shot", "clip", "segment")
OUTCOMES: tuple[Outcome, ...] = ("ok", "filtered", "failed", "quarantined")

COMMON = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # the unit of work this row came from
        pa.field("video", pa.string(), nullable=False),  # id of the video that this is all about
        pa.field("level", pa.string(), nullable=False),
        pa.field("parent", pa.string()),
        pa.field("id", pa.string()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("score", pa.float64()),
    ]
)
SAID = tuple(name for name in COMMON.names if name not in ("key", "video"))
_COMMON = frozenset(COMMON.names)


@dataclass(frozen=True)
class Row:
    """One statement about one entity; see the module's text.

    Attributes:
        level: the level of the entity that ``id`` names (or would have named).
        parent: id of the entity one level up.
        id: the entity, or None when the parent ended here.
        reason: one word from the stage's vocabulary; the key of every count.
        message: a sentence for a person.
        score: the number that a filter judged.
        columns: the stage's own columns, as its schema says.
    """

    level: Level
    parent: str | None
    id: str | None
    outcome: Outcome = "ok"
    reason: str | None = None
    message: str | None = None
    score: float | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.outcome == "ok") != (self.reason is None):
            raise ValueError(
                f"{self.outcome} row of {self.id or self.parent}: reason={self.reason!r}"
            )
        if self.id is None and (self.parent is None or self.outcome == "ok"):
            raise ValueError("a row without an id ends its parent and says why")

    @property
    def subject(self) -> str:
        """The entity this row's outcome belongs to."""
        return self.id if self.id is not None else str(self.parent)

    def to_dict(self, key: str, video: str) -> dict[str, Any]:
        """The row as its table stores it."""
        common = {name: getattr(self, name) for name in SAID}
        return {"key": key, "video": video, **common, **self.columns}

    @staticmethod
    def read(stored: pa.Table) -> list["Row"]:
        """The rows that a table stores. By columns, for a corpus has them by the million."""
        own = [name for name in stored.column_names if name not in _COMMON]
        said = (stored[name].to_pylist() for name in SAID)
        values = zip(*(stored[name].to_pylist() for name in own), strict=True)
        every = values if own else repeat((), stored.num_rows)
        return [
            Row(
                *(level, parent, name, outcome, reason, message, score),
                columns=dict(zip(own, some, strict=True)),
            )
            for level, parent, name, outcome, reason, message, score, some in zip(
                *said, every, strict=True
            )
        ]


def table_schema(columns: pa.Schema) -> pa.Schema:
    """COMMON plus a stage's own columns; every own column may be null (an ended row has none)."""
    return pa.schema([*COMMON, *(f.with_nullable(True) for f in columns)])
