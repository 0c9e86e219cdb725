"""The basis of the codec `pca`, fitted on clips.

Principal components of blocks (Pearson, 1901): the directions in which they differ most, so that
no other linear code of so many channels loses less of the clips it was fitted on. Sums are of whole
numbers, levels of 0 to 255, which float64 adds exactly in any order; the directions are found on
one thread, and each points so that its largest part is positive. Equal clips give equal bytes on
one machine.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from corpus.codecs.base import Frames
from corpus.codecs.blocks import COLOURS, SIDE, blocks
from corpus.codecs.pca import KINDS
from corpus.codecs.torch_codec import one_thread

MOST = COLOURS * SIDE * SIDE  # channels: all of a start frame's block
BLOCKS = 4096  # of each kind, that a clip is asked for
LEVELS = 127.5  # of a byte, in a unit of pixels in [-1, 1]
LEAST = 1e-4  # deviation of a channel, in units of pixels in [-1, 1]; less is rounding
Array = NDArray[np.float64]


class Moments:
    """Number, sum and sum of squares of blocks (0 to 255), as far as they were added."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.sum = np.zeros(size)
        self.squares = np.zeros((size, size))

    def add(self, rows: Array) -> None:
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += rows.T @ rows

    def components(self, channels: int) -> tuple[Array, Array, Array]:
        """Mean (D), the first directions (D, C), and the deviation along each (C), of pixels in
        [-1, 1]."""
        import torch

        mean = self.sum / self.count
        covariance = (self.squares / self.count - np.outer(mean, mean)) / LEVELS**2
        with one_thread():
            found = torch.linalg.eigh(torch.from_numpy(covariance))
        values, vectors = (one.numpy()[..., ::-1][..., :channels] for one in found)
        largest = vectors[np.abs(vectors).argmax(0), np.arange(channels)]
        deviations = np.sqrt(np.maximum(values, LEAST**2))
        return mean / LEVELS - 1, vectors * np.sign(largest), deviations


def fit_basis(clips: Iterable[Frames], channels: int, seed: int = 0) -> bytes:
    """The safetensors file of a basis.

    Args:
        clips: uint8 (1 + 4k, H, W, 3), in an order that is always the same.
        channels: of a latent, up to 192.
        seed: which blocks of a clip are looked at, where it has more than `BLOCKS`.

    Raises:
        ValueError: no such number of channels, or no clip with so much as a chunk.
    """
    if not 1 <= channels <= MOST:
        raise ValueError(f"channels={channels} must be 1 to {MOST}")
    found = {kind: Moments(time * MOST) for kind, time in KINDS.items()}
    for number, clip in enumerate(clips):
        for kind, part in (("first", clip[:1]), ("rest", clip[1:])):
            if len(part):
                rows = blocks(part.astype(np.float32), KINDS[kind]).reshape(-1, KINDS[kind] * MOST)
                found[kind].add(_some(rows, (seed, number, KINDS[kind])).astype(np.float64))
    if not all(moments.count for moments in found.values()):
        raise ValueError("no clip that is longer than its start frame")
    tensors, stds = dict[str, Array](), dict[str, Array]()
    for kind, moments in found.items():
        tensors[f"{kind}_mean"], tensors[f"{kind}_basis"], stds[kind] = moments.components(channels)
    tensors |= {"std": stds["rest"], "first_gain": stds["rest"] / stds["first"]}
    return save({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()})


def _some(rows: NDArray[np.float32], seed: tuple[int, ...]) -> NDArray[np.float32]:
    if len(rows) <= BLOCKS:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), BLOCKS, replace=False)
    return rows[np.sort(chosen)]
