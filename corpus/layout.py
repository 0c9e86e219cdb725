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
from dataclasses import dataclass
from pathlib import Path

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.files import is_temporary, write_text

SCHEMA_VERSION = 1
TOOL = "tv2tv"
TOOL_VERSION = "0.1.0"


@dataclass(frozen=True)
class Media:
    """The media folder as stages see it: names relative to ``root``, so a corpus can be moved."""

    root: Path

    def timing(self, fingerprint: str, video_id: str) -> str:
        return f"timing/{fingerprint}/{video_id[:2]}/{video_id}.npy"

    def clip(self, clip_id: str) -> str:
        return f"clips/{clip_id[:2]}/{clip_id}.mp4"

    def latent(self, fingerprint: str, clip_id: str) -> str:
        return f"latents/{fingerprint}/{clip_id[:2]}/{clip_id}.safetensors"

    def path(self, name: str) -> Path:
        """Absolute path of a name that one of the methods above gave."""
        return self.root / name


@dataclass(frozen=True)
class Layout:
    """Paths of one corpus."""

    root: Path

    @property
    def media(self) -> Media:
        return Media(self.root / "media")

    def table(self, stage: str, fingerprint: str) -> Path:
        return self.root / "tables" / stage / fingerprint

    def shards(self, name: str) -> Path:
        return self.root / "shards" / name

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def header(self) -> Path:
        return self.root / "corpus.json"


def create(root: Path, clock: Clock) -> Layout:
    """Open a corpus, making it if the folder is new or empty.

    Raises:
        UserError: it has another clock, is none of ours, or cannot be made there.
    """
    layout = Layout(root)
    if layout.header.exists():
        found, _ = open_corpus(root)
        if found != clock:
            raise UserError(
                f"{root} has the clock {found.to_json()}, the recipe asks for {clock.to_json()}: "
                "one corpus has one clock; choose another --corpus or change the recipe's clock"
            )
        return layout
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is no folder: choose another --corpus")
    if root.exists() and not all(is_temporary(path.name) for path in root.iterdir()):
        raise UserError(f"{root} is not empty and holds no corpus.json: choose another --corpus")
    head = {
        "schema": SCHEMA_VERSION,
        "clock": clock.to_json(),
        "tool": TOOL,
        "tool_version": TOOL_VERSION,
    }
    try:
        str(root).encode()  # a name of other bytes is refused by what writes Parquet
        write_text(layout.header, json.dumps(head, indent=2) + "\n")
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"no corpus can be made in {root}: {error}") from error
    return layout


def open_corpus(root: Path) -> tuple[Clock, Layout]:
    """Open an existing corpus and check that this version can read it."""
    layout = Layout(root)
    if not layout.header.is_file():
        raise UserError(f"{root} is no corpus: corpus.json is missing; `tv2tv run` makes one")
    try:
        head = json.loads(layout.header.read_text(encoding="utf-8"))
        schema, version = head["schema"], head["tool_version"]
        if schema == SCHEMA_VERSION:
            return Clock(**head["clock"]), layout
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{layout.header} is damaged ({error!r}): write it again as it was, with schema, "
            "clock (fps, frames_per_chunk), tool and tool_version"
        ) from error
    raise UserError(
        f"{root} has corpus schema {schema}, this tool reads {SCHEMA_VERSION}: "
        f"use the tool version that wrote it ({version})"
    )
