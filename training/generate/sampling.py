"""Drawing one text token from scores."""

import torch
from torch import Tensor


def draw(scores: Tensor, legal: Tensor, uniform: float, temperature: float, top_p: float) -> int:
    """A token among the legal ones.

    Args:
        scores: logits, (vocab,).
        legal: which tokens may be drawn, bool (vocab,); at least one.
        uniform: a number in [0, 1) that decides.
        temperature: 0 takes the likeliest.
        top_p: only the likeliest tokens that together hold this mass are drawn from.
    """
    scores = scores.double().masked_fill(~legal, -torch.inf)
    if temperature == 0:
        return int(scores.argmax())
    chances, tokens = (scores / temperature).softmax(0).sort(descending=True, stable=True)
    before = chances.cumsum(0) - chances
    chances = chances.where((before < top_p) & (chances > 0), 0.0)
    reached = chances.cumsum(0) > uniform * chances.sum()
    return int(tokens[reached.nonzero()[0, 0]])
