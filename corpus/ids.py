"""Names made of content: the same content has the same name on every machine.

Every id is the first 32 hex digits of a SHA-256 over canonical JSON (sorted keys, no spaces), so an
id can be recomputed in any language.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

ID_LENGTH = 32


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(*parts: Any) -> str:
    """Id of a tuple of JSON values."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:ID_LENGTH]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def video_id(path: Path) -> str:
    """Id of a video file: of its bytes, never of its path."""
    return sha256_file(path)[:ID_LENGTH]


def shot_id(video: str, start_pts: int, end_pts: int) -> str:
    return content_id("shot", video, start_pts, end_pts)


def clip_id(video: str, start_pts: int, chunks: int, normalisation: dict[str, Any]) -> str:
    """Id of a clip: its source, place, length and how it was normalised and encoded.

    Args:
        normalisation: size, fps, pixel encoding, encoder build and arguments.
    """
    return content_id("clip", video, start_pts, chunks, normalisation)


def segment_id(clip: str, a: int, b: int) -> str:
    """Id of the chunks ``[a, b)`` of a clip."""
    return content_id("segment", clip, a, b)


def fingerprint(stage: str, version: str, settings: dict[str, Any]) -> str:
    """Name of one way to compute a stage's results.

    Args:
        settings: the part of the config that can change the output, model ids and revisions.
    """
    return content_id("fingerprint", stage, version, settings)[:16]


def binding(frames_sha256: str, prompt: str, model: str, sampling: dict[str, Any]) -> str:
    """Ties a caption to exactly what was shown and asked; checked when the answer comes back."""
    return content_id("binding", frames_sha256, prompt, model, sampling)


def unit_hash(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone: seeded choices without a generator."""
    return int(hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:13], 16) / 16**13
