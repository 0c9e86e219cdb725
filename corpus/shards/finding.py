"""One sample of a set, here or remote, without reading the whole index."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from corpus.errors import UserError
from corpus.files import standing
from corpus.ids import sha256_file
from corpus.shards.index import SAMPLES
from corpus.shards.manifest import INDEX, MANIFEST, read_manifest
from corpus.shards.reading import Entry, entry_of, read_member
from corpus.store import LocalStore, Store, store_at

NAMED = 5  # keys that a message lists


@dataclass(frozen=True)
class Finder:
    """A set of which single samples are wanted."""

    store: Store
    manifest: dict[str, Any]
    index: Path

    @staticmethod
    def open(place: str | Path) -> "Finder":
        """UserError where there is no set, or its index is not the manifest's."""
        store = store_at(place)
        if isinstance(store, LocalStore):
            store = LocalStore(standing(store.root))
        manifest = read_manifest(store)
        if store.size(INDEX) is None:
            raise UserError(f"{store.place(INDEX)} is missing: `tv2tv verify` tells more")
        index = store.local(INDEX)
        if sha256_file(index) != manifest["index"]["sha256"]:
            raise UserError(
                f"{store.place(INDEX)} differs from {MANIFEST}: `tv2tv verify` tells more"
            )
        if not pq.read_schema(index).equals(SAMPLES):
            raise UserError(f"{store.place(INDEX)} has other columns than this version reads")
        return Finder(store, manifest, index)

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Some columns of all rows, in order."""
        with pq.ParquetFile(self.index) as file:
            for batch in file.iter_batches(4096, columns=columns):
                yield from batch.to_pylist()

    def find(self, key: str) -> Entry:
        """The sample whose key begins so; UserError if there is none, or more than one."""
        found = [
            (number, row["key"])
            for number, row in enumerate(self.rows(["key"]))
            if row["key"].startswith(key)
        ]
        found = [one for one in found if one[1] == key] or found
        if not found:
            raise UserError(
                f"{self.store.place()} has no sample {key!r}: without a key it lists some"
            )
        if len(found) > 1:
            some = ", ".join(name for _, name in found[:NAMED])
            raise UserError(f"{len(found)} samples begin with {key!r}: {some}, ...")
        return entry_of(self._row(found[0][0]))

    def member(self, entry: Entry, name: str) -> bytes:
        """Bytes of a member, checked."""
        return read_member(self.store.local(entry.shard), entry, name)

    def _row(self, number: int) -> dict[str, Any]:
        with pq.ParquetFile(self.index) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if number < size:
                    (row,) = file.read_row_group(group).slice(number, 1).to_pylist()
                    return dict(row)
                number -= size
        raise IndexError(number)
