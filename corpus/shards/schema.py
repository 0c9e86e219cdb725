"""The JSON schemas (`schemas/`) of what is JSON in a set."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator

Kind = Literal["sample", "captions", "manifest"]
_FOLDER = Path(__file__).with_name("schemas")
_LONGEST = 200  # characters of a message, which quotes what it found


@functools.cache
def schema(kind: Kind) -> dict[str, Any]:
    """``<key>.json``, ``<key>.captions.json`` or ``manifest.json`` as a JSON schema (2020-12)."""
    found: dict[str, Any] = json.loads((_FOLDER / f"{kind}.schema.json").read_text("utf-8"))
    return found


def problems(kind: Kind, value: Any) -> Iterator[str]:
    """Where a value does not fit the schema, and why."""
    for error in _validator(kind).iter_errors(value):
        where = ".".join(map(str, error.absolute_path))
        message = error.message if len(error.message) <= _LONGEST else error.message[:_LONGEST]
        yield f"{where}: {message}" if where else message


@functools.cache
def _validator(kind: Kind) -> Draft202012Validator:
    return Draft202012Validator(schema(kind))
