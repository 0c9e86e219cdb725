"""Keys and values of everything that lasts, with what the mask must know of them.

Preallocated per layer, with one length pointer: a forward pass puts its keys right behind the
pointer and only `keep` moves it. The solver never calls `keep`, so that a noisy block's keys are
overwritten by whatever comes next. All rows advance together; where a row has nothing to say its
slots are padding. Its place is the number of its slot, which makes it the only one that sees it.
"""

import copy
from dataclasses import fields

import torch
from torch import Tensor

from training.rows import PADDING, TokenMeta


class Cache:
    """R rows, S slots in use, Q new tokens, H heads, E head width.

    Args:
        capacity: slots to begin with; more are allocated when they are needed.
    """

    def __init__(self, layers: int, rows: int, heads: int, head: int, capacity: int) -> None:
        self.length = 0
        self._keys = torch.zeros(layers, rows, heads, capacity, head)
        self._values = torch.zeros_like(self._keys)
        blank = torch.full((rows, capacity), PADDING)
        self._meta = TokenMeta(blank, blank.clone(), blank.clone())

    def extend(self, layer: int, k_RHQE: Tensor, v_RHQE: Tensor) -> tuple[Tensor, Tensor]:
        """Put new keys behind the pointer; gives all keys up to there, (R, H, S + Q, E).

        Given fewer rows, it deals with the first ones; such keys cannot be kept.
        """
        rows, end = len(k_RHQE), self.length + k_RHQE.shape[2]
        self._keys[layer, :rows, :, self.length : end] = k_RHQE
        self._values[layer, :rows, :, self.length : end] = v_RHQE
        return self._keys[layer, :rows, :, :end], self._values[layer, :rows, :, :end]

    def meta(self, new: TokenMeta) -> tuple[TokenMeta, TokenMeta]:
        """Metadata of new tokens, (R, Q), and of all keys that `extend` will give, (R, S + Q)."""
        end = self.length + new.order.shape[1]
        self._reserve(end)
        for each in fields(TokenMeta):
            getattr(self._meta, each.name)[:, self.length : end] = getattr(new, each.name)
        order = self._meta.order[:, self.length : end]
        slots = torch.arange(self.length, end).expand_as(order)
        order.copy_(torch.where(new.document == PADDING, slots, order))
        return _between(self._meta, self.length, end), _between(self._meta, 0, end)

    def keep(self, count: int) -> None:
        """The last ``count`` slots written now last."""
        self.length += count

    def cut(self, row: int, order: int) -> None:
        """Forget what stands at ``order`` or later in one row; slots that no row uses are freed."""
        kept = _between(self._meta, 0, self.length)
        later = kept.order[row] >= order
        for each in fields(TokenMeta):
            getattr(kept, each.name)[row, later] = PADDING
        used = (kept.document != PADDING).any(0).nonzero()
        self.length = int(used[-1]) + 1 if len(used) else 0

    def copy(self) -> "Cache":
        """An independent cache of equal content."""
        return copy.deepcopy(self)

    def _reserve(self, slots: int) -> None:
        have = self._keys.shape[3]
        if slots <= have:
            return
        more = max(slots, 2 * have) - have
        grow = torch.nn.functional.pad
        self._keys = grow(self._keys, (0, 0, 0, more))
        self._values = grow(self._values, (0, 0, 0, more))
        self._meta = TokenMeta(
            *(
                grow(getattr(self._meta, x.name), (0, more), value=PADDING)
                for x in fields(TokenMeta)
            )
        )


def _between(meta: TokenMeta, start: int, end: int) -> TokenMeta:
    return TokenMeta(*(getattr(meta, each.name)[:, start:end] for each in fields(TokenMeta)))
