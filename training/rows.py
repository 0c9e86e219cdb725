"""Documents into static rows, sorted by what the tokens are: ``[text | clean | noisy]``.

Routing a token to its tower is then a split and not a gather, and shapes never change. Order in
time lives in per-token metadata, which alone drives RoPE and the mask; the losses are driven by
``Batch.target`` and ``Batch.learn``.

Sizes: B rows, T text slots, N clean blocks, M noisy blocks, P tokens per block,
L = T + (N + M) P tokens per row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.flow import CLEAN_TIME, interpolate
from training.sequence import NO_TARGET, Block, Document, Specials

AXES = 3  # of RoPE: sequence, row, column
PADDING = -1

# RoPE ids from one row or column to the next. Its frequencies are made for text, where neighbours
# are alike; a step of 3 lets heads tell neighbouring places apart from the start (with a step of 1
# arena models took about three times as long to copy the last chunk).
GRID_STEP = 3


@dataclass(frozen=True)
class Budget:
    """Slots of a row: text tokens, clean blocks, noisy blocks."""

    text: int
    clean: int
    noisy: int


@dataclass(frozen=True)
class TokenMeta:
    """What the mask knows of each token; int64 (B, L), or (B, Q) for a part of a row.

    Attributes:
        document: which document of the row; PADDING for padding.
        order: place in time inside the document; of padding the number of its slot in the row.
        copy: 0 for what later tokens see, c >= 1 for the c-th noisy copy, PADDING for padding.
    """

    document: Tensor
    order: Tensor
    copy: Tensor

    def to(self, device: torch.device | str) -> "TokenMeta":
        return TokenMeta(*(getattr(self, each.name).to(device) for each in fields(self)))


@dataclass(frozen=True)
class Batch:
    """One micro-step.

    Attributes:
        text: token ids, int64 (B, T).
        target: id that each text token must predict, or NO_TARGET, int64 (B, T).
        shown: content of the clean blocks (a flipped one is noisy), float32 (B, N, C, h, w).
        shown_t: its level, 1 where really clean, float32 (B, N).
        clean, noise: the two ends of the path of the noisy blocks, float32 (B, M, C, h, w).
        t: the level of the noisy blocks, float32 (B, M).
        learn: whether the flow is learned there, bool (B, M).
        meta: per token, (B, L).
        position: RoPE ids on the sequence, row and column axes, int64 (B, L, 3).
        keys: sample keys of each row, for error messages.
    """

    text: Tensor
    target: Tensor
    shown: Tensor
    shown_t: Tensor
    clean: Tensor
    noise: Tensor
    t: Tensor
    learn: Tensor
    meta: TokenMeta
    position: Tensor
    keys: tuple[tuple[str, ...], ...]

    @property
    def noisy(self) -> Tensor:
        """x_t of the noisy blocks, (B, M, C, h, w)."""
        return interpolate(self.clean, self.noise, self.t[..., None, None, None])

    @property
    def text_count(self) -> Tensor:
        """Number of text targets: what the text loss is divided by (summed over all ranks)."""
        return (self.target != NO_TARGET).sum()

    @property
    def video_count(self) -> Tensor:
        """Number of learned blocks, likewise; within a step all blocks have one size."""
        return self.learn.sum()

    def to(self, device: torch.device | str) -> "Batch":
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {
            name: part if isinstance(part, tuple) else part.to(device)
            for name, part in parts.items()
        }
        return Batch(**moved)


def pack(
    rows: Sequence[Sequence[Document]],
    budget: Budget,
    latent_shape: tuple[int, int, int],
    factor: int,
    specials: Specials,
) -> Batch:
    """Lay documents into rows of one budget.

    Args:
        rows: the documents of each row; an empty row is all padding and has no loss.
        latent_shape: (C, h, w), one for the whole batch.
        factor: of the model's downsampler; a block has (h / factor) (w / factor) tokens.

    Raises:
        ValueError: a row does not fit the budget, or the factor does not divide h and w.
    """
    _, height, width = latent_shape
    if height % factor or width % factor:
        raise ValueError(f"latents of {height} x {width} cannot be downsampled by {factor}")
    grid = (height // factor, width // factor)
    batch = _Arrays(len(rows), budget, latent_shape, grid, specials.pad)
    for row, documents in enumerate(rows):
        batch.fill(row, documents)
    keys = tuple(tuple(document.key for document in documents) for documents in rows)
    return batch.batch(keys)


class _Arrays:
    """The arrays of a batch while rows are filled in; they begin as padding."""

    def __init__(
        self,
        rows: int,
        budget: Budget,
        latent_shape: tuple[int, int, int],
        grid: tuple[int, int],
        pad: int,
    ) -> None:
        self.budget, self.grid = budget, grid
        self.tokens = grid[0] * grid[1]
        blocks = budget.clean + budget.noisy
        length = budget.text + blocks * self.tokens
        self.text = np.full((rows, budget.text), pad, np.int64)
        self.target = np.full((rows, budget.text), NO_TARGET, np.int64)
        self.shown = np.zeros((rows, budget.clean, *latent_shape), np.float32)
        self.shown_t = np.full((rows, budget.clean), CLEAN_TIME, np.float32)
        self.clean = np.zeros((rows, budget.noisy, *latent_shape), np.float32)
        self.noise = np.zeros_like(self.clean)
        self.t = np.full((rows, budget.noisy), CLEAN_TIME, np.float32)
        self.learn = np.zeros((rows, budget.noisy), np.bool_)
        self.document = np.full((rows, length), PADDING, np.int64)
        self.order = np.tile(np.arange(length), (rows, 1))
        self.copy = np.full((rows, length), PADDING, np.int64)
        self.position = np.zeros((rows, length, AXES), np.int64)

    def fill(self, row: int, documents: Sequence[Document]) -> None:
        text, clean, noisy = 0, 0, 0
        for number, document in enumerate(documents):
            for run in document.runs:
                ids = slice(text, text + len(run.tokens))
                text = ids.stop
                self._check(row, text, self.budget.text, "text tokens")
                self.text[row, ids], self.target[row, ids] = run.tokens, run.targets
                places = np.array(run.position)[:, None]
                self._describe(row, ids, number, np.array(run.order), 0, places)
            for block in document.blocks(lasting=True):
                self._check(row, clean + 1, self.budget.clean, "clean blocks")
                self.shown[row, clean], self.shown_t[row, clean] = block.shown, block.t
                self._describe_block(row, clean, number, block)
                clean += 1
            for block in document.blocks(lasting=False):
                self._check(row, noisy + 1, self.budget.noisy, "noisy blocks")
                self.clean[row, noisy], self.noise[row, noisy] = block.clean, block.noise
                self.t[row, noisy], self.learn[row, noisy] = block.t, block.loss
                self._describe_block(row, self.budget.clean + noisy, number, block)
                noisy += 1

    def _describe_block(self, row: int, slot: int, document: int, block: Block) -> None:
        first = self.budget.text + slot * self.tokens
        tokens = slice(first, first + self.tokens)
        places = block_positions(block.position, self.grid)
        self._describe(row, tokens, document, block.order, block.copy, places)

    def _describe(
        self,
        row: int,
        tokens: slice,
        document: int,
        order: np.ndarray | int,
        copy: int,
        position: np.ndarray,
    ) -> None:
        self.document[row, tokens] = document
        self.order[row, tokens] = order
        self.copy[row, tokens] = copy
        self.position[row, tokens] = position

    def _check(self, row: int, used: int, budget: int, what: str) -> None:
        if used > budget:
            raise ValueError(f"row {row} needs more than its budget of {budget} {what}")

    def batch(self, keys: tuple[tuple[str, ...], ...]) -> Batch:
        tensor = torch.from_numpy
        return Batch(
            text=tensor(self.text),
            target=tensor(self.target),
            shown=tensor(self.shown),
            shown_t=tensor(self.shown_t),
            clean=tensor(self.clean),
            noise=tensor(self.noise),
            t=tensor(self.t),
            learn=tensor(self.learn),
            meta=TokenMeta(tensor(self.document), tensor(self.order), tensor(self.copy)),
            position=tensor(self.position),
            keys=keys,
        )


def block_positions(position: int, grid: tuple[int, int]) -> np.ndarray:
    """RoPE ids of a block's tokens, row by row: int64 (P, 3)."""
    rows, columns = np.indices(grid)
    places = (np.full(rows.size, position), GRID_STEP * rows.ravel(), GRID_STEP * columns.ravel())
    return np.stack(places, axis=1)
