"""Where a codec's weights lie on this machine, and the name that their bytes have.

Where they lie is the machine's affair and enters no description of latents; what they are does:
the same bytes have one revision, from a folder or from the cache of the Hugging Face hub. Nothing
is downloaded here, and nothing that could be code is read unless that was asked for.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.ids import content_id, sha256_file

ENVIRONMENT = "TV2TV_CODEC_WEIGHTS"
DEVICE = "TV2TV_CODEC_DEVICE"
ALLOWED = "TV2TV_ALLOW_TORCHSCRIPT"
DIGITS = 16
_HUB = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$", re.ASCII)


@dataclass(frozen=True)
class Runtime:
    """What a machine decides about a codec, and no description of latents tells.

    Attributes:
        weights: folder, file, or repository of the hub, ``owner/name`` or ``owner/name@revision``;
            None for the codec's own repository.
        device: where it computes, such as ``cpu`` or ``cuda``.
        allow_torchscript: whether files that are code may be run. What they are is pinned by their
            SHA-256 besides.
    """

    weights: str | None = None
    device: str = "cpu"
    allow_torchscript: bool = False

    def here(self) -> "Runtime":
        """What this process knows besides: its environment (`ENVIRONMENT`, `ALLOWED`), and where a
        relative path leads. Workers are told the outcome, for theirs are others.

        A folder that is not on this machine gives way to the environment: a corpus is looked at
        on other machines than the one that made it.
        """
        given, known = self.weights, os.environ.get(ENVIRONMENT)
        gone = given is not None and not Path(given).expanduser().exists() and not _HUB.match(given)
        if known is not None and (given is None or gone):
            given = known
        given = None if given is None else absolute(given)
        allowed = self.allow_torchscript or os.environ.get(ALLOWED) == "1"
        return Runtime(given, self.device, allowed)

    def place(self, codec: str, repository: str | None = None) -> Path:
        """The folder or file with the weights.

        Raises:
            UserError: nobody said where, or it is not on this machine.
        """
        given = self.weights or repository
        if given is None:
            raise UserError(
                f"codec {codec}: where are its weights? Set latents.weights in the recipe, or "
                f"{ENVIRONMENT} in the environment, to their folder"
            )
        path = Path(given)
        if path.exists():
            return path
        if not _HUB.match(given):
            raise UserError(
                f"codec {codec}: there is no folder or file {given}, nor is it a repository's "
                f"name: correct latents.weights in the recipe, or {ENVIRONMENT} in the environment"
            )
        return _cached(codec, given)


def absolute(given: str) -> str:
    """A folder or file of this machine wherever one stands; anything else as it is."""
    path = Path(given).expanduser()
    return str(path.absolute()) if path.exists() else given


def _cached(codec: str, given: str) -> Path:
    """A repository in the local cache of the hub."""
    from huggingface_hub import snapshot_download  # takes a while to import
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = given.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except LocalEntryNotFoundError as error:
        which = f"{name} --revision {revision}" if revision else name
        raise UserError(
            f"codec {codec}: {given} is not on this machine: fetch it once (hf download {which}), "
            f"or name the folder of the weights: latents.weights in the recipe, {ENVIRONMENT} in "
            "the environment"
        ) from error


def digest(files: Sequence[Path], config: Mapping[str, Any] | None = None) -> str:
    """Name of what these files say, in whatever folder, and of a config beside them."""
    return content_id(
        "weights",
        sorted((path.name, sha256_of(path)) for path in files),
        dict(config or {}),
    )[:DIGITS]


def read_config(codec: str, folder: Path) -> dict[str, Any]:
    """A ``config.json``; UserError when it is not there, or no JSON object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"codec {codec}: {folder} holds no weights: no config.json") from error
    except (OSError, ValueError) as error:
        raise UserError(f"codec {codec}: {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"codec {codec}: {path} is no JSON object")
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read once per process while the file stays as it is."""
    state = path.stat()
    return _sha256(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    return sha256_file(Path(path))
