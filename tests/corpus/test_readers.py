"""Anyone can read the tars: webdataset, also in secure mode, Hugging Face datasets, tar + numpy."""

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from shard_sets import good_sample, good_set, key_of

from corpus.shards import ShardSet

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("set") / "main"
    good_set(place, COUNT)
    return place


def same(found: dict[str, Any], folder: Path) -> None:
    """Latents, captions and provenance by key, as our own reader has them."""
    ours = ShardSet.open(folder)
    assert set(found) == {entry.key for entry in ours.entries} and len(found) == COUNT
    for entry in ours.entries:
        latent, captions, info = found[entry.key]
        assert np.array_equal(np.asarray(latent, np.float32), ours.latent(entry))
        assert captions == ours.captions(entry).to_json()
        assert info == ours.info(entry)


def test_webdataset_reads_them(folder: Path) -> None:
    urls = sorted(map(str, folder.glob("*.tar")))
    samples = webdataset.WebDataset(urls, shardshuffle=False).decode()
    same(
        {one["__key__"]: (one["latent.npy"], one["captions.json"], one["json"]) for one in samples},
        folder,
    )


SECURE = """
import json, sys
import webdataset
from webdataset import tariterators, utils

assert utils.enforce_security
found = {}
for path in sys.argv[1:]:
    with open(path, "rb") as stream:
        members = tariterators.tar_file_expander([{"url": path, "stream": stream}])
        for one in map(webdataset.autodecode.Decoder([]), tariterators.group_by_keys(members)):
            found[one["__key__"]] = one["latent.npy"].shape, one["captions.json"], one["json"]
try:
    next(iter(webdataset.WebDataset(["pipe:echo"], shardshuffle=False)))
except ValueError as error:
    assert "pipe" in str(error)
else:
    raise AssertionError("a command was run")
print(json.dumps(found))
"""


def test_webdataset_reads_them_in_secure_mode(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SECURE, *sorted(map(str, folder.glob("*.tar")))],
        env={**os.environ, "WDS_SECURE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, ours = json.loads(done.stdout), ShardSet.open(folder)
    assert len(found) == COUNT
    for entry in ours.entries:
        shape, captions, info = found[entry.key]
        assert tuple(shape) == entry.latent_shape
        assert captions == ours.captions(entry).to_json() and info == ours.info(entry)


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return datasets


def by_key(rows: Any) -> dict[str, Any]:
    return {row["__key__"]: (row["latent.npy"], row["captions.json"], row["json"]) for row in rows}


def test_datasets_reads_them_as_webdataset(datasets: Any, tmp_path: Path) -> None:
    """It guesses types from a few samples, so these are alike."""
    folder = tmp_path / "alike"
    good_set(folder, 4, {0: {"captions": replace(good_sample(0).captions, ladders={})}})
    found = datasets.load_dataset(
        "webdataset",
        data_files={"train": sorted(map(str, folder.glob("*.tar")))},
        cache_dir=str(tmp_path / "c"),
    )
    ours = ShardSet.open(folder)
    told = by_key(found["train"])
    assert len(told) == 4
    for entry in ours.entries:
        latent, captions, _ = told[entry.key]
        assert np.array_equal(np.asarray(latent, np.float32), ours.latent(entry))
        texts = [one["text"] for one in captions["segments"]]
        assert texts == [one.caption.text for one in entry.captions.segments]


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_a_set_by_its_card(datasets: Any, tmp_path: Path, streaming: bool) -> None:
    """Splits and types come from the card: samples may have scores and columns of their own."""
    folder = tmp_path / "main"
    odd = good_sample(7)
    changes = {7: {"info": {**odd.info, "meta": {"sport": "golf", "take": 1}, "quality": {}}}}
    good_set(folder, COUNT, changes)
    found = datasets.load_dataset(str(folder), streaming=streaming, cache_dir=str(tmp_path / "c"))
    assert set(found) == {"train", "validation"}
    same({key: one for split in found.values() for key, one in by_key(split).items()}, folder)
    splits = {entry.key: entry.split for entry in ShardSet.open(folder).entries}
    for split, rows in found.items():
        assert {splits[row["__key__"]] for row in rows} == {split}


def test_tar_and_numpy_read_them(folder: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                key, _, name = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                data = file.read()
                load = np.load(io.BytesIO(data)) if name.endswith("npy") else json.loads(data)
                found.setdefault(key, {})[name] = load
    same({k: (v["latent.npy"], v["captions.json"], v["json"]) for k, v in found.items()}, folder)


def test_extra_members_disturb_no_one(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "main"
    extra = {"preview": b"\0\0\0\x18ftypisom", "streams": {"motion": np.zeros((2, 3), np.float16)}}
    good_set(folder, 4, dict.fromkeys(range(4), extra))
    urls = sorted(map(str, folder.glob("*.tar")))
    first = next(iter(webdataset.WebDataset(urls, shardshuffle=False).decode()))
    assert first["motion.npy"].shape == (2, 3) and first["mp4"] == extra["preview"]
    rows = datasets.load_dataset(str(folder), split="train", streaming=True)
    row = next(iter(rows.cast_column("mp4", datasets.Video(decode=False))))
    assert np.shape(row["motion.npy"]) == (2, 3)
    assert ShardSet.open(folder).latent(ShardSet.open(folder).entries[0]).shape[0] == 12
    assert key_of(0) in {entry.key for entry in ShardSet.open(folder).entries}
