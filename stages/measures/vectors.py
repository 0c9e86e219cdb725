"""Directions of embeddings as short texts, for tables."""

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def packed(vector: Vectors) -> str:
    """A vector's direction, a byte a number; its length is lost."""
    most = float(np.abs(vector).max()) or 1.0
    return base64.b64encode(np.round(vector / most * 127).astype(np.int8).tobytes()).decode()


def unpacked(texts: Sequence[str]) -> Vectors:
    """Unit vectors (N, D) of what `packed` gave; N is at least 1."""
    raw = [np.frombuffer(base64.b64decode(text), np.int8) for text in texts]
    vectors = np.stack(raw).astype(np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(vectors / lengths, np.float32)
