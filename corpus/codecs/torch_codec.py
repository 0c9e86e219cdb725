"""What all codecs that compute with torch share: pixels, device, dtype, memory."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from corpus.codecs.base import Codec, CodecInfo, Frames, Latent, OutOfMemory
from corpus.codecs.weights import Runtime

if TYPE_CHECKING:  # takes seconds to import, and who only asks what a codec is needs none of it
    import torch

DTYPES = ("float32", "bfloat16")
NO_ROOM = ("out of memory", "can't allocate memory", "cudnn_status_alloc_failed")


class Model(Protocol):
    """Pixels (N, 3, T, H, W) in [-1, 1] to latents (N, C, 1 + k, h, w) and back."""

    def encode(self, pixels: "torch.Tensor") -> "torch.Tensor": ...

    def decode(self, latents: "torch.Tensor") -> "torch.Tensor": ...


def default_dtype(runtime: Runtime, asked: str | None) -> str:
    """In which dtype to compute; ValueError for one that is not offered."""
    dtype = asked or ("float32" if runtime.device == "cpu" else "bfloat16")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: choose {' or '.join(DTYPES)}")
    return dtype


class TorchCodec(Codec):
    """A codec whose model is loaded when it is first needed, and travels to no other process."""

    checked: ClassVar[float] = 0.02  # decoding costs more than encoding
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, runtime: Runtime, info: CodecInfo) -> None:
        self.runtime, self.info = runtime, info
        self._model: Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def libraries(self) -> dict[str, str]:
        kind = self.runtime.device.partition(":")[0]
        return {"device": kind, **{name: version(name) for name in self.packages}}

    def open(self) -> None:
        if self._model is None:
            with _memory(self.info.id):
                self._model = self._load()

    @abstractmethod
    def _load(self) -> Model:
        """The model on the device; UserError where its files are not those that were named."""

    def _encode(self, frames: Frames) -> Latent:
        import torch

        # Convolutions on a CPU round a batch otherwise than one clip, and a large one on several
        # threads otherwise than on one; a clip's latent may depend on neither. A GPU gains by
        # batches and is held to a tolerance.
        size = 1 if self.runtime.device == "cpu" else len(frames)
        parts = [frames[start : start + size] for start in range(0, len(frames), size)]
        model = self._opened()
        with torch.inference_mode(), one_thread(), _memory(self.info.id):
            latents = [model.encode(self._pixels(part)).float().cpu() for part in parts]
        return torch.cat(latents).numpy()

    def _decode(self, latent: Latent) -> Frames:
        import torch

        model = self._opened()
        with torch.inference_mode(), _memory(self.info.id):
            pixels = model.decode(self._tensor(latent[None]).to(self._dtype)).float()
            bytes_ = ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
        frames = bytes_[0].permute(1, 2, 3, 0).cpu().numpy()
        time, down, right = self.info.stride
        _, count, height, width = latent.shape
        promised = 1 + time * (count - 1), height * down, width * right, 3
        if frames.shape != promised:
            raise ValueError(f"codec {self.info.id}: gave {frames.shape}, promised {promised}")
        return np.ascontiguousarray(frames)

    def _opened(self) -> Model:
        self.open()
        assert self._model is not None  # noqa: S101 - open saw to it
        return self._model

    def _pixels(self, frames: Frames) -> "torch.Tensor":
        pixels = self._tensor(frames).permute(0, 4, 1, 2, 3).float()
        return (pixels / 127.5 - 1.0).to(self._dtype)

    def _tensor(self, array: Any) -> "torch.Tensor":
        import torch

        return torch.tensor(array, device=self.runtime.device)

    @property
    def _dtype(self) -> "torch.dtype":
        import torch

        return torch.bfloat16 if self.info.dtype == "bfloat16" else torch.float32


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes meanwhile depends on no number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _memory(codec: str) -> Iterator[None]:
    """Says in one word what torch says in several: there is no room on the device."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"codec {codec}: {error}") from error
    except RuntimeError as error:
        if any(words in str(error).lower() for words in NO_ROOM):
            raise OutOfMemory(f"codec {codec}: {error}") from error
        raise
