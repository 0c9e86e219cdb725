"""Writing a shard set: all of it or none of it, the same bytes for the same samples."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
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
                samples = map(load, keys)
                for first in samples:
                    name = f"shard-{len(shards):06d}.tar"
                    with folder.writing(name) as temporary:
                        rows = _write_tar(temporary, chain([first], samples), plan.target_bytes)
                        facts = {
                            "sha256": sha256_file(temporary),
                            "bytes": temporary.stat().st_size,
                        }
                    for row in rows:
                        row |= {"video_id": videos[row["key"]], "split": split, "shard": name}
                    index_rows.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
                    shards.append({"name": name, "split": split, **facts, "samples": len(rows)})
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


def _write_tar(path: Path, samples: Iterator[Sample], target: int) -> list[dict[str, Any]]:
    """Take samples into one tar until it holds ``target`` bytes; what the index tells of each.

    Python's own `tarfile` rather than webdataset's writer, which is one of it: that would import
    torch (2 s), and does not tell where the members lie.
    """
    rows = []
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            members = [_add(tar, sample.key, *member) for member in sample.members().items()]
            rows.append(
                {
                    "key": sample.key,
                    "chunks": sample.latent.shape[1] - 1,
                    "latent_shape": list(sample.latent.shape),
                    "members": members,
                    **captions_to_row(sample.captions),
                }
            )
            if tar.offset >= target:
                break
    return rows


def _add(tar: tarfile.TarFile, key: str, name: str, data: bytes) -> dict[str, Any]:
    """Add a member as of no time and no user; where its bytes lie."""
    info = tarfile.TarInfo(f"{key}.{name}")
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    offset = tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return {"name": name, "offset": offset, "size": len(data), "sha256": sha256_bytes(data)}
