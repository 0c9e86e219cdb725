"""Manifests: tables of inputs as JSON lines, CSV or Parquet."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import UserError

MANIFEST_SUFFIXES = (".jsonl", ".csv", ".parquet")
COLUMNS = ("uri", "timeline", "sha256")  # ours; all others are the user's
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
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise UserError(f"manifest {path}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"manifest {path}, line {number} is no JSON object")
        rows.append(row)
    return rows


def _csv(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"manifest {path}, line {reader.line_num}: "
                    f"expected the {len(reader.fieldnames or ())} columns of the first line"
                )
            rows.append(dict(row))
        return rows


def _parquet(path: Path) -> Rows:
    rows = pq.read_table(path).to_pylist()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """A JSON value: lists and structs stay, dates and decimals become text, NaN becomes null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
