"""Opening sets of strangers: what an index says is not believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_sets import good_set

from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.shards import ShardSet
from corpus.shards.finding import Finder
from corpus.shards.index import SAMPLES
from corpus.shards.manifest import sealed, spelled

Row = dict[str, Any]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    good_set(tmp_path / "main")
    return tmp_path / "main"


def forge(folder: Path, change: Callable[[Row], None]) -> None:
    """Change the first row of the index, and seal the set again as a stranger could."""
    index = folder / "samples.parquet"
    rows = pq.read_table(index).to_pylist()
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), index)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["index"] |= {"sha256": sha256_file(index), "bytes": index.stat().st_size}
    content = {name: value for name, value in manifest.items() if name != "digest"}
    (folder / "manifest.json").write_text(spelled(sealed(content)))


@pytest.mark.parametrize("key", ["../../stranger", "/etc/x", "a.b", ""])
def test_a_key_that_is_a_path_is_refused(made: Path, key: str) -> None:
    forge(made, lambda row: row.update(key=key))
    with pytest.raises(UserError, match="is no key of a sample"):
        ShardSet.open(made)
    with pytest.raises(UserError, match="is no key of a sample"):
        Finder.open(made).find(key or "")


def test_a_shard_elsewhere_is_refused(made: Path) -> None:
    forge(made, lambda row: row.update(shard="../main/shard-000000.tar"))
    with pytest.raises(UserError, match="is no shard name"):
        ShardSet.open(made)


@pytest.mark.parametrize(
    ("name", "value"), [("size", 1 << 60), ("offset", -1), ("offset", 1 << 60)]
)
def test_no_more_is_read_than_a_shard_has(made: Path, name: str, value: int) -> None:
    forge(made, lambda row: row["members"][0].update({name: value}))
    found = ShardSet.open(made)
    with pytest.raises(UserError, match=r"shard-000000.tar, sample \w+, captions.json"):
        found.captions(found.entries[0])


@pytest.mark.parametrize("change", [{"index": None}, {"shards": {}}, {"codec": []}])
def test_a_manifest_of_another_make_is_refused(made: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    content = {name: value for name, value in manifest.items() if name != "digest"}
    (made / "manifest.json").write_text(spelled(sealed({**content, **change})))
    with pytest.raises(UserError, match="none of ours"):
        ShardSet.open(made)
