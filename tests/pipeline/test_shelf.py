"""Tables read by ranges of videos, sorted parts, and single keys found while others sort."""

import errno
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import files
from corpus.rows import Row
from pipeline.faults import RunError
from pipeline.ledger import compaction
from pipeline.ledger.compaction import compact, merge
from pipeline.ledger.shelf import ALL, Finder, Shelf, ranges
from pipeline.ledger.tables import Table, is_sorted

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
from killing import killed_at

COLUMNS = pa.schema([pa.field("number", pa.int32())])


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "words" / "f", COLUMNS)


def answer(video: int, key: int, rows: int = 2) -> tuple[str, str, list[Row]]:
    named = f"{video:02d}-{key}"
    said = [Row("clip", None, f"{named}-{n}", columns={"number": n}) for n in range(rows)]
    return named, f"v{video:02d}", said


def write(table: Table, *answers: tuple[int, int]) -> str:
    made = [answer(*one) for one in answers]
    table.write(made)
    return table.part([key for key, _, _ in made])


def all_of(*answers: tuple[int, int]) -> dict[str, list[Row]]:
    return {key: rows for key, _, rows in (answer(*one) for one in answers)}


SPREAD = [(video, key) for video in range(20) for key in range(3)]


def spread(table: Table) -> None:
    """Sixty keys in parts that each hold three videos."""
    shuffled = [SPREAD[7 * n % 60] for n in range(60)]
    for start in range(0, 60, 3):
        write(table, *shuffled[start : start + 3])


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "GROUP_ROWS", 8)


@pytest.mark.usefixtures("small_groups")
def test_sorting_loses_nothing_and_leaves_few_parts(table: Table) -> None:
    spread(table)
    compact(table, many=21)
    assert len(table.parts()) == 20, "too few to be worth it"
    compact(table, many=20)
    (part,) = table.parts()
    assert is_sorted(part)
    shelf = Shelf(table)
    assert shelf.answers() == all_of(*SPREAD)
    videos = [row["video"] for row in table.load(part).to_pylist()]
    assert videos == sorted(videos)


@pytest.mark.usefixtures("small_groups")
def test_a_range_reads_only_the_groups_that_it_touches(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(table)
    merge(table, table.parts())
    shelf, read = Shelf(table), list[int]()
    load = Table.load

    def counted(of: Table, part: str, groups: Sequence[int] | None = None) -> pa.Table:
        read.extend(groups or ())
        return load(of, part, groups)

    monkeypatch.setattr(Table, "load", counted)
    found = shelf.answers(("v03", "v05"))
    assert found == all_of(*[one for one in SPREAD if one[0] in (3, 4)])
    assert 0 < len(read) < 20 * 3 * 2 / 8 / 3


def test_ranges_cover_everything_once_whatever_is_sorted(table: Table) -> None:
    spread(table)
    merge(table, table.parts()[:9])
    shelf = Shelf(table)
    within = ranges([shelf.weights()], 25)
    assert 2 < len(within) < 20
    found = [key for one in within for key in shelf.answers(one)]
    assert sorted(found) == sorted(all_of(*SPREAD))
    assert len(found) == len(set(found))


@given(
    st.lists(st.lists(st.tuples(st.text("abc", min_size=1), st.integers(0, 9)), max_size=9)),
    st.integers(1, 20),
)
def test_ranges_follow_each_other(weights: list[list[tuple[str, int]]], size: int) -> None:
    within = ranges([sorted(one) for one in weights], size)
    assert within[0][0] == "" and within[-1][1] is None
    assert all(a[1] == b[0] for a, b in pairwise(within))
    assert all(low < high for low, high in within if high is not None)


def test_a_kill_between_writing_and_removing_leaves_nothing_twice(table: Table) -> None:
    spread(table)
    kept = table.store.at("")
    copies = {name: kept.read(name) for name in table.parts()}
    merge(table, table.parts())
    for name, data in copies.items():
        kept.write(name, data)
    assert len(table.parts()) == 21
    assert Shelf(table).answers() == all_of(*SPREAD)
    merge(table, table.parts())
    (part,) = table.parts()
    assert table.load(part).num_rows == 120, "every row once"


@pytest.mark.usefixtures("small_groups")
def test_wherever_a_sorter_is_killed_nothing_is_lost(tmp_path: Path) -> None:
    call, killed = 0, True
    while killed:
        table = Table(tmp_path / str(call), COLUMNS)
        spread(table)
        killed = killed_at(call, lambda table=table: compact(table, many=1))  # type: ignore[misc]
        assert Shelf(table).answers() == all_of(*SPREAD)
        table.store.sweep()
        compact(table, many=1)
        assert Shelf(table).answers() == all_of(*SPREAD)
        assert all(map(is_sorted, table.parts()))
        call += 1
    assert call > 20, "it changes the disk once per old part, at least"


def test_a_disk_that_is_full_while_parts_are_sorted_loses_nothing(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spread(table)
    before = sorted(table.store.root.iterdir())  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(files, "_fsync", full)
        with pytest.raises(RunError, match=r"no room to sort .*words/f .*run again"):
            compact(table, many=1)
    assert sorted(table.store.root.iterdir()) == before  # type: ignore[attr-defined]
    compact(table, many=1)
    assert Shelf(table).answers() == all_of(*SPREAD)


def test_parts_of_equal_size_are_merged_so_that_few_are_left(table: Table) -> None:
    for video in range(40):
        for key in range(4):
            write(table, (video, key))
        compact(table, many=4)
    assert len(table.parts()) < 10
    assert len(Shelf(table).answers()) == 160


def test_what_is_full_is_left_alone(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FULL_BYTES", 1)
    for video in range(3):
        write(table, (video, 0))
        compact(table, many=1)
    assert len(table.parts()) == 3


@pytest.mark.usefixtures("small_groups")
def test_keys_are_taken_out_of_a_sorted_part(table: Table) -> None:
    spread(table)
    merge(table, table.parts())
    gone = {"03-1", "11-0"}
    table.forget(gone)
    (part,) = table.parts()
    assert is_sorted(part)
    rest = {key: rows for key, rows in all_of(*SPREAD).items() if key not in gone}
    assert Shelf(table).answers() == rest
    assert Shelf(table).answers(("v03", "v04")).keys() == {"03-0", "03-2"}


class TestFinder:
    def test_keys_are_found_in_sorted_parts(self, table: Table) -> None:
        spread(table)
        merge(table, table.parts())
        write(table, (50, 0))
        finder = Finder(table)
        wanted = {"03-1": "v03", "04-9": "v04", "50-0": "v50"}
        assert finder.find(wanted) == all_of((3, 1)), "a loose part is known by its name"

    def test_what_is_sorted_meanwhile_is_found_again(
        self, table: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spread(table)
        merge(table, table.parts())
        finder, load = Finder(table), Table.load
        assert finder.find({"03-1": "v03"})

        def late(of: Table, part: str, *rest: object) -> pa.Table:
            monkeypatch.setattr(Table, "load", load)
            write(table, (50, 0))
            merge(table, table.parts())
            return load(of, part, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Table, "load", late)
        assert finder.find({"03-1": "v03"}) == all_of((3, 1))


def test_a_part_of_the_earlier_schema_is_refused(table: Table, tmp_path: Path) -> None:
    name = write(table, (1, 1))
    path = table.store.local(name)
    pq.write_table(pq.read_table(path).drop_columns("video"), tmp_path / "old")
    shutil.copy(tmp_path / "old", path)
    with pytest.raises(Exception, match="delete this file"):
        Shelf(table).rows(ALL)
