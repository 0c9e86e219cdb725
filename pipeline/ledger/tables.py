"""The table store: what stages answered, durable and named by content.

A *part* holds the rows of a few keys, or of many::

    CORPUS/tables/<stage>/<fingerprint>/part-<hash of its keys>.parquet
    CORPUS/tables/<stage>/<fingerprint>/sorted-<hash>.parquet

Workers write the first kind; its name is a pure function of its keys, so a repeated task finds or
overwrites its own part. The second is made of others (`compaction`). A key may stand in
two parts (two runs may batch differently); both then say the same and the first in sorted order is
read. There is no other record of progress: what has rows is done.

Every key belongs to one video, whose id stands beside it: what is asked of a corpus is asked video
by video (`pipeline.ledger.shelf`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.errors import UserError
from corpus.ids import content_id
from corpus.layout import Layout
from corpus.rows import Row, table_schema
from corpus.store import Folder, Store, store_at
from stages.stage import Stage

LOOSE, SORTED, ENDING = "part-", "sorted-", ".parquet"
WRITING: Any = {"compression": "zstd", "write_page_checksum": True}
Answers = Mapping[str, Sequence[Row]]
Answer = tuple[str, str, Sequence[Row]]  # a key, the id of its video, and rows


def is_sorted(part: str) -> bool:
    return part.startswith(SORTED)


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

    # -- parts ------------------------------------------------------------------------------

    def part(self, keys: Sequence[str]) -> str:
        """Name of the part that holds the answers to ``keys`` when they were answered together."""
        return f"{LOOSE}{content_id(*keys)}{ENDING}"

    def has(self, part: str) -> bool:
        return self.store.has(part)

    def parts(self) -> list[str]:
        """Names of all parts, sorted."""
        return list(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Bytes of all parts by name, in order."""
        found = {name: stat.size for name, stat in self.store.files().items()}
        return {n: s for n, s in found.items() if n.startswith((LOOSE, SORTED)) and ENDING in n}

    def write(self, answers: Sequence[Answer]) -> dict[str, list[Row]]:
        """Make one part durable; return its rows as every later reader will see them.

        Raises:
            ValueError: a key twice or without rows, or columns that the stage did not declare.
        """
        rows = self._table(answers)
        self.save(self.part([key for key, _, _ in answers]), rows)
        return self.grouped(rows)

    def save(self, part: str, rows: pa.Table) -> None:
        with self.store.writing(part) as temporary:
            pq.write_table(rows, temporary, **WRITING)

    def load(
        self,
        part: str,
        groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """A part, or some of its row groups and columns.

        Raises:
            FileNotFoundError: it is not there, or no more.
            UserError: names a part that is corrupt or of another schema.
        """
        with self._reading(part), self.open(part) as file:
            if groups is None:
                return file.read(columns=columns)
            return file.read_row_groups(list(groups), columns=columns)

    def open(self, part: str) -> pq.ParquetFile:
        """A part to read pieces of; raises as `load`."""
        with self._reading(part):
            file = pq.ParquetFile(self.store.local(part), page_checksum_verification=True)
            if not file.schema_arrow.equals(self.schema):
                file.close()
                raise ValueError("its columns are not those that the stage declares")
            return file

    def read_part(self, part: str) -> dict[str, list[Row]]:
        """Rows of one part by key; raises as `load`."""
        return self.grouped(self.load(part))

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        """Turns what a damaged part raises into a UserError that names it."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"table part {self.store.place(part)} cannot be read ({error}): delete this file "
                "and run again; only its own rows are computed anew"
            ) from error

    def forget(self, keys: Collection[str]) -> None:
        """Take answers back: each part that holds one is replaced by a part of its other keys.

        Only for the driver of a run, while no worker writes. A kill in between leaves keys that
        stand in two parts, or that are still to be forgotten.
        """
        if not keys:
            return
        for part in self.parts():
            held = dict.fromkeys(self.load(part, columns=["key"])["key"].to_pylist())
            gone = [key for key in held if key in keys]
            if gone:
                self._without(part, gone, [key for key in held if key not in keys])
                self.store.remove(part)

    def _without(self, part: str, gone: Sequence[str], kept: Sequence[str]) -> None:
        """Write anew what a part holds but for some keys, group by group."""
        if not kept:
            return
        name = f"{SORTED}{content_id(part, *gone)}{ENDING}" if is_sorted(part) else self.part(kept)
        dropped = pa.array(gone, pa.string())
        with (
            self.open(part) as file,
            self.store.writing(name) as temporary,
            pq.ParquetWriter(temporary, self.schema, **WRITING) as writer,
        ):
            for group in range(file.num_row_groups):
                with self._reading(part):
                    rows = file.read_row_group(group)
                rows = rows.filter(pc.invert(pc.is_in(rows["key"], dropped)))
                if rows.num_rows:
                    writer.write_table(rows)

    # -- rows -------------------------------------------------------------------------------

    def grouped(self, rows: pa.Table) -> dict[str, list[Row]]:
        """Rows by key."""
        groups: dict[str, list[Row]] = {}
        for key, row in zip(rows["key"].to_pylist(), Row.read(rows), strict=True):
            groups.setdefault(key, []).append(row)
        return groups

    def _table(self, answers: Sequence[Answer]) -> pa.Table:
        keys = [key for key, _, _ in answers]
        if len(set(keys)) != len(keys):
            raise ValueError(f"{self.store.place()}: a key stands twice in one part")
        for key, _, rows in answers:
            _check(key, rows, set(self.columns.names))
        dicts = [row.to_dict(key, video) for key, video, rows in answers for row in rows]
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
