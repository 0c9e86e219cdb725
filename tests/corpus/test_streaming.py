"""Tars without an index."""

from pathlib import Path

import numpy as np
import pytest
from shard_sets import good_set, key_of

from corpus.errors import UserError
from corpus.shards import ShardSet, stream


def test_tars_alone_give_the_same_samples(tmp_path: Path) -> None:
    good_set(tmp_path / "main", 12, {1: {"dtype": "bfloat16"}, 2: {"preview": b"\0\0\0\x18ftyp"}})
    ours = ShardSet.open(tmp_path / "main")
    tars = sorted((tmp_path / "main").glob("*.tar"))
    for name in ("samples.parquet", "manifest.json"):
        (tmp_path / "main" / name).unlink()
    found = list(stream(tars))
    assert [one.key for one in found] == [entry.key for entry in ours.entries]
    for one, entry in zip(found, ours.entries, strict=True):
        assert np.array_equal(one.latent, ours.latent(entry))
        assert (one.captions, one.info) == (ours.captions(entry), ours.info(entry))


@pytest.mark.parametrize(
    ("at", "word"),
    [
        (150, "captions.json: its tar header differs"),
        (512, "captions.json: "),
        (-1, "not all zeros"),
    ],
)
def test_damage_is_told_by_tar_and_sample(tmp_path: Path, at: int, word: str) -> None:
    good_set(tmp_path / "main", 1, validation=0)
    tar = tmp_path / "main" / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[at] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UserError, match=word) as told:
        list(stream([tar]))
    assert str(tar) in str(told.value)
    assert at < 0 or key_of(0) in str(told.value)


def test_a_tar_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        list(stream([tmp_path / "shard-000000.tar"]))
