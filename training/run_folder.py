"""A run's folder: what is written once when a run begins, and how the run is opened again.

::

    RUN/
      config.yaml       the resolved config
      tokenizer.json
      start_frames/     frames.json, frames.safetensors, and NAME.png to look at
      run.json          clock, codec, latent shapes, identity of the shards; written last
      metrics.jsonl     a line per step
      checkpoints/      see `training.checkpoint`
      samples/          sample films, if asked for
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from corpus.clock import Clock
from corpus.codecs import Codec, from_description
from corpus.errors import UserError
from corpus.files import write_text, writing
from corpus.shards import ShardSet
from training import checkpoint
from training.config import RunConfig, load_config
from training.model import TV2TV
from training.samples import Samples, meta_text, shape_of
from training.sequence import Latent
from training.tokenizer import Tokenizer
from training.weights import load_model

SCHEMA = 2


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer.json"

    @property
    def head(self) -> Path:
        return self.root / "run.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def start_frames(self) -> Path:
        return self.root / "start_frames"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def begun(self) -> bool:
        """Whether a run lives here; a beginning that was cut off is none."""
        return self.head.exists()


@dataclass(frozen=True)
class Head:
    """What a reader must know of a run besides its config.

    Attributes:
        shapes: latent shapes without time that were trained on, (C, h, w), sorted.
        longest: most tokens that any one text has.
        shards: what the shards are: SHA-256 of their index, and their recipe's name; how much of
            them is learned from (`training.plan.LeftOut`).
        tokenizer: SHA-256 of the tokenizer.json.
    """

    clock: Clock
    codec: dict[str, Any]
    shapes: tuple[tuple[int, int, int], ...]
    longest: int
    shards: dict[str, Any]
    tokenizer: str

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "clock": self.clock.to_json(),
            "codec": self.codec,
            "shapes": [list(shape) for shape in self.shapes],
            "longest": self.longest,
            "shards": self.shards,
            "tokenizer": self.tokenizer,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Head":
        if data.get("schema") != SCHEMA:
            raise UserError(f"run.json has schema {data.get('schema')}, not {SCHEMA}")
        shapes = tuple((shape[0], shape[1], shape[2]) for shape in data["shapes"])
        return Head(
            Clock(**data["clock"]),
            data["codec"],
            shapes,
            data["longest"],
            data["shards"],
            data["tokenizer"],
        )


@dataclass(frozen=True)
class StartFrame:
    """A validation start frame, kept for generating.

    Attributes:
        latent: (C, h, w).
        meta: the meta-caption of the clip that it begins.
    """

    name: str
    key: str
    meta: str
    latent: Latent


@dataclass(frozen=True)
class Run:
    """A trained run, ready to generate."""

    root: Path
    config: RunConfig
    head: Head
    tokenizer: Tokenizer
    codec: Codec
    model: TV2TV
    step: int
    start_frames: tuple[StartFrame, ...]

    @property
    def clock(self) -> Clock:
        return self.head.clock

    def size(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        """(height, width) in pixels of a latent shape (C, h, w)."""
        _, down, right = self.codec.info.stride
        return shape[1] * down, shape[2] * right


def make_head(shards: ShardSet, samples: Samples, tokenizer: Tokenizer) -> Head:
    """The head of a run on these samples."""
    lengths = [len(text.meta) for text in samples.texts]
    lengths += [len(span.tokens) for text in samples.texts for span in text.spans]
    shapes = {shape_of(entry) for entry in samples.entries}
    recipe = shards.manifest.get("recipe")
    return Head(
        clock=shards.clock,
        codec=shards.codec,
        shapes=tuple(sorted(shapes)),
        longest=max(lengths, default=0),
        shards={
            "index": shards.manifest["index"]["sha256"],
            "recipe": recipe.get("name") if isinstance(recipe, dict) else None,
            **asdict(samples.left_out),
        },
        tokenizer=tokenizer.sha256,
    )


def begin(
    folder: RunFolder,
    config: RunConfig,
    head: Head,
    tokenizer: Tokenizer,
    frames: Sequence[StartFrame],
) -> None:
    """Write all that does not change from step to step; the head last, which makes it a run."""
    tokenizer.save(folder.tokenizer)
    _write_frames(folder.start_frames, frames, from_description(head.codec))
    write_text(folder.config, config.to_yaml())
    write_text(folder.head, json.dumps(head.to_json(), indent=2) + "\n")


def read_config(folder: RunFolder) -> RunConfig:
    """The config that a run was begun with, or resumed with the last time."""
    return load_config(folder.config)


def read_head(folder: RunFolder) -> Head:
    """The head of a run; UserError when the folder holds none."""
    try:
        return Head.from_json(json.loads(folder.head.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder.root} holds no run: name a folder that `tv2tv train` made"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.head} cannot be read: {error!r}") from error


def load_run(root: Path) -> Run:
    """Open a run at its newest checkpoint, with the averaged weights.

    Settings of this process, like the threads of torch, stay as they are.

    Raises:
        UserError: no run, no checkpoint yet, a damaged file, or another codec than it was made for.
    """
    folder = RunFolder(root)
    head = read_head(folder)
    place = checkpoint.latest(folder.checkpoints)
    if place is None:
        raise UserError(f"{root} has no checkpoint yet: train first")
    return Run(
        root=root,
        config=read_config(folder),
        head=head,
        tokenizer=Tokenizer.load(folder.tokenizer, head.tokenizer),
        codec=from_description(head.codec),
        model=load_model(place),
        step=checkpoint.read_state(place)["step"],
        start_frames=read_start_frames(folder),
    )


def choose_start_frames(shards: ShardSet, head: Head, config: RunConfig) -> tuple[StartFrame, ...]:
    """The first start frames of the index, whose order is random already.

    Held-out ones, named ``start-NN``; where nothing is held out, those that are trained on, named
    ``trained-NN``. Only of shapes that were trained on: others may not even divide into tokens.
    """
    fitting = [entry for entry in shards.entries if shape_of(entry) in head.shapes]
    held_out = [entry for entry in fitting if entry.split == "validation"]
    return tuple(
        StartFrame(
            name=f"{'start' if held_out else 'trained'}-{number:02d}",
            key=entry.key,
            meta=meta_text(entry, config.captions),
            latent=shards.latent(entry)[:, 0],
        )
        for number, entry in enumerate((held_out or fitting)[: config.sampling.start_frames])
    )


def _write_frames(folder: Path, frames: Sequence[StartFrame], codec: Codec) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        with writing(folder / f"{frame.name}.png") as temporary:
            picture = codec.decode(frame.latent[:, None])[0]
            Image.fromarray(picture).save(temporary, format="PNG")
    with writing(folder / "frames.safetensors") as temporary:
        save_file({f.name: np.ascontiguousarray(f.latent) for f in frames}, temporary)
    rows = [{"name": frame.name, "key": frame.key, "meta": frame.meta} for frame in frames]
    write_text(folder / "frames.json", json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def read_start_frames(folder: RunFolder) -> tuple[StartFrame, ...]:
    """The start frames that a run stored; UserError when they cannot be read."""
    place = folder.start_frames
    try:
        rows = json.loads((place / "frames.json").read_text(encoding="utf-8"))
        latents = load_file(place / "frames.safetensors")
        return tuple(
            StartFrame(row["name"], row["key"], row["meta"], latents[row["name"]]) for row in rows
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{place} cannot be read: {error!r}") from error
