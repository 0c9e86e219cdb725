"""Writing a shard set: all of it or none of it, the same bytes for the same samples."""

import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.ids import sha256_bytes, sha256_file, unit_hash
from corpus.shards.index import SAMPLES, captions_to_row
from corpus.shards.sample import Sample
from corpus.store import Folder, Store, store_at

MANIFEST_SCHEMA = 1
MANIFEST, INDEX = "manifest.json", "samples.parquet"
TRAIN, VALIDATION = "train", "validation"
_TAR_OVERHEAD = 3 * 1024  # headers and padding of a sample's three members, about


@dataclass(frozen=True)
class ShardPlan:
    """How samples are laid out.

    Attributes:
        target_bytes: a shard is closed once it holds at least this much.
        seed: of the order and of the split.
        validation: chance of a *video* to be held out; clips of one video never part.
    """

    target_bytes: int = 256 * 2**20
    seed: int = 0
    validation: float = 0.0


def write_shards(
    folder: Folder,
    videos: dict[str, str],
    load: Callable[[str], Sample],
    header: dict[str, Any],
    plan: ShardPlan,
    ready: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write ``folder`` anew and return its manifest.

    In a local folder everything is written beside it first and moved into place at the end, so
    `ShardSet.open` finds the old set or the new one, whenever this process is killed. Remotely the
    old manifest goes first and the new one comes last: then it may also find none.

    Args:
        videos: sample key to video id; decides order and split.
        load: sample by key, called once per key, in shard order.
        header: codec, clock, recipe and fingerprints for the manifest.
        ready: called before anything that stands there is touched; raises to stop that.
    """
    with store_at(folder).replacing(MANIFEST, ready) as building:
        manifest = _write_all(building, videos, load, header, plan)
        building.write_text(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def split_videos(videos: Iterable[str], plan: ShardPlan) -> set[str]:
    """The videos held out: those whose hash of (seed, video) is below ``plan.validation``.

    Each video is judged by itself, so that none changes sides when others come or go: what was
    trained on never becomes validation. Hence the share holds on average only: of 20 videos a
    tenth may be 0 to 5. Where all would fall on one side, the lowest hash is held out or the
    highest trained on, so that a small corpus, too, can be validated; only such a video may change
    sides when the corpus grows. A single video is trained on.
    """

    def place(video: str) -> float:
        return unit_hash(plan.seed, "split", video)

    ordered = sorted(set(videos), key=place)
    if plan.validation == 0 or len(ordered) < 2:
        return set()
    below = sum(place(video) < plan.validation for video in ordered)
    return set(ordered[: min(max(below, 1), len(ordered) - 1)])


def _write_all(
    folder: Store,
    videos: dict[str, str],
    load: Callable[[str], Sample],
    header: dict[str, Any],
    plan: ShardPlan,
) -> dict[str, Any]:
    held_out = split_videos(videos.values(), plan)
    order = sorted(videos, key=lambda key: unit_hash(plan.seed, "order", key))
    shards: list[dict[str, Any]] = []
    chunks = 0
    with folder.writing(INDEX) as index_file:
        with pq.ParquetWriter(index_file, SAMPLES, compression="zstd") as index_rows:
            for split in (TRAIN, VALIDATION):
                keys = [key for key in order if (videos[key] in held_out) == (split == VALIDATION)]
                for group in _groups(keys, load, plan.target_bytes):
                    name = f"shard-{len(shards):06d}.tar"
                    with folder.writing(name) as temporary:
                        places = _write_tar(temporary, group)
                        facts = {
                            "sha256": sha256_file(temporary),
                            "bytes": temporary.stat().st_size,
                        }
                    rows = _rows(name, group, places, videos, split)
                    index_rows.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
                    shards.append({"name": name, "split": split, **facts, "samples": len(group)})
                    chunks += sum(row["chunks"] for row in rows)
        index = sha256_file(index_file)
    return {
        "schema": MANIFEST_SCHEMA,
        **header,
        "shards": shards,
        "index": {"name": INDEX, "sha256": index},
        "totals": {
            "samples": len(videos),
            "videos": len(set(videos.values())),
            "chunks": chunks,
            "bytes": sum(shard["bytes"] for shard in shards),
        },
    }


def _groups(
    keys: Sequence[str], load: Callable[[str], Sample], target: int
) -> Iterable[list[tuple[Sample, dict[str, bytes]]]]:
    """Samples gathered into shards of at least ``target`` bytes, the last one smaller."""
    group: list[tuple[Sample, dict[str, bytes]]] = []
    size = 0
    for key in keys:
        sample = load(key)
        members = sample.members()
        group.append((sample, members))
        size += _TAR_OVERHEAD + sum(len(data) for data in members.values())
        if size >= target:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_tar(
    path: Path, group: Sequence[tuple[Sample, dict[str, bytes]]]
) -> dict[str, dict[str, int]]:
    """Write one tar; where the bytes of its members lie, by name."""
    import webdataset  # it imports torch, which readers of an index can do without

    with path.open("wb") as file:
        tar = webdataset.TarWriter(file, user="", group="", mode=0o644, encoder=False, mtime=0)
        for sample, members in group:
            tar.write({"__key__": sample.key, **members})
        tar.close()
    with tarfile.open(path, "r:") as read:
        return {m.name: {"offset": m.offset_data, "size": m.size} for m in read.getmembers()}


def _rows(
    shard: str,
    group: Sequence[tuple[Sample, dict[str, bytes]]],
    places: dict[str, dict[str, int]],
    videos: dict[str, str],
    split: str,
) -> list[dict[str, Any]]:
    """Index rows of a shard's samples."""
    return [
        {
            "key": sample.key,
            "video_id": videos[sample.key],
            "split": split,
            "shard": shard,
            "chunks": sample.latent.shape[1] - 1,
            "latent_shape": list(sample.latent.shape),
            "members": [
                {"name": name, **places[f"{sample.key}.{name}"], "sha256": sha256_bytes(data)}
                for name, data in sorted(members.items())
            ],
            **captions_to_row(sample.captions),
        }
        for sample, members in group
    ]
