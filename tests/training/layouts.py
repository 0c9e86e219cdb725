"""Random samples and small models for the tests of this folder."""

import numpy as np
import torch
from hypothesis import strategies as st

from training.model import TV2TV, ModelConfig
from training.rows import Budget
from training.sequence import Document, Sample, SequenceConfig, Span, Specials

SPECIALS = Specials(pad=0, drop=1, bof=2, eof=3, eos=4)
VOCAB = 24
SHAPE = (3, 2, 4)  # latents: C, h, w
PLAIN = SequenceConfig(drop_text=0, drop_span=0, drop_meta=0, flip=0)


def sample(
    key: str = "a",
    *,
    meta: int = 2,
    words: tuple[int, ...] = (1, 0, 2),
    complete: bool = True,
    shape: tuple[int, int, int] = SHAPE,
) -> Sample:
    """A sample with ``words[i]`` words before chunk i; its content follows from its key."""
    generator = np.random.default_rng(sum(key.encode()))
    channels, height, width = shape
    return Sample(
        key=key,
        meta=tuple(generator.integers(5, VOCAB, meta).tolist()),
        spans=tuple(
            Span(i, i + 1, tuple(generator.integers(5, VOCAB, n).tolist()))
            for i, n in enumerate(words)
            if n
        ),
        latent=generator.standard_normal((channels, 1 + len(words), height, width), np.float32),
        complete=complete,
    )


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any small sample."""
    return sample(
        draw(st.text("abcdef", min_size=1, max_size=4)),
        meta=draw(st.integers(0, 3)),
        words=tuple(draw(st.lists(st.integers(0, 3), max_size=4))),
        complete=draw(st.booleans()),
    )


def budget(rows: list[list[Document]], spare: int = 0) -> Budget:
    """The least budget that holds these rows, and some more."""
    text = [sum(len(run.tokens) for each in row for run in each.runs) for row in rows]
    clean = [sum(len(each.blocks(lasting=True)) for each in row) for row in rows]
    noisy = [sum(len(each.blocks(lasting=False)) for each in row) for row in rows]
    return Budget(max(text) + spare, max(clean) + spare, max(noisy) + spare)


def small_model(seed: int = 0, **changes: object) -> TV2TV:
    """A model of two layers, its zero-initialised parts made random too."""
    torch.manual_seed(seed)
    given = {
        "vocab": VOCAB,
        "channels": SHAPE[0],
        "specials": SPECIALS,
        "layers": 2,
        "width": 32,
        "heads": 2,
        "hidden": 48,
        "factor": 2,
        "predict": "x",
        "qk_norm": True,
    }
    model = TV2TV(ModelConfig.model_validate(given | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model
