"""Opening a shard set: index first, then single members by offset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.captions import ClipCaptions
from corpus.clock import Clock
from corpus.errors import UserError
from corpus.files import standing
from corpus.ids import sha256_bytes, sha256_file
from corpus.shards.index import SAMPLES, captions_from_row, members_from_row
from corpus.shards.manifest import INDEX, MANIFEST, read_manifest
from corpus.shards.sample import CAPTIONS, INFO, KEY, LATENT, parse_json, parse_latent
from corpus.store import Stat, Store


@dataclass(frozen=True)
class Entry:
    """One sample as the index knows it.

    Attributes:
        split: ``train`` or ``validation``.
        latent_shape: (C, 1 + chunks, h, w).
        latent_dtype: ``float16`` or ``bfloat16``.
        captions: texts, scores and verdicts; prompt, model and binding are in the tar.
        members: member name to {"offset", "size", "sha256"}.
    """

    key: str
    video_id: str
    split: str
    shard: str
    chunks: int
    latent_shape: tuple[int, int, int, int]
    latent_dtype: str
    captions: ClipCaptions
    members: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ShardSet:
    """A folder of shards. Every member that is read is checked against its SHA-256."""

    folder: Path
    manifest: dict[str, Any]
    entries: tuple[Entry, ...]

    @staticmethod
    def open(folder: Path) -> "ShardSet":
        """Read manifest and index; UserError when they are missing, foreign or damaged."""
        folder = standing(folder)
        manifest = read_manifest(folder)
        index = folder / INDEX
        if not index.is_file() or sha256_file(index) != manifest["index"]["sha256"]:
            raise UserError(
                f"{index} is missing or differs from {MANIFEST}: copy it again, or run `tv2tv run` "
                "again, which makes the shards anew"
            )
        table = pq.read_table(index)
        if not table.schema.equals(SAMPLES):
            raise UserError(
                f"{index} has other columns than this version reads: run `tv2tv run` again, which "
                "makes the shards anew"
            )
        return ShardSet(folder, manifest, tuple(entry_of(row) for row in table.to_pylist()))

    @property
    def clock(self) -> Clock:
        return Clock(**self.manifest["clock"])

    @property
    def codec(self) -> dict[str, Any]:
        """Description of the codec; `corpus.codecs.from_description` builds it."""
        return dict(self.manifest["codec"])

    @property
    def policy(self) -> dict[str, Any] | None:
        """The caption policy that was written into these shards; None for stored captions."""
        return self.manifest.get("policy")

    def latent(self, entry: Entry) -> NDArray[np.float32]:
        """float32 (C, 1 + k, h, w), standardised."""
        data = self._member(entry, LATENT)
        try:
            return parse_latent(data, entry.latent_shape, entry.latent_dtype)
        except ValueError as error:
            raise UserError(f"{entry.shard}, sample {entry.key}, {LATENT}: {error}") from error

    def captions(self, entry: Entry) -> ClipCaptions:
        """The full captions record, with prompt, model and binding."""
        return ClipCaptions.from_json(parse_json(self._member(entry, CAPTIONS)))

    def info(self, entry: Entry) -> dict[str, Any]:
        """Provenance of a sample."""
        return parse_json(self._member(entry, INFO))

    def _member(self, entry: Entry, name: str) -> bytes:
        return read_member(self.folder / entry.shard, entry, name)


def read_member(shard: Path, entry: Entry, name: str) -> bytes:
    """Bytes of a member; UserError unless they are those of which the index tells."""
    member = entry.members[name]
    try:
        with shard.open("rb") as file:
            file.seek(member["offset"])
            data = file.read(min(member["size"], shard.stat().st_size))
    except (OSError, ValueError) as error:
        raise UserError(f"{entry.shard}, sample {entry.key}, {name}: {error}") from error
    if sha256_bytes(data) != member["sha256"]:
        raise UserError(
            f"{entry.shard}, sample {entry.key}, {name}: the bytes differ from the index; "
            f"copy {shard} again, or delete it and run `tv2tv run` again"
        )
    return data


def spans_with_text(folder: Store) -> tuple[int, int]:
    """Spans of a set that show text, and all of them, by its index; ladders do not count."""
    shown = spans = 0
    with pq.ParquetFile(folder.local(INDEX)) as index:
        for part in index.iter_batches(columns=["segments"]):
            texts = pc.struct_field(pc.list_flatten(part["segments"]), "text")
            shown += pc.sum(pc.not_equal(texts, "")).as_py() or 0
            spans += len(texts)
    return shown, spans


def is_intact(folder: Store, manifest: dict[str, Any]) -> bool:
    """Whether the files of a set are still those that its manifest, written last, tells of.

    Sizes of all shards and the bytes of the index are always compared. The bytes of a shard are
    read only where it was touched after the manifest, since a large set takes hours to read; what
    changes without a trace, on a bad disk, is found by whoever reads the member.
    """
    there = folder.files()
    if any(name not in there for name in (MANIFEST, manifest["index"]["name"])):
        return False
    index = folder.local(manifest["index"]["name"])
    return sha256_file(index) == manifest["index"]["sha256"] and all(
        _is_as_written(folder, shard, there.get(shard["name"]), there[MANIFEST].modified)
        for shard in manifest["shards"]
    )


def _is_as_written(folder: Store, shard: dict[str, Any], found: Stat | None, written: int) -> bool:
    if found is None or found.size != shard["bytes"]:
        return False
    return found.modified < written or sha256_file(folder.local(shard["name"])) == shard["sha256"]


def entry_of(row: dict[str, Any]) -> Entry:
    """A row of the index; UserError if it cannot be meant so: its names become paths."""
    if not KEY.fullmatch(row["key"]):
        raise UserError(f"index: {row['key']!r} is no key of a sample")
    shape = tuple(row["latent_shape"])
    if len(shape) != 4 or shape[1] != 1 + row["chunks"]:
        raise UserError(f"index, sample {row['key']}: latent shape {shape} does not fit its chunks")
    name = row["shard"]
    if Path(name).name != name or not name.endswith(".tar"):
        raise UserError(f"index, sample {row['key']}: {name!r} is no shard name")
    return Entry(
        key=row["key"],
        video_id=row["video_id"],
        split=row["split"],
        shard=name,
        chunks=row["chunks"],
        latent_shape=shape,
        latent_dtype=row["latent_dtype"],
        captions=captions_from_row(row),
        members=members_from_row(row),
    )
