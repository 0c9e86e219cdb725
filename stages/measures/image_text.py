"""What an image-text model makes of a clip: does it show what we look for, and is it beautiful?

* A score for each of the recipe's prompts: frames are compared with the sentences ``like`` and
  ``unlike``, a softmax over all of them shares out the likeness (as in CLIP's own zero-shot
  classification), and the score is the share of ``like``, 0 to 1. A watermark is a prompt like any
  other: "a picture with a watermark" against "a clean picture".
* ``aesthetics``: a linear layer on the embedding, as the LAION aesthetic predictors are; its range
  is its own (theirs: 1 to 10).

Both are means over some frames.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from corpus.errors import UserError
from corpus.ids import sha256_file
from stages.measures.openclip import Embedded, ImageTextModel
from stages.measures.pixels import spread
from stages.quality import AESTHETICS, ImagesConfig
from stages.reading.pictures import Frames

VERSION = "1"


class Images:
    """Scores of one open_clip model.

    Raises:
        UserError: weights or the aesthetics layer are missing or are something else.
    """

    def __init__(self, config: ImagesConfig, weights: str) -> None:
        self._config = config
        self._model = ImageTextModel(
            weights, config.batch, config.device, "quality.images", "take images from quality.use"
        )
        self._layer = Linear(Path(config.aesthetics)) if config.aesthetics is not None else None

    def identity(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **self._model.identity(),
            "frames": self._config.frames,
            "prompts": {name: one.model_dump() for name, one in self._config.prompts.items()},
            "aesthetics": self._layer.revision if self._layer else None,
        }

    def open(self) -> None:
        self._model.open()
        if self._layer:
            black = np.zeros((1, 8, 8, 3), np.uint8)
            self._layer.fit(self._model.pictures(black).shape[1])
        self._texts = {
            name: self._model.texts([*one.like, *one.unlike])
            for name, one in self._config.prompts.items()
        }

    def scores(self, frames: Frames) -> dict[str, float]:
        """Of a clip's frames (T, H, W, 3)."""
        shown = self._model.pictures(frames[spread(len(frames), self._config.frames)])
        found = {
            name: self._share(shown, texts, len(self._config.prompts[name].like))
            for name, texts in self._texts.items()
        }
        if self._layer:
            found[AESTHETICS] = float(self._layer(shown).mean())
        return found

    def _share(self, shown: Embedded, texts: Embedded, like: int) -> float:
        logits = (shown @ texts.T).astype(np.float64) * self._model.scale
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return float((weights[:, :like].sum(axis=1) / weights.sum(axis=1)).mean())


class Linear:
    """A linear layer from an embedding to a number, from .safetensors or .json.

    Raises:
        UserError: no such file, or another content.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        try:
            self.revision = sha256_file(self._path)
            read = _read_json if self._path.suffix == ".json" else load_file
            held = read(self._path)
            weight, bias = (np.asarray(held[name], np.float32) for name in ("weight", "bias"))
            self._weight, self._bias = weight.reshape(-1), float(bias.reshape(()))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"quality.images: aesthetics={path} is no linear layer ({error}): name a "
                ".safetensors or .json file with weight (1 x D) and bias (1)"
            ) from error

    def fit(self, width: int) -> None:
        """UserError unless it takes embeddings of that width."""
        if width != len(self._weight):
            raise UserError(
                f"quality.images: aesthetics={self._path} takes {len(self._weight)} numbers, the "
                f"model gives {width}: name the layer that was made for this model"
            )

    def __call__(self, embedded: Embedded) -> NDArray[np.float32]:
        """(N,) of (N, D)."""
        return np.asarray(embedded @ self._weight + self._bias, np.float32)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
