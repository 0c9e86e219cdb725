"""manifest.json: what a set consists of. It is written last, so a set without one is none.

It has one spelling, and carries the SHA-256 of its own content (``digest``): no bit of it can flip
unseen, and with that no bit of the set, since it has the SHA-256 of every other file.
"""

import json
from typing import Any

from corpus.errors import UserError
from corpus.ids import canonical_json, sha256_bytes
from corpus.shards.schema import problems
from corpus.store import Folder, store_at

MANIFEST_SCHEMA = 2
MANIFEST, INDEX, CARD = "manifest.json", "samples.parquet", "README.md"
TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with its digest."""
    return {**manifest, "digest": digest(manifest)}


def digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of all but the digest itself."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return sha256_bytes(canonical_json(content).encode())


def spelled(manifest: dict[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_manifest(folder: Folder) -> dict[str, Any]:
    """The manifest of a set; UserError when it is missing, damaged or of another schema."""
    store = store_at(folder)
    path = store.place(MANIFEST)
    try:
        manifest = json.loads(store.read_text(MANIFEST))
    except FileNotFoundError as error:
        raise UserError(
            f"{store.place()} holds no {MANIFEST}: name a folder that `tv2tv run` made, "
            "such as CORPUS/shards/main"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != MANIFEST_SCHEMA:
        raise UserError(f"{path} is not of schema {MANIFEST_SCHEMA}, which this version reads")
    if manifest.get("digest") != digest(manifest):
        raise UserError(
            f"{path} is damaged: its content has another digest than it says; copy it again, or "
            "run `tv2tv run` again, which makes the shards anew"
        )
    for what in problems("manifest", manifest):
        raise UserError(f"{path} is none of ours: {what}")
    return manifest
