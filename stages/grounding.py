"""Grounding: does a caption fit the frames it stands at, and better than the frames beside them?

An image-text model of the open_clip family compares each caption with frames of its own segment and
of the segments before and after. Likeness to its own frames alone misses captions that are true of
the film but stand at the wrong time; the contrast, own minus neighbours, is what shows those.

Weights come from a local folder; nothing is ever fetched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import open_clip
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.ids import sha256_file
from corpus.video import read_video
from stages.libraries import versions

FILES = ("open_clip_config.json", "open_clip_model.safetensors")
VERSION = "1"

Embedded = NDArray[np.float32]


class Grounding:
    """Scores ``own`` and ``contrast`` of captions; cosines, so each is in -1..1 and -2..2.

    Args:
        weights: folder that holds `FILES`, as open_clip saves models.
        frames: of each segment that are looked at, evenly spread.
        batch: frames or texts that go through the model at once.
        device: where the model runs.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, weights: str, clock: Clock, frames: int, batch: int, device: str) -> None:
        self._folder = Path(weights).expanduser().absolute()
        for name in FILES:
            if not (self._folder / name).is_file():
                raise UserError(
                    f"scores: weights={weights} has no {name}: name a folder with a model as "
                    "open_clip saves it, or set scores.use to [rules]"
                )
        self._clock = clock
        self._frames, self._batch, self._device = frames, batch, device
        self._revision = [sha256_file(self._folder / name) for name in FILES]

    def identity(self) -> dict[str, Any]:
        """The model by content, never by where it lies."""
        return {
            "version": VERSION,
            **versions(av, decord, open_clip, PIL, torch),
            "revision": self._revision,
            "frames": self._frames,
        }

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
                f"scores: weights={self._folder} is no open_clip model ({error}): "
                "name another folder, or set scores.use to [rules]"
            ) from error
        assert isinstance(loaded, tuple)  # noqa: S101 - transforms were not turned off
        self._model, self._prepare = loaded
        self._model.eval()

    def scores(self, clip: Path, segments: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
        """Scores of each segment's caption; none where there is no text.

        Args:
            segments: all of a clip's, in order, with ``a``, ``b`` and ``text``.

        Returns:
            ``own``: mean likeness to its own frames. ``contrast``: that minus the mean likeness
            to its neighbours' frames; missing in a clip of one segment, which has none.
        """
        spoken = [index for index, segment in enumerate(segments) if segment["text"]]
        if not spoken:
            return [{} for _ in segments]
        likeness = self._texts([segments[i]["text"] for i in spoken]) @ self._segments(
            clip, segments
        )
        found: list[dict[str, float]] = [{} for _ in segments]
        for row, index in zip(likeness, spoken, strict=True):
            found[index]["own"] = float(row[index])
            beside = [i for i in (index - 1, index + 1) if 0 <= i < len(segments)]
            if beside:
                found[index]["contrast"] = float(row[index] - row[beside].mean())
        return found

    def _segments(self, clip: Path, segments: Sequence[dict[str, Any]]) -> Embedded:
        """Mean embedding of each segment's frames, (D, segments)."""
        chosen = [self._spread(segment["a"], segment["b"]) for segment in segments]
        frames = read_video(clip, sorted({index for each in chosen for index in each}))
        places = {i: n for n, i in enumerate(sorted({i for each in chosen for i in each}))}
        with torch.inference_mode():
            images = torch.stack([self._prepare(Image.fromarray(frame)) for frame in frames])
            embedded = self._embed(images, self._model.encode_image)
        return np.stack([embedded[[places[i] for i in each]].mean(0) for each in chosen], axis=1)

    def _spread(self, a: int, b: int) -> list[int]:
        """Frames from the middles of equal parts of a segment."""
        span = self._clock.span_frames(a, b)
        count = min(self._frames, len(span))
        return [span[int((part + 0.5) * len(span) / count)] for part in range(count)]

    def _texts(self, texts: Sequence[str]) -> Embedded:
        """(texts, D)."""
        with torch.inference_mode():
            return self._embed(self._tokenizer(list(texts)), self._model.encode_text)

    def _embed(self, inputs: torch.Tensor, encode: Any) -> Embedded:
        """Unit vectors, (N, D)."""
        parts = [
            torch.nn.functional.normalize(encode(part.to(self._device)).float(), dim=-1)
            for part in inputs.split(self._batch)
        ]
        return torch.cat(parts).cpu().numpy()
