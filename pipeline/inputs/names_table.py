"""The table ``sources``: which files were named before, so that none is read twice."""

import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import UserError
from corpus.store import Store
from pipeline.inputs.fetching import Known
from pipeline.inputs.sources import Source
from pipeline.inputs.uris import is_remote, stored

FILE = "sources.parquet"
SAVE_SECONDS = 10.0  # about as much of naming may be lost in a kill
_COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("video_id", pa.string()),
        ("version", pa.string()),
    ]
)


class NamesTable:
    """What was named before: local files by path, size and mtime; remote ones by URI."""

    def __init__(self, table: Store) -> None:
        self._table = table
        self._rows = {_place(row): row for row in _read(table)}
        self._saved, self._changed = time.monotonic(), False

    def near(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Name of a local file in this state."""
        row = self._rows.get((path, size, mtime_ns))
        return None if row is None else row["video_id"]

    def far(self, uri: str) -> Known | None:
        """A remote file as it was last."""
        row = self._rows.get((stored(uri), -1, -1))
        if row is None:
            return None
        return Known(row["size"], row["mtime_ns"], row["version"], row["video_id"])

    def forget(self, sources: Iterable[Source]) -> None:
        """Forget all that is known of these files."""
        paths = {stored(source.path) for source in sources}
        self._rows = {place: row for place, row in self._rows.items() if place[0] not in paths}
        self._changed = True

    def remember(self, source: Source) -> None:
        """Add what was found, and save it now and then: to write all of it takes its time."""
        tells = source.version is not None or not is_remote(source.path)
        if source.video_id is None or not tells:
            return
        row = {name: getattr(source, name) for name in _COLUMNS.names}
        row["path"] = stored(source.path)
        self._changed |= self._rows.get(_place(row)) != row
        self._rows[_place(row)] = row
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        if not self._changed:
            return
        rows = [row for _, row in sorted(self._rows.items())]
        with self._table.writing(FILE) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=_COLUMNS), temporary)
        self._saved, self._changed = time.monotonic(), False


def _read(table: Store) -> list[dict[str, Any]]:
    if not table.has(FILE):
        return []
    try:
        return pq.read_table(table.local(FILE), schema=_COLUMNS).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{table.place(FILE)} cannot be read ({error}): delete this file and run again; "
            "all inputs are then read anew to name them"
        ) from error


def _place(row: dict[str, Any]) -> tuple[str, int, int]:
    """Rows for other states of a local file stay (it may come back); of a remote one the last."""
    far = is_remote(row["path"])
    return row["path"], *((-1, -1) if far else (row["size"], row["mtime_ns"]))
