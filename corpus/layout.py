"""Where everything lies inside a corpus folder, and the header that says what it is.

::

    CORPUS/
      corpus.json                                   schema version, clock, tool version
      tables/<stage>/<fingerprint>/part-<hash>.parquet
      media/timing/<fingerprint>/<aa>/<video_id>.npy    pts of every decoded source frame
      media/clips/<aa>/<clip_id>.mp4                normalised clips
      media/latents/<fingerprint>/<aa>/<clip_id>.safetensors
      shards/<name>/shard-000000.tar ... manifest.json samples.parquet
      runs/<run id>/recipe.yaml inputs.parquet events.jsonl report.html
"""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.files import is_temporary
from corpus.store import OBJECT_STORES, Folder, LocalStore, Store, local_root, store_at

SCHEMA_VERSION = 2
TOOL = "tv2tv"
TOOL_VERSION = "0.1.0"
HEADER = "corpus.json"


@dataclass(frozen=True)
class Media:
    """The media folder as stages see it: names relative to it, so a corpus can be moved."""

    folder: Folder

    @property
    def store(self) -> Store:
        return store_at(self.folder)

    @property
    def root(self) -> Path:
        """The folder; UserError where the corpus is not local."""
        return local_root(self.store)

    def timing(self, fingerprint: str, video_id: str) -> str:
        return f"timing/{fingerprint}/{video_id[:2]}/{video_id}.npy"

    def clip(self, clip_id: str) -> str:
        return f"clips/{clip_id[:2]}/{clip_id}.mp4"

    def latent(self, fingerprint: str, clip_id: str) -> str:
        return f"latents/{fingerprint}/{clip_id[:2]}/{clip_id}.safetensors"

    def path(self, name: str) -> Path:
        """A local path to read a name that one of the methods above gave; see `Store.local`."""
        return self.store.local(name)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Write such a file; see `Store.writing`."""
        return self.store.writing(name)


@dataclass(frozen=True)
class Layout:
    """The folders of one corpus."""

    store: Store

    @property
    def root(self) -> Path:
        """The folder of the corpus; UserError where it is not local."""
        return local_root(self.store)

    @property
    def media(self) -> Media:
        return Media(self.store.at("media"))

    def table(self, stage: str, fingerprint: str) -> Store:
        return self.store.at(f"tables/{stage}/{fingerprint}")

    def shards(self, name: str) -> Store:
        return self.store.at(f"shards/{name}")

    @property
    def runs(self) -> Store:
        return self.store.at("runs")


def create(place: Path | str | Store, clock: Clock) -> Layout:
    """Open a corpus, making it if the folder is new or empty.

    Raises:
        UserError: it has another clock, is none of ours, or cannot be made or shared there.
    """
    store = store_at(place)
    where = store.place()
    scheme, remote, _ = where.partition("://")
    if remote and scheme not in OBJECT_STORES:
        known = ", ".join(f"{name}://" for name in OBJECT_STORES)
        raise UserError(
            f"a corpus cannot lie on {scheme}://: all workers must see it alike; "
            f"choose a folder, or one of {known}"
        )
    try:
        where.encode()  # a name of other bytes is refused by what writes Parquet
        if store.has(HEADER):
            found, layout = open_corpus(store)
            if found != clock:
                raise UserError(
                    f"{where} has the clock {found.to_json()}, the recipe asks for "
                    f"{clock.to_json()}: one corpus has one clock; choose another --corpus or "
                    "change the recipe's clock"
                )
            return layout
        _check_empty(store)
        head = {
            "schema": SCHEMA_VERSION,
            "clock": clock.to_json(),
            "tool": TOOL,
            "tool_version": TOOL_VERSION,
        }
        store.write_text(HEADER, json.dumps(head, indent=2) + "\n")
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"no corpus can be made in {where}: {error}") from error
    return Layout(store)


def open_corpus(place: Path | str | Store) -> tuple[Clock, Layout]:
    """Open an existing corpus and check that this version can read it."""
    store = store_at(place)
    if not store.has(HEADER):
        raise UserError(
            f"{store.place()} is no corpus: corpus.json is missing; `tv2tv run` makes one"
        )
    try:
        head = json.loads(store.read_text(HEADER))
        schema, version = head["schema"], head["tool_version"]
        if schema == SCHEMA_VERSION:
            return Clock(**head["clock"]), Layout(store)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{store.place(HEADER)} is damaged ({error!r}): write it again as it was, with schema, "
            "clock (fps, frames_per_chunk), tool and tool_version"
        ) from error
    raise UserError(
        f"{store.place()} has corpus schema {schema}, this tool reads {SCHEMA_VERSION}: "
        f"use the tool version that wrote it ({version})"
    )


def _check_empty(store: Store) -> None:
    """UserError unless nothing lies there but what a killed maker left."""
    if isinstance(store, LocalStore):
        if store.root.exists() and not store.root.is_dir():
            raise UserError(f"{store.root} is no folder: choose another --corpus")
        listed = store.root.iterdir() if store.root.exists() else ()
        empty = all(is_temporary(path.name) for path in listed)
    else:
        empty = not store.files()
    if not empty:
        where = store.place()
        raise UserError(f"{where} is not empty and holds no corpus.json: choose another --corpus")
