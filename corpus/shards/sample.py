"""One sample: the members of ``<key>.*`` in a tar, to bytes and back.

* ``<key>.captions.json`` - `corpus.captions`
* ``<key>.json`` - provenance: ids, source times, size, clock, codec, fingerprints
* ``<key>.latent.npy`` - float16 (C, 1 + k, h, w), standardised
"""

import io
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.captions import ClipCaptions
from corpus.ids import canonical_json

SAMPLE_SCHEMA = 1
LATENT, CAPTIONS, INFO = "latent.npy", "captions.json", "json"
MEMBERS = (CAPTIONS, INFO, LATENT)  # in the order of the tar
KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NPY_HEADER_LIMIT = 512


@dataclass(frozen=True)
class Sample:
    """A clip as a trainer gets it.

    Attributes:
        key: the clip id.
        latent: float32 or float16 (C, 1 + k, h, w), standardised.
        captions: all of them, at the finest density, with verdicts.
        info: provenance, JSON-able; times of day, paths and run ids have no place in it.
    """

    key: str
    latent: NDArray[np.floating]
    captions: ClipCaptions
    info: dict[str, Any]

    def members(self) -> dict[str, bytes]:
        """Member name (without key) to bytes; equal samples give equal bytes."""
        if not KEY.fullmatch(self.key):
            raise ValueError(f"sample key {self.key!r} must match {KEY.pattern}")
        self.captions.check(self.latent.shape[1] - 1)
        stored = self.latent.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ValueError(f"sample {self.key}: the latent is not finite in float16")
        info = {
            **self.info,
            "schema": SAMPLE_SCHEMA,
            "key": self.key,
            "latent": {"dtype": "float16", "shape": list(stored.shape)},
        }
        return {
            CAPTIONS: canonical_json(self.captions.to_json()).encode(),
            INFO: canonical_json(info).encode(),
            LATENT: _npy(stored),
        }


def parse_latent(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A latent member, checked against the shape that the index promises before it is read.

    Raises:
        ValueError: not float16, another shape, more or fewer bytes than the shape needs, an
            object array (never unpickled), or values that are not finite.
    """
    expected = int(np.prod(shape)) * 2
    if not expected < len(data) <= expected + _NPY_HEADER_LIMIT:
        raise ValueError(f"{len(data)} bytes cannot be float16 {shape}")
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.float16 or array.shape != shape:
        raise ValueError(f"expected float16 {shape}, found {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the latent is not finite")
    return array.astype(np.float32)


def parse_json(data: bytes) -> dict[str, Any]:
    """A json member; ValueError unless it is one object."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
