"""Every cell of the mask table, stated again from the documents and not from the metadata."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import SHAPE, SPECIALS, budget, samples

from training.attention import attend, bias
from training.mask import allowed
from training.rows import TokenMeta, pack
from training.sequence import Block, Document, Draws, SequenceConfig, build

FACTOR, TOKENS = 2, 2  # a latent of 2 x 4 pixels gives 1 x 2 tokens
CONFIG = SequenceConfig(flip=0.5, drop_text=0.5, noisy_copies=2)


@dataclass(frozen=True)
class Token:
    """A token as the table knows it; ``time`` counts text tokens and whole chunks."""

    kind: str
    document: int
    time: int
    copy: int = 0


def tokens(row: list[Document], slots: tuple[int, int, int]) -> list[Token]:
    """The tokens of a row in their physical order, padded part by part."""
    parts: dict[str, list[Token]] = {"text": [], "clean": [], "noisy": []}
    for number, document in enumerate(row):
        time, last = -1, None
        for each in document.elements:
            if isinstance(each, Block):
                time += each.latent != last
                last = each.latent
                kind = "noisy" if each.kind == "noisy" else "clean"
                parts[kind] += [Token(kind, number, time, each.copy)] * TOKENS
            else:
                for _ in each.tokens:
                    time += 1
                    parts["text"].append(Token("text", number, time))
    lengths = dict(zip(parts, (slots[0], slots[1] * TOKENS, slots[2] * TOKENS), strict=True))
    return [
        token
        for kind, found in parts.items()
        for token in found + [Token("padding", -1, -1)] * (lengths[kind] - len(found))
    ]


def sees(query: Token, key: Token, same: bool) -> bool:
    """The table of the mask's docstring, cell by cell."""
    if "padding" in (query.kind, key.kind):
        return same
    if query.document != key.document or key.time > query.time:
        return False
    if key.time == query.time:
        if query.kind == "text":
            return same
        return query.kind == key.kind and query.copy == key.copy
    return key.kind in ("text", "clean")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(samples(), max_size=3), min_size=1, max_size=3), st.integers(0, 3))
def test_every_cell_on_random_layouts(rows: list, spare: int) -> None:
    documents = [
        [build(each, Draws(0, each.key, 0), CONFIG, SPECIALS) for each in row] for row in rows
    ]
    slots = budget(documents, spare)
    batch = pack(documents, slots, SHAPE, FACTOR, SPECIALS)
    table = allowed(batch.meta, batch.meta).numpy()
    for row, found in zip(documents, table, strict=True):
        described = tokens(row, (slots.text, slots.clean, slots.noisy))
        expected = [
            [sees(query, key, i == j) for j, key in enumerate(described)]
            for i, query in enumerate(described)
        ]
        np.testing.assert_array_equal(found, np.array(expected).reshape(found.shape))


def test_a_query_may_stand_outside_its_keys() -> None:
    """Inference asks for the rows of some tokens over other tokens' columns."""
    meta = TokenMeta(*(torch.tensor([x]) for x in ([0, 0, 0, -1], [0, 1, 2, 3], [0, 0, 1, -1])))
    part = TokenMeta(*(x[:, 2:3] for x in (meta.document, meta.order, meta.copy)))
    assert torch.equal(allowed(part, meta), allowed(meta, meta)[:, 2:3])


def test_attention_follows_the_table() -> None:
    meta = TokenMeta(*(torch.tensor([x]) for x in ([0, 0, 1, -1], [0, 1, 0, 3], [0, 0, 0, -1])))
    q, k = torch.randn(2, 1, 2, 4, 8)
    v = torch.eye(4).repeat(1, 2, 1, 1)
    weights = attend(q, k, v, bias(meta, meta, torch.float32))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 4))
    assert torch.equal(weights > 0, allowed(meta, meta)[:, None].expand(-1, 2, -1, -1))
