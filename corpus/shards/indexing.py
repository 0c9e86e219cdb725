"""Whether samples.parquet says the same as the manifest, and keeps the rules of order and split."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.shards.faults import Fault
from corpus.shards.index import SAMPLES
from corpus.shards.manifest import INDEX, MANIFEST, SPLITS, VALIDATION
from corpus.shards.sample import KEY
from corpus.shards.writing import ShardPlan, order_of, shard_name, split_videos

_READ = ["key", "video_id", "split", "shard", "chunks"]
_MOST_BYTES = 1 << 32  # of a row group, unpacked


def check_index(path: Path, manifest: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with an index whose bytes are those that the manifest means.

    Columns are read row group by row group; of all samples only the videos are held.
    """
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SAMPLES):
                yield Fault(INDEX, "has other columns, or in another order")
                return
            yield from _groups(file, manifest)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Fault(INDEX, f"cannot be read: {error}")


def _groups(file: pq.ParquetFile, manifest: Mapping[str, Any]) -> Iterator[Fault]:
    shards, about = manifest["shards"], file.metadata
    sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    if sizes != [shard["samples"] for shard in shards]:
        yield Fault(INDEX, f"its row groups have {sizes[:9]} samples, {MANIFEST} says otherwise")
        return
    seen = _Seen(ShardPlan(**{name: manifest["plan"][name] for name in ShardPlan.__annotations__}))
    for number, shard in enumerate(shards):
        if about.row_group(number).total_byte_size > _MOST_BYTES:
            yield Fault(INDEX, f"row group {number} is absurdly large")
            return
        for batch in file.iter_batches(4096, row_groups=[number], columns=_READ):
            for row in batch.to_pylist():
                yield from seen.add(row, shard_name(number), shard["split"])
    yield from seen.ended(manifest)


def check_row(row: Mapping[str, Any]) -> None:
    """ValueError if a row holds nothing where something has to be, or numbers below zero."""
    members, shape = row["members"] or [None], row["latent_shape"] or [None]
    texts = [row[name] for name in ("key", "video_id", "split", "shard", "latent_dtype")]
    numbers = [row["chunks"], *shape]
    for one in members:
        texts += [one and one["name"], one and one["sha256"]]
        numbers += [one and one["offset"], one and one["size"]]
    sound = all(isinstance(one, str) for one in texts)
    if not sound or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise ValueError(f"the row of sample {row['key']!r} is not whole")


@dataclass
class _Seen:
    """What the rows so far were like."""

    plan: ShardPlan
    last: tuple[str, float] = ("", -1.0)
    videos: dict[str, set[str]] = field(default_factory=lambda: {one: set() for one in SPLITS})
    samples: Counter[str] = field(default_factory=Counter)
    chunks: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any], shard: str, split: str) -> Iterator[Fault]:
        key = str(row["key"])
        if not KEY.fullmatch(key):
            yield Fault(INDEX, f"{key!r} is no key", key)
        if row["shard"] != shard or row["split"] != split:
            where = f"{row['shard']!r} of {row['split']!r}"
            yield Fault(INDEX, f"says {where}, and stands where {shard} of {split} has to", key)
        place = order_of(self.plan.seed, key)
        before, self.last = self.last, (split, place)
        if SPLITS.index(split) < (SPLITS.index(before[0]) if before[0] else 0):
            yield Fault(INDEX, f"{split} stands behind {before[0]}", key)
        elif before[0] == split and place <= before[1]:
            yield Fault(INDEX, "is there twice, or not where its key's hash places it", key)
        self.videos[split].add(str(row["video_id"]))
        self.samples[split] += 1
        self.chunks[split] += row["chunks"] or 0

    def ended(self, manifest: Mapping[str, Any]) -> Iterator[Fault]:
        train, held_out = self.videos["train"], self.videos[VALIDATION]
        for video in sorted(train & held_out):
            yield Fault(INDEX, f"video {video} has clips in both splits")
        for video in sorted(held_out ^ split_videos(train | held_out, self.plan)):
            where = VALIDATION if video in held_out else "train"
            yield Fault(INDEX, f"video {video} is in {where}, by its hash it is not")
        found = {
            "samples": self.samples.total(),
            "videos": len(train | held_out),
            "chunks": self.chunks.total(),
            "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        }
        for name, number in found.items():
            if manifest["totals"][name] != number:
                told = manifest["totals"][name]
                yield Fault(MANIFEST, f"totals.{name} is {told}, the set has {number}")
        for split in SPLITS:
            counted = {
                "samples": self.samples[split],
                "videos": len(self.videos[split]),
                "chunks": self.chunks[split],
            }
            if manifest["contents"]["splits"][split] != counted:
                yield Fault(MANIFEST, f"contents.splits.{split} is not {counted}")
