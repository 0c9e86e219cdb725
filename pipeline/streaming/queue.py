"""Records that wait, as files that all workers can read: they need no room in any memory."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.store import Store
from pipeline.ledger.replay import Waiting
from pipeline.streaming.flow import flow
from stages.stage import Record

FILE_ROWS = 512
ORDER = pa.schema([("name", pa.string()), ("start", pa.int64()), ("size", pa.int64())])
Named = tuple[int, str]  # position of a stage, and a key


@dataclass(frozen=True)
class Backlog:
    """Files of a queue, each with its number of records."""

    store: Store
    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return sum(rows for _, rows in self.files)

    def orders(self, size: int) -> list[pa.Table]:
        """All records in orders for at most ``size`` each: see `taken`."""
        return [
            pa.table([[name], [start], [size]], schema=ORDER)
            for name, rows in self.files
            for start in range(0, rows, size)
        ]


def taken(orders: pa.Table, store: Store) -> Iterator[pa.Table]:
    """The records that orders name, as `pipeline.streaming.flow`."""
    for order in orders.to_pylist():
        yield pq.read_table(store.local(order["name"])).slice(order["start"], order["size"])


class Queue:
    """Collects records in files of a store, which it clears first.

    Attributes:
        digest: the same for the same records, whatever their order.
    """

    def __init__(self, store: Store, but: Collection[Named] = ()) -> None:
        """
        Args:
            but: records to leave out.
        """
        store.clear()
        self._store, self._but = store, set(but)
        self._files: dict[int, list[tuple[str, int]]] = {}
        self._open: dict[int, list[Record]] = {}
        self.digest = 0

    def __len__(self) -> int:
        return sum(rows for files in self._files.values() for _, rows in files)

    @property
    def stages(self) -> list[int]:
        """Positions of the stages that records wait for."""
        return sorted(self._files)

    def add(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            if (one.stage, one.key) in self._but:
                continue
            self.digest ^= int(one.key, 16) + one.stage
            records = self._open.setdefault(one.stage, [])
            records.append(one.record)
            if len(records) == FILE_ROWS:
                self._write(one.stage)

    def close(self) -> None:
        """Write what is not in a file yet."""
        for stage in list(self._open):
            self._write(stage)

    def backlog(self, stages: range) -> Backlog:
        """The files of some stages."""
        files = (file for stage in stages for file in self._files.get(stage, ()))
        return Backlog(self._store, tuple(files))

    def some(self) -> list[Record]:
        """A file's worth of records for every stage."""
        names = [files[0][0] for files in self._files.values()]
        tables = [pq.read_table(self._store.local(name)) for name in names]
        return [json.loads(text) for table in tables for text in table["record"].to_pylist()]

    def _write(self, stage: int) -> None:
        records = self._open.pop(stage)
        files = self._files.setdefault(stage, [])
        name = f"{stage:02d}-{len(files):06d}.parquet"
        with self._store.writing(name) as temporary:
            pq.write_table(flow([(stage, record) for record in records]), temporary)
        files.append((name, len(records)))
