"""docs/format.md is complete: a reader written from it alone gets the same arrays and texts.

The reader uses neither tarfile nor numpy's loader, nor anything of ours.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_sets import good_sample, good_set, key_of

from corpus.shards import ShardSet
from corpus.shards.schema import problems

# -- the reader -------------------------------------------------------------------------------


def manifest_of(folder: Path) -> dict[str, Any]:
    text = (folder / "manifest.json").read_text("ascii")
    found: dict[str, Any] = json.loads(text)
    assert text == json.dumps(found, indent=1, sort_keys=True) + "\n"
    rest = {name: value for name, value in found.items() if name != "digest"}
    assert sha256(canonical(rest)) == found["digest"] and found["schema"] == 2
    return found


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unit(*parts: Any) -> float:
    return int(sha256(canonical(list(parts)))[:13], 16) / 16**13


def members(tar: bytes) -> Iterator[tuple[str, str, bytes]]:
    assert len(tar) % 10240 == 0
    at = 0
    while any(tar[at : at + 512]):
        block = tar[at : at + 512]
        name = block[:100].rstrip(b"\0").decode("ascii")
        size = int(block[124:135], 8)
        wanted = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
        wanted += b"%011o\0" % size + b"0" * 11 + b"\0" + b" " * 8 + b"0" + bytes(100)
        wanted += b"ustar\x0000" + bytes(247)
        total = b"%06o\0 " % sum(wanted)
        assert block == wanted[:148] + total + wanted[156:]
        data = tar[at + 512 : at + 512 + size]
        key, _, member = name.partition(".")
        assert re.fullmatch("[A-Za-z0-9_-]{1,64}", key)
        yield key, member, data
        at += 512 + size
        assert not any(tar[at : at + -at % 512])
        at += -at % 512
    assert len(tar) - at >= 1024 and not any(tar[at:])


def array(data: bytes, dtype: str) -> tuple[tuple[int, ...], list[float]]:
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    head = data[10 : 10 + length].decode("ascii")
    found = re.fullmatch(
        r"\{'descr': '(.*)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n", head
    )
    assert found and (10 + length) % 64 == 0
    descr, kind = {"float16": ("<f2", "e"), "bfloat16": ("<u2", "H")}[dtype]
    assert found.group(1) == descr
    shape = tuple(int(part) for part in found.group(2).split(",") if part.strip())
    count = (len(data) - 10 - length) // 2
    values = struct.unpack(f"<{count}{kind}", data[10 + length :])
    if dtype == "bfloat16":
        values = struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(v << 16 for v in values)))
    return shape, list(values)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Samples by key, in order."""
    manifest, found = manifest_of(folder), dict[str, dict[str, Any]]()
    for number, shard in enumerate(manifest["shards"]):
        assert shard["name"] == f"shard-{number:06d}.tar"
        tar = (folder / shard["name"]).read_bytes()
        assert (sha256(tar), len(tar)) == (shard["sha256"], shard["bytes"])
        before = len(found)
        for key, member, data in members(tar):
            found.setdefault(key, {"split": shard["split"]})[member] = data
        assert len(found) - before == shard["samples"]
    for sample in found.values():
        names = [name for name in sample if name != "split"]
        assert names == sorted(names) and {"captions.json", "json", "latent.npy"} <= set(names)
        for name in ("captions.json", "json"):
            data = sample[name]
            sample[name] = json.loads(data)
            assert canonical(sample[name]) == data
        told = sample["json"]["latent"]
        shape, values = array(sample["latent.npy"], told["dtype"])
        assert list(shape) == told["shape"]
        sample["latent.npy"] = shape, values
    return found


# -- what it reads ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("set") / "main"
    changes: dict[int, dict[str, Any]] = {
        1: {"dtype": "bfloat16"},
        2: {"preview": b"\0\0\0\x18ftypisom"},
        3: {"streams": {"motion": np.arange(6, dtype=np.float16).reshape(2, 3)}},
    }
    good_set(place, 12, changes)
    return place


def test_a_reader_made_of_the_page_alone_reads_everything(folder: Path) -> None:
    found, ours = read(folder), ShardSet.open(folder)
    assert list(found) == [entry.key for entry in ours.entries]
    for entry in ours.entries:
        sample = found[entry.key]
        shape, values = sample["latent.npy"]
        latent = ours.latent(entry)
        assert latent.shape == shape and latent.ravel().tolist() == values
        assert sample["captions.json"] == ours.captions(entry).to_json()
        assert sample["json"] == ours.info(entry)
        assert sample["split"] == entry.split
    assert found[key_of(1)]["json"]["latent"]["dtype"] == "bfloat16"
    assert found[key_of(2)]["mp4"].endswith(b"ftypisom")
    assert found[key_of(3)]["json"]["streams"]["motion"] == {"dtype": "float16", "shape": [2, 3]}
    assert array(found[key_of(3)]["motion.npy"], "float16") == ((2, 3), [0, 1, 2, 3, 4, 5])


def test_bfloat16_is_rounded_to_the_nearest_ties_to_even(folder: Path) -> None:
    import torch

    ours = ShardSet.open(folder)
    (entry,) = (entry for entry in ours.entries if entry.key == key_of(1))
    wanted = torch.from_numpy(good_sample(1).latent).to(torch.bfloat16).float().numpy()
    assert np.array_equal(ours.latent(entry), wanted)


def test_order_and_split_are_as_the_page_says(folder: Path) -> None:
    plan, found = manifest_of(folder)["plan"], read(folder)
    places: dict[str, list[float]] = {"train": [], "validation": []}
    for key, sample in found.items():
        places[sample["split"]].append(unit(plan["seed"], "order", key))
        low = unit(plan["seed"], "split", sample["json"]["video_id"]) < plan["validation"]
        assert low == (sample["split"] == "validation")
        for span in sample["captions.json"]["segments"]:
            name = sha256(canonical(["segment", key, *span["chunks"]]))[:32]
            assert span["id"] == name
    assert all(some and some == sorted(some) for some in places.values())


def test_the_schemas_fit_what_is_written(folder: Path) -> None:
    assert list(problems("manifest", manifest_of(folder))) == []
    for sample in read(folder).values():
        assert list(problems("sample", sample["json"])) == []
        assert list(problems("captions", sample["captions.json"])) == []


Path_ = tuple[str | int, ...]


def mutants(value: Any, at: Path_ = ()) -> Iterator[tuple[Path_, bool, Any]]:
    """(where, whether a key is gone, the same with it gone or ``null``), at every depth."""
    if isinstance(value, dict):
        for name in value:
            rest = {key: one for key, one in value.items() if key != name}
            yield (*at, name), True, rest
            yield (*at, name), False, {**rest, name: None}
            for where, gone, changed in mutants(value[name], (*at, name)):
                yield where, gone, {**rest, name: changed}
    elif isinstance(value, list) and value:
        for where, gone, changed in mutants(value[0], (*at, 0)):
            yield where, gone, [changed, *value[1:]]


FREE = {"meta", "quality", "recipe", "settings", "policy", "counts", "contents"}  # anything goes
NAMED = {"scores", "fingerprints", "ladders", "streams"}  # names in there come and go
OPTIONAL = {"shot_id", "clip_sha256", "start", "end", "inputs", "ladders", "streams"}


@pytest.mark.parametrize("kind", ["sample", "captions", "manifest"])
def test_a_mutated_json_is_refused_by_its_schema(folder: Path, kind: Any) -> None:
    sample = read(folder)[key_of(3)]
    value = {
        "sample": sample["json"],
        "captions": sample["captions.json"],
        "manifest": manifest_of(folder),
    }[kind]
    free = FREE - {"meta"} if kind == "captions" else FREE
    tried = 0
    for where, gone, changed in mutants(value):
        inside, last = where[:-1], where[-1]
        if free & set(inside) or (gone and (last in OPTIONAL | free or NAMED & set(inside[-1:]))):
            continue
        tried += 1
        assert list(problems(kind, changed)), (where, gone)
    assert tried > 15
