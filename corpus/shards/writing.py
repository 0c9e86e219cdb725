"""Writing a shard set: all of it or none of it, the same bytes for the same samples."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.ids import sha256_bytes, sha256_file, unit_hash
from corpus.shards.card import card
from corpus.shards.census import Census, Columns
from corpus.shards.index import SAMPLES, captions_to_row
from corpus.shards.manifest import (
    CARD,
    INDEX,
    MANIFEST,
    MANIFEST_SCHEMA,
    SPLITS,
    TRAIN,
    VALIDATION,
    sealed,
    spelled,
)
from corpus.shards.sample import Sample
from corpus.shards.tar import TarWriter
from corpus.store import Folder, Store, store_at

AHEAD = 16  # samples that are fetched while one is written
ROWS = 512  # of the index that are Python objects at once


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
    columns: Columns = Columns(),  # noqa: B008 - frozen
    soon: Callable[[str], None] = lambda key: None,
) -> dict[str, Any]:
    """Write ``folder`` anew and return its manifest.

    In a local folder everything is written beside it first and moved into place at the end, so
    `ShardSet.open` finds the old set or the new one, whenever this process is killed. Remotely the
    old manifest goes first and the new one comes last: then it may also find none. There, shards
    are uploaded while the next ones are written, and whoever takes up the work of a killed writer
    uploads only what it had not (`corpus.uploading`).

    Args:
        videos: sample key to video id; decides order and split.
        load: sample by key, called once per key, in shard order.
        header: codec, clock, recipe and fingerprints for the manifest; ``counts`` of the corpus for
            the card.
        ready: called before anything that stands there is touched; raises to stop that.
        columns: of ``meta`` that name licences and sources.
        soon: told of each key some time before it is loaded, so that it can be fetched meanwhile.
    """
    with store_at(folder).replacing(MANIFEST, ready) as building:
        made = _write_all(building, videos, partial(_loaded, load, soon), header, plan, columns)
        manifest = _with_card(building, made)
        building.write_text(MANIFEST, spelled(manifest))
    return manifest


def refresh_card(
    folder: Store,
    manifest: dict[str, Any],
    counts: dict[str, Any] | None,
    ready: Callable[[], None] = lambda: None,
) -> bool:
    """Tell new counts of the corpus in the card and the manifest of a set whose samples stay.

    Whoever is killed in between leaves a card that its manifest does not know; the next call, which
    follows before anything else is made of the corpus, mends that.

    Returns:
        Whether anything had to be written.
    """
    about = {name: value for name, value in manifest.items() if name not in ("counts", "files")}
    about |= {} if counts is None else {"counts": counts}
    text = card(about)
    wanted = sealed({**about, "files": _files(text)})
    if wanted == manifest and folder.has(CARD) and folder.read(CARD) == text.encode():
        return False
    ready()
    folder.write_text(CARD, text)
    folder.write_text(MANIFEST, spelled(wanted))
    return True


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


def order_of(seed: int, key: str) -> float:
    """Samples stand in the order of this number, within their split."""
    return unit_hash(seed, "order", key)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def _write_all(
    folder: Store,
    videos: dict[str, str],
    load: Callable[[Iterator[str]], Iterator[Sample]],
    header: dict[str, Any],
    plan: ShardPlan,
    columns: Columns,
) -> dict[str, Any]:
    """All shards and the index; the manifest so far."""
    known = set(videos.values())
    held_out = split_videos(known, plan)
    order = sorted(videos, key=lambda key: order_of(plan.seed, key))
    shards: list[dict[str, Any]] = []
    census = Census(columns, {TRAIN: len(known) - len(held_out), VALIDATION: len(held_out)})
    with folder.writing(INDEX) as index_file:
        with pq.ParquetWriter(index_file, SAMPLES, compression="zstd") as index_rows:
            for split in SPLITS:
                wanted = split == VALIDATION
                samples = load(key for key in order if (videos[key] in held_out) == wanted)
                for first in samples:
                    name = shard_name(len(shards))
                    rows = _Rows(videos, split, name)
                    with folder.writing(name) as temporary:
                        facts = _write_tar(
                            temporary, chain([first], samples), plan.target_bytes, rows, census
                        )
                    table = rows.table()
                    index_rows.write_table(table, row_group_size=len(table))
                    shards.append({"name": name, "split": split, **facts, "samples": len(table)})
        index = {
            "name": INDEX,
            "sha256": sha256_file(index_file),
            "bytes": index_file.stat().st_size,
        }
    contents = census.to_json()
    return {
        "schema": MANIFEST_SCHEMA,
        **header,
        "plan": asdict(plan),
        "shards": shards,
        "index": index,
        "contents": contents,
        "totals": {
            "samples": len(videos),
            "videos": len(known),
            "chunks": sum(one["chunks"] for one in contents["splits"].values()),
            "bytes": sum(shard["bytes"] for shard in shards),
        },
    }


def _loaded(
    load: Callable[[str], Sample], soon: Callable[[str], None], keys: Iterator[str]
) -> Iterator[Sample]:
    """Samples in order; the next `AHEAD` keys are known to ``soon``."""
    waiting = deque[str]()
    for key in keys:
        soon(key)
        waiting.append(key)
        if len(waiting) > AHEAD:
            yield load(waiting.popleft())
    yield from map(load, waiting)


def _with_card(folder: Store, manifest: dict[str, Any]) -> dict[str, Any]:
    text = card(manifest)
    folder.write_text(CARD, text)
    return sealed({**manifest, "files": _files(text)})


def _files(text: str) -> list[dict[str, Any]]:
    """What the manifest knows of the files beside shards and index."""
    data = text.encode()
    return [{"name": CARD, "sha256": sha256_bytes(data), "bytes": len(data)}]


class _Rows:
    """Index rows of one shard; few of them are Python objects at any time."""

    def __init__(self, videos: dict[str, str], split: str, shard: str) -> None:
        self.split = split
        self._videos, self._shard = videos, shard
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []

    def add(self, sample: Sample, members: list[dict[str, Any]]) -> None:
        self._rows.append(
            {
                "key": sample.key,
                "video_id": self._videos[sample.key],
                "split": self.split,
                "shard": self._shard,
                "chunks": sample.latent.shape[1] - 1,
                "latent_shape": list(sample.latent.shape),
                "latent_dtype": sample.dtype,
                "members": members,
                **captions_to_row(sample.captions),
            }
        )
        if len(self._rows) == ROWS:
            self._flush()

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._tables)

    def _flush(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=SAMPLES))
        self._rows = []


def _write_tar(
    path: Path, samples: Iterator[Sample], target: int, rows: _Rows, census: Census
) -> dict[str, Any]:
    """Take samples into one tar until it holds ``target`` bytes; its SHA-256 and size."""
    with path.open("wb") as file:
        tar = TarWriter(file)
        for sample in samples:
            rows.add(sample, [_add(tar, sample.key, *one) for one in sample.members().items()])
            census.add(sample, rows.split)
            if tar.offset >= target:
                break
        size, sha256 = tar.close()
    return {"sha256": sha256, "bytes": size}


def _add(tar: TarWriter, key: str, name: str, data: bytes) -> dict[str, Any]:
    """Add a member; where its bytes lie."""
    offset = tar.add(f"{key}.{name}", data)
    return {"name": name, "offset": offset, "size": len(data), "sha256": sha256_bytes(data)}
