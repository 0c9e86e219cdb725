from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from corpus.errors import UserError
from corpus.rows import Row
from pipeline.ledger.compaction import merge
from pipeline.ledger.shelf import Shelf
from pipeline.ledger.tables import Table

COLUMNS = pa.schema([pa.field("width", pa.int32()), pa.field("tags", pa.list_(pa.string()))])
OK = Row("video", None, "v1", columns={"width": 4, "tags": ["a"]})
ENDED = Row("video", "v2", None, "failed", "no_stream", "nothing in it")


def read(table: Table) -> dict[str, list[Row]]:
    return Shelf(table).answers()


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "probe" / "f", COLUMNS)


def test_what_is_written_is_read_back(table: Table) -> None:
    live = table.write([("k1", "v", [OK]), ("k2", "v", [ENDED])])
    assert read(table) == live
    assert live["k1"] == [OK]
    assert live["k2"][0].columns == {"width": None, "tags": None}
    assert table.parts() == [table.part(["k1", "k2"])]


def test_a_repeated_write_gives_the_same_bytes_under_the_same_name(table: Table) -> None:
    table.write([("k1", "v", [OK])])
    (part,) = table.folder.iterdir()
    before = part.read_bytes()
    table.write([("k1", "v", [OK])])
    assert [path.name for path in table.folder.iterdir()] == [part.name]
    assert part.read_bytes() == before


def test_a_key_in_two_parts_is_read_once(table: Table) -> None:
    table.write([("k1", "v", [OK]), ("k2", "v", [ENDED])])
    table.write([("k1", "v", [OK])])
    assert len(read(table)["k1"]) == 1


def test_answers_are_taken_back_and_others_stay(table: Table) -> None:
    scores = Table(table.folder, pa.schema([pa.field("s", pa.map_(pa.string(), pa.float64()))]))
    rows = {key: [Row("clip", "s", key, columns={"s": [("x", 0.5)]})] for key in "abcd"}
    scores.write([("a", "v", rows["a"]), ("b", "v", rows["b"])])
    scores.write([("b", "v", rows["b"]), ("c", "v", rows["c"])])
    scores.write([("d", "v", rows["d"])])
    scores.forget({"b", "d"})
    assert read(scores) == {"a": rows["a"], "c": rows["c"]}
    before = sorted(scores.folder.iterdir())
    scores.forget({"b"})
    assert sorted(scores.folder.iterdir()) == before
    scores.write([("b", "v", rows["b"])])
    assert set(read(scores)) == {"a", "b", "c"}


@pytest.mark.parametrize("damage", [b"", b"PAR1 no parquet", None])
def test_a_damaged_part_is_named(table: Table, damage: bytes | None) -> None:
    table.write([("k1", "v", [OK])])
    (part,) = table.folder.iterdir()
    part.write_bytes(part.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(UserError, match=f"{part.name} cannot be read.*delete this file"):
        read(table)


def test_a_byte_that_changed_on_disk_is_never_taken_for_data(table: Table) -> None:
    told = [replace(OK, columns={"width": n, "tags": [f"tag {n}"] * 9}) for n in range(50)]
    table.write([(f"k{n}", "v", [row]) for n, row in enumerate(told)])
    whole, (part,) = read(table), table.folder.iterdir()
    data, noticed = part.read_bytes(), 0
    for place in range(5, len(data), 11):
        part.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            assert read(table) == whole
        except UserError as error:
            assert part.name in str(error)
            noticed += 1
    assert noticed > 20


def test_a_damaged_part_is_named_by_those_who_write_it_anew(table: Table) -> None:
    table.write([(f"k{n}", "v", [OK]) for n in range(9)])
    merge(table, table.parts())
    (part,) = table.folder.iterdir()
    data = part.read_bytes()
    part.write_bytes(data[:200] + bytes(50) + data[250:])
    for act in (lambda: merge(table, table.parts()), lambda: table.forget({"k1"})):
        with pytest.raises(UserError, match=f"{part.name} cannot be read.*delete this file"):
            act()
    assert list(table.folder.iterdir()) == [part]


def test_a_part_with_other_columns_is_refused(table: Table) -> None:
    table.write([("k1", "v", [OK])])
    other = Table(table.folder, pa.schema([pa.field("height", pa.int32())]))
    with pytest.raises(UserError, match="columns"):
        read(other)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([("k1", "v", [])], "no rows"),
        ([("k1", "v", [OK]), ("k1", "v", [OK])], "twice"),
        ([("k1", "v", [Row("video", None, "v", columns={"width": 1})])], "tags.*missing"),
        (
            [("k1", "v", [replace(OK, columns={**OK.columns, "x": 1})])],
            "x.*not declared",
        ),
    ],
)
def test_rows_that_break_the_contract_are_refused(
    table: Table, answers: list[tuple[str, list[Row]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        table.write(answers)
    assert not table.folder.exists()


def test_leftovers_of_a_killed_writer_are_no_parts(table: Table) -> None:
    table.write([("k1", "v", [OK])])
    (table.folder / ".part-abc.parquet.xyz.parquet").write_bytes(b"half")
    assert set(read(table)) == {"k1"}
