"""`dct`: the weightless default codec, an orthonormal block DCT.

The start frame is cut into 1x8x8 blocks, what follows into 4x8x8 blocks; of each block and colour
the lowest frequencies are kept (zonal selection by the sum of frequencies), so ``channels / 3`` per
colour. Nothing is learned: it runs anywhere and is exact about which frames a latent holds.
"""

import json
from functools import cache
from importlib.resources import files
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from corpus.codecs.base import Codec, CodecInfo, Frames, Latent, whole
from corpus.codecs.blocks import (
    COLOURS,
    SIDE,
    TIME,
    Pixels,
    blocks,
    from_pixels,
    joined,
    to_pixels,
)

REVISION = "1"
Order = NDArray[np.intp]
Basis = NDArray[np.float32]


class DctCodec(Codec):
    """Args:
    channels: latent channels; a multiple of 3, at most 192 (all of a 1x8x8 block).
    """

    floor: ClassVar[float | None] = (
        24.0  # one clip in ten of real films is under it, at 96 channels
    )

    def __init__(self, channels: int = 96) -> None:
        if whole("channels", channels) % COLOURS or channels > COLOURS * SIDE * SIDE:
            raise ValueError(f"channels={channels} must be a multiple of 3 up to 192")
        kept = channels // COLOURS
        std = np.repeat(_shipped_std()[None, :kept], COLOURS, axis=0).T.reshape(-1)
        self.info = CodecInfo(
            id="dct",
            revision=REVISION,
            channels=channels,
            stride=(TIME, SIDE, SIDE),
            causal=True,
            mean=(0.0,) * channels,
            std=tuple(float(value) for value in std),
            input_range=(-1.0, 1.0),
            dtype="float32",
            licence="Apache-2.0",
            settings={"channels": channels},
        )
        self._first = zonal_basis(1, kept)
        self._rest = zonal_basis(TIME, kept)

    def _encode(self, frames: Frames) -> Latent:
        return np.stack([self._clip(clip) for clip in frames])

    def _clip(self, frames: Frames) -> Latent:
        pixels = to_pixels(frames)
        # A start frame held for four frames has sqrt(4) times its own coefficients: with that
        # factor one set of statistics serves both kinds of block.
        first = np.sqrt(np.float32(TIME)) * _analyse(pixels[:1], self._first, 1)
        if len(pixels) == 1:
            return first
        return np.concatenate([first, _analyse(pixels[1:], self._rest, TIME)], axis=1)

    def _decode(self, latent: Latent) -> Frames:
        first = _synthesise(latent[:, :1] / np.sqrt(np.float32(TIME)), self._first, 1)
        parts = [first]
        if latent.shape[1] > 1:
            parts.append(_synthesise(latent[:, 1:], self._rest, TIME))
        return from_pixels(np.concatenate(parts))


def zonal_order(block: tuple[int, int, int], kept: int) -> Order:
    """Flat indices of the ``kept`` lowest frequencies of a block, lowest first.

    Frequencies are compared in cycles per block edge, so that one step in time (4 samples) weighs
    as much as two steps in space (8 samples); ties go by time, then row, then column.
    """
    t, y, x = np.indices(block)
    weight = t * (SIDE // TIME) + y + x
    return np.lexsort((x.ravel(), y.ravel(), t.ravel(), weight.ravel()))[:kept]


def zonal_basis(time: int, kept: int) -> Basis:
    """The kept orthonormal DCT waves of a ``time`` x 8 x 8 block, (time * 64, kept).

    One product with this matrix gives the kept coefficients, and nothing is spent on the others.
    """
    block = (time, SIDE, SIDE)
    size = time * SIDE * SIDE
    waves = dctn(np.eye(size).reshape(size, *block), axes=(1, 2, 3), norm="ortho")
    return waves.reshape(size, size)[:, zonal_order(block, kept)].astype(np.float32)


def _analyse(pixels: Pixels, basis: Basis, time: int) -> Latent:
    """(T, H, W, 3) to the kept coefficients (C, T/time, H/8, W/8), colour fastest in C."""
    cut = blocks(pixels, time)
    kept = (cut.reshape(-1, len(basis)) @ basis).reshape(*cut.shape[:4], -1)
    return kept.transpose(4, 3, 0, 1, 2).reshape(-1, *cut.shape[:3])


def _synthesise(latent: Latent, basis: Basis, time: int) -> Pixels:
    """Inverse of `_analyse`, with nothing in place of what was dropped."""
    _, count, rows, columns = latent.shape
    kept = latent.reshape(-1, COLOURS, count, rows, columns).transpose(2, 3, 4, 1, 0)
    flat = kept.reshape(-1, basis.shape[1]) @ basis.T
    return joined(flat.reshape(count, rows, columns, COLOURS, -1), time)


@cache
def _shipped_std() -> NDArray[np.float64]:
    """Standard deviation per kept frequency, shared by the colours; see dct_statistics.json."""
    text = (files("corpus.codecs") / "dct_statistics.json").read_text(encoding="utf-8")
    return np.asarray(json.loads(text)["std"])
