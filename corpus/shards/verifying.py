"""Checks a set: every byte of every file, and that all of it says the same.

The manifest is looked at first, since it has the SHA-256 of all else; then the index; then every
shard by itself, several at a time. What is damaged is not believed: a shard is held against an
index only if that is the one which the manifest means, else against what can be said of it alone.
Memory follows the number of videos, and one sample per process.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import UserError
from corpus.files import standing
from corpus.ids import sha256_file
from corpus.shards.checking import About, check_sample
from corpus.shards.faults import Fault
from corpus.shards.indexing import check_index, check_row
from corpus.shards.manifest import INDEX, MANIFEST, digest, spelled
from corpus.shards.schema import problems
from corpus.shards.walking import Member, Walk
from corpus.shards.writing import shard_name
from corpus.store import Folder, LocalStore, Store, store_at

LARGEST = 1 << 30  # bytes of a manifest
AT_ONCE = 64  # rows of the index
MOST_TOGETHER = 32  # shards that a process is given at once


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    faults: tuple[Fault, ...]
    shards: int
    samples: int
    bytes: int


@dataclass(frozen=True)
class _Task:
    """One shard to check.

    Attributes:
        number: its row group in the index; None where no index can be trusted.
        told: what the manifest says of it; None where that is damaged.
    """

    name: str
    number: int | None
    told: Mapping[str, Any] | None
    about: About | None


@dataclass(frozen=True)
class _Checked:
    faults: tuple[Fault, ...]
    samples: int
    bytes: int


def verify(
    folder: Folder | str,
    *,
    workers: int | None = None,
    seen: Callable[[int, int], None] = lambda done, all_: None,
) -> Verified:
    """Check a set, here or on a remote store.

    Args:
        workers: processes; by default as many as there are cores, and one for one shard.
        seen: told after every shard how many are done, of how many.

    Raises:
        UserError: nothing lies there.
        OSError: a file cannot be read just now.
    """
    store = store_at(folder)
    if isinstance(store, LocalStore):
        store = LocalStore(standing(store.root))
    # What begins with a dot belongs to nobody's set: a file manager's notes, a repository's.
    there = {name: stat for name, stat in store.files().items() if not name.startswith(".")}
    if not there:
        raise UserError(
            f"{store.place()} holds no shards: name a folder such as CORPUS/shards/main"
        )
    faults, manifest = _manifest(store, set(there))
    trusted, index = manifest is not None and not faults, None
    if manifest is not None:
        if trusted:
            faults += _listed(store, manifest, {name: there[name].size for name in there})
        index = _trusted_index(store, manifest)
        if index is not None:
            faults += check_index(index, manifest)
    tasks = _tasks(sorted(there), manifest if trusted else None, index)
    if not trusted:  # else they are listed
        known = {shard_name(task.number) for task in tasks if task.number is not None}
        faults += [Fault(name, "is missing") for name in _indexed(index) if name not in known]
    checked = _all(store, index, tasks, workers, seen)
    faults += [fault for one in checked for fault in one.faults]
    return Verified(
        tuple(faults),
        len(checked),
        sum(one.samples for one in checked),
        sum(stat.size for stat in there.values()),
    )


# -- the manifest -----------------------------------------------------------------------------


def _manifest(store: Store, there: set[str]) -> tuple[list[Fault], dict[str, Any] | None]:
    """What is wrong with it, and what it says if it can be read at all."""
    say = partial(Fault, MANIFEST)
    if MANIFEST not in there:
        return [say("is missing: the set was never finished, or not wholly copied")], None
    path = store.local(MANIFEST)
    if path.stat().st_size > LARGEST:
        return [say(f"is larger than {LARGEST} bytes")], None
    data = path.read_bytes()
    try:
        manifest = json.loads(data)
        if not isinstance(manifest, dict):
            raise ValueError("it is no object")
        one_spelling = spelled(manifest).encode() == data
        sound = manifest.get("digest") == digest(manifest)
    except (ValueError, RecursionError) as error:
        return [say(f"cannot be read: {error}")], None
    wrong = list(problems("manifest", manifest))
    faults = [say(what) for what in wrong]
    if not sound:
        faults.append(say("its content has another digest than it says"))
    if not one_spelling:
        faults.append(say("is not spelled as it has to be: keys sorted, one space of indent"))
    return faults, None if wrong else manifest


def _listed(store: Store, manifest: dict[str, Any], there: dict[str, int]) -> Iterator[Fault]:
    """Files against the list of them; of shards only whether they are there."""
    told = {one["name"]: one for one in (*manifest["files"], manifest["index"])}
    shards = [one["name"] for one in manifest["shards"]]
    if shards != [shard_name(number) for number in range(len(shards))]:
        yield Fault(MANIFEST, "shards are not numbered from 0 on, in order")
    for name in (*told, *shards):
        if name not in there:
            yield Fault(name, "is missing")
    for name in sorted(set(there) - set(told) - set(shards) - {MANIFEST}):
        yield Fault(name, f"does not belong here: {MANIFEST} does not know it")
    for name in sorted(set(told) & set(there)):
        if there[name] != told[name]["bytes"] or _sha256(store, name) != told[name]["sha256"]:
            yield Fault(name, f"its bytes are not those of which {MANIFEST} tells")


def _trusted_index(store: Store, manifest: dict[str, Any]) -> Path | None:
    """The index if it is the one that the manifest means, however damaged that is elsewhere."""
    told = manifest["index"]
    if told["name"] != INDEX or store.size(INDEX) != told["bytes"]:
        return None
    return store.local(INDEX) if _sha256(store, INDEX) == told["sha256"] else None


def _sha256(store: Store, name: str) -> str:
    return sha256_file(store.local(name))


# -- shards -----------------------------------------------------------------------------------


def _tasks(there: list[str], manifest: dict[str, Any] | None, index: Path | None) -> list[_Task]:
    tars = [name for name in there if name.endswith(".tar") and "/" not in name]
    told = {} if manifest is None else {one["name"]: one for one in manifest["shards"]}
    about = None
    if manifest is not None:
        about = About(
            manifest["clock"], manifest["codec"], manifest["fingerprints"], manifest.get("policy")
        )
    numbers = {name: number for number, name in enumerate(_indexed(index))}
    wanted = [name for name in tars if manifest is None or name in told]
    return [_Task(name, numbers.get(name), told.get(name), about) for name in wanted]


def _indexed(index: Path | None) -> list[str]:
    """Shards that an index speaks of: one per row group."""
    if index is None:
        return []
    try:
        with pq.ParquetFile(index) as file:
            return [shard_name(number) for number in range(file.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError):
        return []  # `check_index` has said so


def _all(
    store: Store,
    index: Path | None,
    tasks: list[_Task],
    workers: int | None,
    seen: Callable[[int, int], None],
) -> list[_Checked]:
    """Every shard; a process opens the index once for several of them."""
    many = min(workers or os.cpu_count() or 1, len(tasks))
    found = list[_Checked]()
    if many < 2:
        for one in _some(store, index, tasks):
            found.append(one)
            seen(len(found), len(tasks))
        return found
    size = max(1, min(MOST_TOGETHER, len(tasks) // (many * 4)))
    groups = [tasks[at : at + size] for at in range(0, len(tasks), size)]
    with ProcessPoolExecutor(many, get_context("spawn")) as pool:
        for some in pool.map(partial(_listed_some, store, index), groups):
            found += some
            seen(len(found), len(tasks))
    return found


def _listed_some(store: Store, index: Path | None, tasks: list[_Task]) -> list[_Checked]:
    return list(_some(store, index, tasks))


def _some(store: Store, index: Path | None, tasks: list[_Task]) -> Iterator[_Checked]:
    """Shards one after the other."""
    if index is None or all(task.number is None for task in tasks):
        yield from (_shard(store, None, task) for task in tasks)
        return
    with pq.ParquetFile(index) as rows:
        yield from (_shard(store, rows, task) for task in tasks)


def _shard(store: Store, index: pq.ParquetFile | None, task: _Task) -> _Checked:
    path = store.local(task.name)
    size, faults = path.stat().st_size, list[Fault]()
    with path.open("rb") as file:
        walk = Walk(file, size)
        samples = _Samples(task)
        if index is None or task.number is None:
            for members in walk.alone():
                faults += samples.check(members, None)
        else:
            try:
                for row, members in walk.guided(_rows(index, task.number)):
                    faults += samples.check(members, row)
            except (pa.ArrowException, ValueError) as error:
                faults.append(Fault(INDEX, f"row group {task.number}: {error}"))
                walk.skip()
    faults += [Fault(task.name, what) for what in walk.faults]
    if task.told is not None:
        faults += _against(task, size, walk.sha256(), len(samples.met), bool(faults))
    return _Checked(tuple(faults), len(samples.met), size)


class _Samples:
    """The samples of one shard, one after the other."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self.met = set[str]()

    def check(self, members: Sequence[Member], row: Mapping[str, Any] | None) -> Iterator[Fault]:
        key, shard = members[0].key if members else "", self._task.name
        names = [one.name for one in members]
        if names != sorted(set(names)):
            yield Fault(shard, f"members {names} are not each once, by name", key)
        if key in self.met:
            yield Fault(shard, "is there twice", key)
        self.met.add(key)
        for one in members:
            yield from (Fault(shard, what, key, one.name) for what in one.faults)
        data = {one.name: one.data for one in members}
        for member, what in check_sample(key, data, row, self._task.about):
            yield Fault(shard, what, key, member)


def _against(task: _Task, size: int, sha256: str, samples: int, known: bool) -> Iterator[Fault]:
    """A shard as a whole against the manifest; that its bytes differ is told only where nothing
    that was found says so already."""
    told = task.told or {}
    if size != told["bytes"]:
        yield Fault(task.name, f"has {size} bytes, {MANIFEST} says {told['bytes']}")
    elif sha256 != told["sha256"] and not known:
        yield Fault(task.name, f"its bytes are not those of which {MANIFEST} tells")
    if samples != told["samples"] and not known:
        yield Fault(task.name, f"has {samples} samples, {MANIFEST} says {told['samples']}")


def _rows(index: pq.ParquetFile, number: int) -> Iterator[dict[str, Any]]:
    """Rows of one shard, a few at a time; ValueError for one that cannot be meant so."""
    for batch in index.iter_batches(AT_ONCE, row_groups=[number]):
        for row in pa.Table.from_batches([batch]).to_pylist():
            check_row(row)
            yield row
