"""Many small parts into few large ones: millions of clips must not be 100,000 files.

Parts that workers wrote become one *sorted* part, in the order of their videos (`shelf`).
Sorted parts that are no larger than what is sorted at the time go along, so that every row is
sorted again a few times at most, and the number of parts grows with the logarithm of the corpus.

The new part is durable before the old ones go. A kill in between leaves keys that stand in two
parts, which say the same. Only the driver of a run compacts; workers may read and write meanwhile.
"""

from collections.abc import Sequence

import pyarrow.parquet as pq

from corpus.ids import content_id
from pipeline.faults import RunError, systemic
from pipeline.ledger.shelf import Shelf, ranges
from pipeline.ledger.tables import SORTED, WRITING, Table, is_sorted

MANY = 64  # loose parts that are worth it
AT_ONCE = 1024  # loose parts that are held in memory
FULL_BYTES = 256 * 2**20  # a sorted part of this size stays as it is
GROUP_ROWS = 2048  # what a reader of one video has to read


def compact(table: Table, many: int = MANY) -> None:
    """Sort loose parts until there are fewer than ``many``.

    Raises:
        RunError: there is no room for the sorted part beside the loose ones, which stay.
    """
    while len(loose := [name for name in table.parts() if not is_sorted(name)]) >= many:
        chosen = loose[:AT_ONCE]
        try:
            merge(table, [*chosen, *_along(table, chosen)])
        except OSError as error:
            if not systemic(error):
                raise
            raise RunError(
                f"no room to sort the parts of {table.store.place()} ({error}): nothing is lost; "
                "make room and run again"
            ) from error


def _along(table: Table, chosen: Sequence[str]) -> list[str]:
    """Sorted parts that are merged with ``chosen``."""
    sizes = table.sizes()
    total = sum(sizes[name] for name in chosen)
    found = []
    for name in sorted(filter(is_sorted, sizes), key=lambda name: (sizes[name], name)):
        if sizes[name] > total or sizes[name] >= FULL_BYTES:
            break
        found.append(name)
        total += sizes[name]
    return found


def merge(table: Table, names: Sequence[str]) -> str:
    """Make one sorted part of several; return its name, which follows from theirs."""
    shelf = Shelf(table, names)
    name = f"{SORTED}{content_id('sorted', *sorted(names))}.parquet"
    with (
        table.store.writing(name) as temporary,
        pq.ParquetWriter(temporary, table.schema, **WRITING) as writer,
    ):
        for within in ranges([shelf.weights()], 4 * GROUP_ROWS):
            rows = shelf.rows(within).sort_by([("video", "ascending"), ("key", "ascending")])
            if rows.num_rows:
                writer.write_table(rows, row_group_size=GROUP_ROWS)
    for old in names:
        table.store.remove(old)
    return name
