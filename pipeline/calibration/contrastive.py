"""A small contrastive model of pictures and texts: open_clip's CLIP class, trained from nothing.

The loss is CLIP's (Radford et al. 2021) with two changes. Captions repeat, action labels above all:
equal texts are one column, and a picture's own text is right wherever it stands. And a batch has
*hard negatives*: captions of the same clips, since whole clips are drawn, and the verb-swapped
texts of the batch, but only such as are true of some other picture. A text that is never true could
be told by its sound, and the model would learn to listen instead of to look.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

Pictures = NDArray[np.uint8]
WARM_UP = 50  # steps
WEIGHT_DECAY = 0.05
MOST_SCALE = math.log(100)
LEAST_TOKENS, MOST_TOKENS = 8, 77
MEAN = STD = 0.5
TOLD = 10  # times that progress is told


class FitConfig(BaseModel):
    """
    Attributes:
        side: pixels of the montage; `patch` divides it.
        width, layers: of both towers.
        batch: pairs per step, about: clips are never parted.
        threads: of PyTorch; the sums, and so the weights, depend on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    side: int = Field(default=72, ge=24)
    patch: int = Field(default=12, ge=4)
    width: int = Field(default=64, ge=32, multiple_of=32)
    layers: int = Field(default=3, ge=1)
    steps: int = Field(default=1500, ge=1)
    batch: int = Field(default=128, ge=2)
    rate: float = Field(default=2e-3, gt=0)
    seed: int = 0
    threads: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Pairs:
    """Pictures and what is true of them.

    Attributes:
        pictures: uint8 (N, side, side, 3).
        texts: N of them.
        swapped: each text with its verbs swapped, where they can be.
        clips: (N,) number of the clip, from 0; equal ones lie together.
    """

    pictures: Pictures
    texts: tuple[str, ...]
    swapped: tuple[str | None, ...]
    clips: NDArray[np.intp]


def model_config(config: FitConfig, texts: Sequence[str]) -> dict[str, Any]:
    """The model's part of ``open_clip_config.json``; its texts may be twice as long as these."""
    tokens = open_clip.get_tokenizer("ViT-B-32")(list(dict.fromkeys(texts)))
    longest = int((tokens != 0).sum(1).max())
    return {
        "embed_dim": config.width,
        "vision_cfg": {
            "image_size": config.side,
            "patch_size": config.patch,
            "width": config.width,
            "layers": config.layers,
            "head_width": 32,
            "pool_type": "avg",  # learns what moved in half the steps that a class token takes
            "final_ln_after_pool": True,
        },
        "text_cfg": {
            "context_length": min(MOST_TOKENS, max(LEAST_TOKENS, 2 * longest)),
            "vocab_size": 49408,
            "width": config.width,
            "heads": config.width // 32,
            "layers": min(2, config.layers),
        },
    }


def fit(
    pairs: Pairs, built: dict[str, Any], config: FitConfig, say: Callable[[str], None]
) -> dict[str, Tensor]:
    """Train; the same weights for the same pairs, settings and build of PyTorch.

    Args:
        built: what `model_config` gave.

    Returns:
        The state to save.
    """
    torch.manual_seed(config.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _fit(pairs, built, config, say)
    finally:
        torch.set_num_threads(threads)


def _fit(
    pairs: Pairs, built: dict[str, Any], config: FitConfig, say: Callable[[str], None]
) -> dict[str, Tensor]:
    model = open_clip.CLIP(**built)
    model.train()
    vocabulary = _Vocabulary(pairs, built["text_cfg"]["context_length"])
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / config.steps)) / 2
        ),
    )
    batches = _Batches(pairs.clips, config)
    seen: list[float] = []
    for step in range(1, config.steps + 1):
        drawn = batches.draw()
        columns, right = vocabulary.columns(drawn)
        pictures = model.encode_image(prepared(pairs.pictures[drawn]), normalize=True)
        words = model.encode_text(vocabulary.tokens[columns], normalize=True)
        loss = _loss(model.logit_scale.exp() * pictures @ words.T, right)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MOST_SCALE)
        seen.append(float(loss.detach()))
        if step % max(1, config.steps // TOLD) == 0:
            recent = seen[-max(1, config.steps // TOLD) :]
            say(f"step {step} of {config.steps}: loss {sum(recent) / len(recent):.3f}")
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def prepared(pictures: Pictures) -> Tensor:
    """As open_clip's own transform gives them, where nothing is resized: (N, 3, H, W)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255).sub(MEAN).div(STD)


class _Batches:
    """Whole clips at random, each clip once before any comes again."""

    def __init__(self, clips: NDArray[np.intp], config: FitConfig) -> None:
        starts = np.flatnonzero(np.diff(clips, prepend=-1))
        self._of = np.split(np.arange(len(clips)), starts[1:])
        self._size = config.batch
        self._rng = np.random.default_rng(config.seed)
        self._left: list[int] = []

    def draw(self) -> NDArray[np.intp]:
        found: list[NDArray[np.intp]] = []
        while sum(map(len, found)) < self._size and len(found) < len(self._of):
            if not self._left:
                self._left = self._rng.permutation(len(self._of)).tolist()
            found.append(self._of[self._left.pop()])
        return np.concatenate(found)


class _Vocabulary:
    """All texts, once each."""

    def __init__(self, pairs: Pairs, length: int) -> None:
        place = {text: n for n, text in enumerate(dict.fromkeys(pairs.texts))}
        self.tokens = open_clip.get_tokenizer("ViT-B-32", context_length=length)(list(place))
        self._of = np.array([place[text] for text in pairs.texts])
        # A swapped text is a negative only where it is true of another picture.
        self._swapped = np.array([place.get(text or "", -1) for text in pairs.swapped])

    def columns(self, drawn: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Texts of a batch, and for each picture the column of its own."""
        own, swapped = self._of[drawn], self._swapped[drawn]
        columns = np.unique(np.concatenate([own, swapped[swapped >= 0]]))
        return torch.from_numpy(columns), torch.from_numpy(np.searchsorted(columns, own))


def _loss(logits: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy of texts for pictures, and of pictures for such texts as have some.

    Args:
        logits: (pictures, texts).
        right: column of each picture's own text.
    """
    own = functional.one_hot(right, logits.shape[1]).to(logits.dtype)
    each = own.sum(0)
    pictures = functional.cross_entropy(logits, right)
    spread = (own * torch.log_softmax(logits, dim=0)).sum(0) / each.clamp(min=1)
    texts = -spread.sum() / (each > 0).sum()
    return (pictures + texts) / 2
