"""One sample: the members of ``<key>.*`` in a tar, to bytes and back.

* ``<key>.captions.json`` - `corpus.captions`
* ``<key>.json`` - provenance: ids, source times, size, clock, codec, fingerprints
* ``<key>.latent.npy`` - float16, or the bits of bfloat16 as uint16, (C, 1 + k, h, w), standardised
* ``<key>.mp4`` - the clip to look at; optional
* ``<key>.<stream>.npy`` - further arrays, described by the json; optional
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.captions import ClipCaptions
from corpus.ids import canonical_json
from corpus.shards.arrays import FLOAT16, LATENT_DTYPES, from_npy, rounded, to_npy, widened

SAMPLE_SCHEMA = 1
LATENT, CAPTIONS, INFO, PREVIEW = "latent.npy", "captions.json", "json", "mp4"
MEMBERS = (CAPTIONS, INFO, LATENT)  # every sample has these
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
STREAM = re.compile(r"(?!latent$)[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Sample:
    """A clip as a trainer gets it.

    Attributes:
        key: the clip id.
        latent: float32 or float16 (C, 1 + k, h, w), standardised; k = 0 is an image.
        captions: all of them, at the finest density, with verdicts.
        info: provenance, JSON-able; times of day, paths and run ids have no place in it.
        dtype: in which the latent is stored: ``float16`` or ``bfloat16``.
        streams: further arrays by name; ``info["streams"][name]`` may tell what each is.
        preview: an mp4 to look at.
    """

    key: str
    latent: NDArray[np.floating]
    captions: ClipCaptions
    info: dict[str, Any]
    dtype: str = FLOAT16
    streams: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    preview: bytes | None = None

    def members(self) -> dict[str, bytes]:
        """Member name (without key) to bytes, in the order of the tar: by name; equal samples give
        equal bytes."""
        if not KEY.fullmatch(self.key):
            raise ValueError(f"sample key {self.key!r} must match {KEY.pattern}")
        self.captions.check(self.latent.shape[1] - 1)
        found = {
            CAPTIONS: canonical_json(self.captions.to_json()).encode(),
            INFO: canonical_json(self._info()).encode(),
            LATENT: to_npy(self._stored()),
            **{f"{name}.npy": to_npy(array) for name, array in self.streams.items()},
        }
        if self.preview is not None:
            found[PREVIEW] = self.preview
        return dict(sorted(found.items()))

    def _info(self) -> dict[str, Any]:
        info = {
            **self.info,
            "schema": SAMPLE_SCHEMA,
            "key": self.key,
            "latent": {"dtype": self.dtype, "shape": list(self.latent.shape)},
        }
        if self.streams:
            told = self.info.get("streams", {})
            info["streams"] = {
                name: {**told.get(name, {}), "dtype": array.dtype.name, "shape": list(array.shape)}
                for name, array in self.streams.items()
            }
        return info

    def _stored(self) -> NDArray[np.generic]:
        if self.dtype not in LATENT_DTYPES:
            raise ValueError(f"sample {self.key}: a latent is float16 or bfloat16")
        if bad := [name for name in self.streams if not STREAM.fullmatch(name)]:
            raise ValueError(f"sample {self.key}: streams {bad} must match {STREAM.pattern}")
        stored = rounded(self.latent, self.dtype)
        if not np.isfinite(widened(stored, self.dtype)).all():
            raise ValueError(f"sample {self.key}: the latent is not finite in {self.dtype}")
        return stored


def parse_latent(data: bytes, shape: tuple[int, ...], dtype: str = FLOAT16) -> NDArray[np.float32]:
    """A latent member, checked against the shape and dtype that the index promises before it is
    read.

    Raises:
        ValueError: see `from_npy`; or values that are not finite.
    """
    if dtype not in LATENT_DTYPES:
        raise ValueError(f"a latent is float16 or bfloat16, not {dtype!r}")
    values: NDArray[np.float32] = widened(from_npy(data, dtype, shape), dtype).astype(
        np.float32, copy=False
    )
    if not np.isfinite(values).all():
        raise ValueError("the latent is not finite")
    return values


def parse_json(data: bytes) -> dict[str, Any]:
    """A json member; ValueError unless it is one object."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value
