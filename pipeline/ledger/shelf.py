"""Reading a table by ranges of video ids, so that memory follows the range and not the corpus.

A *sorted* part (`compaction`) has its rows in the order of their videos, and Parquet says
of each of its row groups where that begins and ends: a range is read from the row groups that it
touches. *Loose* parts, as workers write them, are few after compaction and are held as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from corpus.rows import Row
from pipeline.ledger.tables import Table, is_sorted

Range = tuple[str, str | None]  # of video ids: from, and before which; None: to the end
ALL: Range = ("", None)
Weighed = tuple[str, int]  # a video id, and how many rows lie from there on to the next


@dataclass(frozen=True)
class Piece:
    """A row group of a sorted part; it holds rows of the videos ``first`` to ``last``."""

    part: str
    group: int
    first: str
    last: str
    rows: int

    def touches(self, within: Range) -> bool:
        low, high = within
        return self.last >= low and (high is None or self.first < high)


class Shelf:
    """Some parts of a table, or all of them, opened for reading.

    Where two parts hold the same key, the rows of the first by name count: both say the same.
    """

    def __init__(self, table: Table, names: Sequence[str] | None = None) -> None:
        self._table = table
        names = sorted(table.parts() if names is None else names)
        self._pieces = pieces(table, [name for name in names if is_sorted(name)])
        table.store.locals(names)  # of a remote store, many at once
        loose = [table.load(name) for name in names if not is_sorted(name)]
        self._loose = _without_repeats(table, loose).sort_by("video")

    def weights(self) -> list[Weighed]:
        """How many rows lie where, in order."""
        videos = self._loose["video"].value_counts()
        loose = [(one["values"], one["counts"]) for one in videos.to_pylist()]
        return sorted([*loose, *((one.first, one.rows) for one in self._pieces)])

    def rows(self, within: Range) -> pa.Table:
        """Rows of the videos of a range, each key once, those of a key together and in order."""
        found = [self._loose.filter(_inside(self._loose, within))]
        for part in dict.fromkeys(one.part for one in self._pieces if one.touches(within)):
            touched = [o.group for o in self._pieces if o.part == part and o.touches(within)]
            rows = self._table.load(part, touched)
            found.append(rows.filter(_inside(rows, within)))
        return _without_repeats(self._table, found)

    def answers(
        self, within: Range = ALL, videos: Sequence[str] | None = None
    ) -> dict[str, list[Row]]:
        """Rows by key, of the videos of a range, or of some of them."""
        rows = self.rows(within)
        if videos is not None:
            rows = rows.filter(pc.is_in(rows["video"], pa.array(videos, pa.string())))
        return self._table.grouped(rows)


class Finder:
    """Looks up single keys in the sorted parts of a table, while others may be sorting."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._pieces: dict[str, list[Piece]] = {}

    def find(self, wanted: Mapping[str, str]) -> dict[str, list[Row]]:
        """Rows of those keys that are there.

        Args:
            wanted: video id by key.
        """
        while True:
            try:
                self._look()
                return self._find(wanted)
            except FileNotFoundError:
                continue  # what was there is in another part now

    def _look(self) -> None:
        names = [name for name in self._table.parts() if is_sorted(name)]
        self._pieces = {
            name: self._pieces[name] if name in self._pieces else pieces(self._table, [name])
            for name in names
        }

    def _find(self, wanted: Mapping[str, str]) -> dict[str, list[Row]]:
        videos, keys = set(wanted.values()), pa.array(list(wanted), pa.string())
        found: dict[str, list[Row]] = {}
        for part, groups in self._pieces.items():
            touched = [o.group for o in groups if any(o.first <= v <= o.last for v in videos)]
            if not touched:
                continue
            named = self._table.load(part, touched, ["key"])["key"]
            if not pc.any(pc.is_in(named, keys)).as_py():
                continue
            rows = self._table.load(part, touched)
            found |= self._table.grouped(rows.filter(pc.is_in(rows["key"], keys)))
        return found


def pieces(table: Table, names: Iterable[str]) -> list[Piece]:
    """The row groups of sorted parts, by what their footers say."""
    found = []
    for name in names:
        with table.open(name) as file:
            footer = file.metadata
        column = table.schema.get_field_index("video")
        for group in range(footer.num_row_groups):
            part = footer.row_group(group)
            spread = part.column(column).statistics
            found.append(Piece(name, group, spread.min, spread.max, part.num_rows))
    return found


def ranges(weights: Sequence[Sequence[Weighed]], size: int) -> list[Range]:
    """Neighbouring ranges that cover all ids, with about ``size`` rows each by several weighings.

    The rows of one video are never parted.
    """
    cuts, total = [""], 0
    for video, rows in merge(*weights):
        if total >= size and video > cuts[-1]:
            cuts.append(video)
            total = 0
        total += rows
    return [*pairwise(cuts), (cuts[-1], None)]


def _inside(rows: pa.Table, within: Range) -> pa.Array:
    low, high = within
    inside = pc.greater_equal(rows["video"], low)
    return inside if high is None else pc.and_(inside, pc.less(rows["video"], high))


def _without_repeats(table: Table, parts: Sequence[pa.Table]) -> pa.Table:
    """Parts one after the other, without the keys that an earlier one has."""
    found: list[pa.Table] = []
    seen: set[str] = set()
    for part in (each for each in parts if each.num_rows):
        keys = set(part["key"].to_pylist())
        if keys & seen:
            new = pa.array(sorted(keys - seen), pa.string())
            part = part.filter(pc.is_in(part["key"], new))
        seen |= keys
        found.append(part)
    return pa.concat_tables(found) if found else table.schema.empty_table()
