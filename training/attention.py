"""The one place where attention is computed; further backends join here.

The dense backend is scaled dot-product attention with the mask table as an additive bias, made once
per forward pass and shared by all layers and heads.
"""

import torch
from torch import Tensor
from torch.nn import functional

from training.mask import allowed
from training.rows import TokenMeta


def bias(query: TokenMeta, key: TokenMeta, dtype: torch.dtype) -> Tensor:
    """The mask table as attention bias: 0 where allowed, else -inf; (B, 1, Q, K)."""
    seen = allowed(query, key)
    blank = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return blank.masked_fill_(~seen, -torch.inf)[:, None]


def attend(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, bias_B1QK: Tensor) -> Tensor:
    """Softmax attention under a mask; (B, H, Q, D). Every query must see at least one key."""
    return functional.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKD, attn_mask=bias_B1QK)
