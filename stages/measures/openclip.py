"""Image-text models of the open_clip family, from a local folder; nothing is ever fetched."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from corpus.errors import UserError
from corpus.ids import sha256_file
from stages.libraries import versions

FILES = ("open_clip_config.json", "open_clip_model.safetensors")

Embedded = NDArray[np.float32]


class ImageTextModel:
    """Embeds pictures and texts into one space.

    Args:
        weights: folder that holds `FILES`, as open_clip saves models.
        batch: pictures or texts that go through the model at once.
        device: where the model runs.
        stage: whose setting ``weights`` is, for messages.
        instead: what a person can do who has no such folder, for messages.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, weights: str, batch: int, device: str, stage: str, instead: str) -> None:
        self._folder = Path(weights).expanduser().absolute()
        for name in FILES:
            if not (self._folder / name).is_file():
                raise UserError(
                    f"{stage}: weights={weights} has no {name}: name a folder with a model as "
                    f"open_clip saves it, or {instead}"
                )
        self._batch, self._device = batch, device
        self._stage, self._instead = stage, instead
        self._revision = [sha256_file(self._folder / name) for name in FILES]

    def identity(self) -> dict[str, Any]:
        """The model by content, never by where it lies."""
        return {**versions(open_clip, PIL, torch), "revision": self._revision}

    def open(self) -> None:
        """Load the model; UserError when its files are no such model."""
        name = f"local-dir:{self._folder}"
        try:
            loaded = open_clip.create_model_from_pretrained(
                name,
                device=self._device,
                # Without these, towers may be fetched before our own weights replace them.
                pretrained_image=False,
                pretrained_text=False,
            )
            self._tokenizer = open_clip.get_tokenizer(name)
        except (SafetensorError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{self._stage}: weights={self._folder} is no open_clip model ({error}): "
                f"name another folder, or {self._instead}"
            ) from error
        assert isinstance(loaded, tuple)  # noqa: S101 - transforms were not turned off
        self._model, self._prepare = loaded
        self._model.eval()

    @property
    def scale(self) -> float:
        """What cosines are multiplied with before a softmax compares them, as in training."""
        return float(self._model.logit_scale.detach().exp())

    @property
    def side(self) -> int:
        """Pixels of the square pictures that it takes."""
        size = self._model.visual.image_size
        return int(size if isinstance(size, int) else min(size))

    def pictures(self, frames: Iterable[NDArray[np.uint8]]) -> Embedded:
        """Unit vectors (N, D) of uint8 (H, W, 3) RGB frames."""
        with torch.inference_mode():
            images = torch.stack([self._prepare(Image.fromarray(frame)) for frame in frames])
            return self._embed(images, self._model.encode_image)

    def texts(self, texts: Sequence[str]) -> Embedded:
        """Unit vectors (N, D)."""
        with torch.inference_mode():
            return self._embed(self._tokenizer(list(texts)), self._model.encode_text)

    def _embed(self, inputs: torch.Tensor, encode: Any) -> Embedded:
        parts = [
            torch.nn.functional.normalize(encode(part.to(self._device)).float(), dim=-1)
            for part in inputs.split(self._batch)
        ]
        return torch.cat(parts).cpu().numpy()
