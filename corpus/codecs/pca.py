"""`pca`: blocks as those of `dct`, and a basis fitted on clips instead of waves.

The three colours of a block share a basis: they mostly say the same. `tv2tv codec fit` makes it
(`corpus.codecs.pca_fit`).
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from corpus.codecs.base import Codec, CodecInfo, Frames, Latent
from corpus.codecs.blocks import COLOURS, SIDE, TIME, Pixels, blocks, from_pixels, joined, to_pixels
from corpus.codecs.weights import Runtime, digest
from corpus.errors import UserError

VERSION = "1"
BASIS = "basis.safetensors"
KINDS = {"first": 1, "rest": TIME}  # of blocks, by their frames
Array = NDArray[np.float32]


class PcaCodec(Codec):
    """It has no settings: the basis says all."""

    floor: ClassVar[float | None] = 24.0

    def __init__(self, runtime: Runtime) -> None:
        place = runtime.place("pca")
        path = place / BASIS if place.is_dir() else place
        tensors = _read(path)
        self._basis = {kind: tensors[f"{kind}_basis"] for kind in KINDS}
        self._mean = {kind: tensors[f"{kind}_mean"] for kind in KINDS}
        # Both kinds of block share one deviation per channel, as those of `dct` do.
        gain = tensors["first_gain"]
        self._gain = {"first": gain, "rest": np.ones_like(gain)}
        channels = len(tensors["std"])
        self.info = CodecInfo(
            id="pca",
            revision=f"{VERSION}-{digest([path])}",
            channels=channels,
            stride=(TIME, SIDE, SIDE),
            causal=True,
            mean=(0.0,) * channels,
            std=tuple(map(float, tensors["std"])),
            input_range=(-1.0, 1.0),
            dtype="float32",
            licence="that of the clips it was fitted on",
        )

    def _encode(self, frames: Frames) -> Latent:
        return np.stack([self._clip(to_pixels(clip)) for clip in frames])

    def _clip(self, pixels: Pixels) -> Latent:
        parts = [self._analyse(pixels[:1], "first")]
        if len(pixels) > 1:
            parts.append(self._analyse(pixels[1:], "rest"))
        return np.concatenate(parts, axis=1)

    def _decode(self, latent: Latent) -> Frames:
        parts = [self._synthesise(latent[:, :1], "first")]
        if latent.shape[1] > 1:
            parts.append(self._synthesise(latent[:, 1:], "rest"))
        return from_pixels(np.concatenate(parts))

    def _analyse(self, pixels: Pixels, kind: str) -> Latent:
        cut = blocks(pixels, KINDS[kind])
        flat = cut.reshape(-1, len(self._basis[kind])) - self._mean[kind]
        kept = (flat @ self._basis[kind]) * self._gain[kind]
        return kept.reshape(*cut.shape[:3], -1).transpose(3, 0, 1, 2)

    def _synthesise(self, latent: Latent, kind: str) -> Pixels:
        count, rows, columns = latent.shape[1:]
        kept = latent.transpose(1, 2, 3, 0).reshape(-1, len(latent)) / self._gain[kind]
        flat = kept @ self._basis[kind].T + self._mean[kind]
        return joined(flat.reshape(count, rows, columns, COLOURS, -1), KINDS[kind])


def _read(path: Path) -> dict[str, Array]:
    """The tensors of a basis; UserError where they are none."""
    try:
        found: dict[str, Any] = load_file(path)
        channels = len(found["std"])
        wanted: dict[str, tuple[int, ...]] = {"std": (channels,), "first_gain": (channels,)}
        for kind, time in KINDS.items():
            size = time * SIDE * SIDE * COLOURS
            wanted |= {f"{kind}_basis": (size, channels), f"{kind}_mean": (size,)}
        for name, shape in wanted.items():
            if found[name].shape != shape or found[name].dtype != np.float32:
                raise ValueError(f"{name} is {found[name].dtype} {found[name].shape}")
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(
            f"codec pca: {path} is no basis ({error}): make one with tv2tv codec fit CORPUS"
        ) from error
    return {name: found[name] for name in wanted}
