"""The table store: what stages answered, durable and named by content.

A *part* holds the rows of a few keys::

    CORPUS/tables/<stage>/<fingerprint>/part-<hash of its keys>.parquet

Its name is a pure function of its keys, so a repeated task finds or overwrites its own part. A key
may stand in two parts (two runs may batch differently); both then say the same and the first in
sorted order is read. There is no other record of progress: what has rows is done.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import UserError
from corpus.ids import content_id
from corpus.layout import Layout
from corpus.rows import Row, table_schema
from corpus.store import Folder, Store, store_at
from stages.stage import Stage

Answers = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Stored:
    """All answers of one stage under one fingerprint.

    Attributes:
        answers: rows by key.
        parts: name of the part file that each key was read from.
    """

    answers: dict[str, list[Row]]
    parts: dict[str, str]


@dataclass(frozen=True)
class Table:
    """One stage's answers under one fingerprint; its parts are files of ``folder``."""

    folder: Folder
    columns: pa.Schema

    @staticmethod
    def of(layout: Layout, stage: Stage) -> "Table":
        return Table(layout.table(stage.name, stage.fingerprint), stage.writes)

    @property
    def schema(self) -> pa.Schema:
        return table_schema(self.columns)

    @property
    def store(self) -> Store:
        return store_at(self.folder)

    def part(self, keys: Sequence[str]) -> str:
        """Name of the part that holds the answers to ``keys`` when they were answered together."""
        return f"part-{content_id(*keys)}.parquet"

    def has(self, part: str) -> bool:
        return self.store.has(part)

    def parts(self) -> list[str]:
        """Names of all parts, sorted."""
        return [name for name in self.store.names("part-") if name.endswith(".parquet")]

    def write(self, answers: Sequence[tuple[str, Sequence[Row]]]) -> dict[str, list[Row]]:
        """Make one part durable; return its rows as every later reader will see them.

        Raises:
            ValueError: a key twice or without rows, or columns that the stage did not declare.
        """
        table = self._table(answers)
        with self.store.writing(self.part([key for key, _ in answers])) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return _grouped(table)

    def read_part(self, part: str) -> dict[str, list[Row]]:
        """Rows of one part by key; UserError names a part that is corrupt or of another schema."""
        return self._read(part, self.store.local(part))

    def _read(self, part: str, path: Path) -> dict[str, list[Row]]:
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
            if not table.schema.equals(self.schema):
                raise ValueError("its columns are not those that the stage declares")
            return _grouped(table)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"table part {self.store.place(part)} cannot be read ({error}): delete this file "
                "and run again; only its own rows are computed anew"
            ) from error

    def read(self) -> Stored:
        """Everything that is durable."""
        stored = Stored({}, {})
        parts = self.parts()
        for part, path in zip(parts, self.store.locals(parts), strict=True):
            for key, rows in self._read(part, path).items():
                if key not in stored.answers:
                    stored.answers[key] = rows
                    stored.parts[key] = part
        return stored

    def forget(self, keys: Collection[str]) -> None:
        """Take answers back: each part that holds one is replaced by a part of its other keys.

        Only for the driver of a run, while no worker writes. A kill in between leaves keys that
        stand in two parts, or that are still to be forgotten.
        """
        if not keys:
            return
        for part in self.parts():
            answers = self.read_part(part)
            kept = [(key, rows) for key, rows in answers.items() if key not in keys]
            if len(kept) == len(answers):
                continue
            if kept:
                self.write(kept)
            self.store.remove(part)

    def _table(self, answers: Sequence[tuple[str, Sequence[Row]]]) -> pa.Table:
        keys = [key for key, _ in answers]
        if len(set(keys)) != len(keys):
            raise ValueError(f"{self.store.place()}: a key stands twice in one part")
        for key, rows in answers:
            _check(key, rows, set(self.columns.names))
        dicts = [row.to_dict(key) for key, rows in answers for row in rows]
        return pa.Table.from_pylist(dicts, schema=self.schema)


def _check(key: str, rows: Iterable[Row], declared: set[str]) -> None:
    """Every key is answered; an ok row has all of its stage's columns, an ended one any of them."""
    if not rows:
        raise ValueError(f"key {key} has no rows: a finished unit says at least how it ended")
    for row in rows:
        extra, missing = set(row.columns) - declared, declared - set(row.columns)
        if extra or (missing and row.outcome == "ok"):
            raise ValueError(
                f"row of {row.subject}: columns {sorted(extra)} are not declared, "
                f"{sorted(missing)} are missing"
            )


def _grouped(table: pa.Table) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for stored in table.to_pylist():
        groups.setdefault(stored["key"], []).append(Row.from_dict(stored))
    return groups
