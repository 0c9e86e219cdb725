"""Manifests: tables of inputs as JSON lines, CSV or Parquet."""

import csv
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import UserError

MANIFEST_SUFFIXES = (".jsonl", ".csv", ".parquet")
COLUMNS = ("uri", "timeline", "sha256")  # ours; all others are the user's
MOST_CELL = 1 << 27  # characters; a transcript may be long
MOST_DEPTH = 32
BOM = b"\xef\xbb\xbf"
Rows = list[dict[str, Any]]
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def read_manifest(path: Path) -> Rows:
    """Rows of a manifest as JSON-able dicts, each with a ``uri``.

    Raises:
        UserError: unreadable, empty, no ``uri`` column, a row without one, or one named twice.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    try:
        rows = readers[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise UserError(f"manifest {path} cannot be read: {error}") from error
    if not rows:
        raise UserError(f"manifest {path} lists nothing")
    if not any("uri" in row for row in rows):
        raise UserError(
            f"manifest {path} has no column 'uri' (it has: {', '.join(sorted(rows[0]))}): "
            "name the column with the videos' paths 'uri'"
        )
    _check_uris(path, rows)
    return rows


def _check_uris(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        uri = row.get("uri")
        if not isinstance(uri, str) or not uri.strip():
            raise UserError(f"manifest {path}, row {number}: no uri")
        if uri in seen:
            raise UserError(
                f"manifest {path}, row {number}: {uri} is listed in row {seen[uri]} already: "
                "keep one of the two"
            )
        seen[uri] = number
        if not isinstance(row.get("timeline") or "", str):
            raise UserError(f"manifest {path}, row {number}: timeline is not a path")
        sha256 = row.get("sha256") or ""
        if sha256 and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise UserError(
                f"manifest {path}, row {number}: sha256 {sha256!r} is not 64 hex digits: "
                "write the file's SHA-256, or leave it empty"
            )


def _jsonl(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(path.read_bytes().removeprefix(BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(
                line.decode("utf-8"),
                parse_constant=_no_constant,
                parse_float=_finite,
                object_pairs_hook=_once_each,
            )
            _check_depth(row)
        except (ValueError, RecursionError) as error:
            raise UserError(f"manifest {path}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"manifest {path}, line {number} is no JSON object")
        rows.append(row)
    return rows


def _csv(path: Path) -> Rows:
    csv.field_size_limit(MOST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = []
        try:
            _once_each([(name, None) for name in reader.fieldnames or ()])
            for row in reader:
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise ValueError(f"expected the {columns} columns of the first line")
                rows.append(dict(row))
        except csv.Error as error:
            raise UserError(f"manifest {path}, after line {reader.line_num}: {error}") from error
        except ValueError as error:
            raise UserError(f"manifest {path}, line {reader.line_num}: {error}") from error
        return rows


def _parquet(path: Path) -> Rows:
    rows = pq.read_table(path).to_pylist()
    for number, row in enumerate(rows, start=1):
        try:
            _check_depth(row)
        except ValueError as error:
            raise UserError(f"manifest {path}, row {number}: {error}") from error
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """A JSON value: lists and structs stay, dates and decimals become text, NaN becomes null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _check_depth(value: Any, left: int = MOST_DEPTH) -> None:
    """Readers and writers of JSON give up where each likes: so nothing is nearly that deep."""
    if not left:
        raise ValueError(f"values lie in each other more than {MOST_DEPTH} deep")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _check_depth(item, left - 1)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is too large a number")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
