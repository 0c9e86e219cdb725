"""The one interface of all latent codecs."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Latent = NDArray[np.float32]
TUPLES = ("stride", "mean", "std", "input_range")
PROBE_SIDE = 64  # pixels


@dataclass(frozen=True)
class CodecInfo:
    """What a reader must know to undo a codec; stored in every sample and manifest.

    Attributes:
        id: which codec; `corpus.codecs.build` knows it.
        revision: changes whenever the same frames give other latents.
        channels: C of a latent.
        stride: (time, height, width) in frames and pixels per latent cell.
        causal: latent 0 sees frame 0 alone, latent 1 + i no frame after its own four.
        mean, std: per channel, already applied to stored latents.
        input_range: of pixel values as the codec sees them.
        dtype: in which it computes: ``float32`` or ``bfloat16``.
        licence: of the codec's weights.
        settings: what else `build` needs; never a path.
    """

    id: str
    revision: str
    channels: int
    stride: tuple[int, int, int]
    causal: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_range: tuple[float, float]
    dtype: str
    licence: str
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        for name in TUPLES:
            data[name] = list(data[name])
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> "CodecInfo":
        """What `to_json` gave; ValueError, TypeError or KeyError for anything else."""
        told: dict[str, Any] = {one.name: data[one.name] for one in fields(CodecInfo)}
        return CodecInfo(**told | {name: tuple(told[name]) for name in TUPLES})


class OutOfMemory(MemoryError):
    """The device has no room for so many clips at once; fewer may fit."""


class Codec(ABC):
    """Frames to latents and back. ``T = 1 + n k`` frames give ``1 + k`` latent frames.

    Class attributes:
        checked: share of a corpus' clips that are worth decoding back, by what decoding costs.
        floor: PSNR in dB under which a clip's round trip is worth a look; None where nobody knows.
    """

    info: CodecInfo
    checked: ClassVar[float] = 0.25
    floor: ClassVar[float | None] = None

    def libraries(self) -> dict[str, str]:
        """What else decides the bytes of a latent: builds of libraries, the kind of device."""
        return {}

    def open(self) -> None:  # noqa: B027 - some have nothing to load
        """Load what encoding needs, where there is anything. Encoding does so, too, if need be.

        Raises:
            UserError: it is not there, or not what it was named by.
        """

    @property
    def probe_size(self) -> tuple[int, int]:
        """(height, width) of the smallest frames that show all that the codec does."""
        _, down, right = self.info.stride
        return -(-PROBE_SIDE // down) * down, -(-PROBE_SIDE // right) * right

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, 1 + k, h, w) for a clip; ValueError when the codec cannot hold it exactly."""
        time, down, right = self.info.stride
        chunks, rest = divmod(frames - 1, time)
        if rest or chunks < 0:
            raise ValueError(f"codec {self.info.id}: {frames} frames are not 1 + {time}k")
        if height % down or width % right or not height or not width:
            raise ValueError(
                f"codec {self.info.id}: {width}x{height} is no multiple of {right}x{down}; "
                "choose clip buckets that are"
            )
        return self.info.channels, 1 + chunks, height // down, width // right

    def encode(self, frames: Frames) -> Latent:
        """Standardised latent (C, 1 + k, h, w), float32, of uint8 frames (T, H, W, 3).

        Raises:
            ValueError: frames that the codec cannot hold, or a latent that is not finite.
        """
        latent = self.encode_batch(frames[None])[0]
        if not np.isfinite(latent).all():
            raise ValueError(f"codec {self.info.id}: the latent is not finite")
        return latent

    def encode_batch(self, frames: Frames) -> Latent:
        """Latents (N, C, 1 + k, h, w) of clips of one size (N, T, H, W, 3), as `encode` makes each.

        Whether each is finite is for the caller to see: one bad clip is no fault of the others.
        """
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[4] != 3:
            raise ValueError(
                f"codec {self.info.id}: uint8 (T, H, W, 3), not {frames.dtype} {frames.shape[1:]}"
            )
        shape = len(frames), *self.latent_shape(*frames.shape[1:4])
        mean, std = self._statistics()
        latents = (self._encode(frames) - mean) / std
        if latents.shape != shape:
            raise ValueError(f"codec {self.info.id}: gave {latents.shape}, promised {shape}")
        return np.ascontiguousarray(latents, dtype=np.float32)

    def decode(self, latent: Latent) -> Frames:
        """uint8 frames (1 + n k, H, W, 3) of a standardised latent."""
        if latent.ndim != 4 or latent.shape[0] != self.info.channels:
            raise ValueError(
                f"codec {self.info.id}: ({self.info.channels}, 1+k, h, w), not {latent.shape}"
            )
        mean, std = self._statistics()
        return self._decode(np.asarray(latent, np.float32) * std + mean)

    def _statistics(self) -> tuple[Latent, Latent]:
        shape = (-1, 1, 1, 1)
        mean = np.asarray(self.info.mean, np.float32).reshape(shape)
        return mean, np.asarray(self.info.std, np.float32).reshape(shape)

    @abstractmethod
    def _encode(self, frames: Frames) -> Latent:
        """(N, T, H, W, 3) uint8 to (N, C, 1 + k, h, w), not standardised."""

    @abstractmethod
    def _decode(self, latent: Latent) -> Frames:
        """Inverse of `_encode` for one clip."""


def whole(name: str, value: Any) -> int:
    """A setting that has to be a whole number above 0; ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number above 0")
    return value


def stride_of(value: Any) -> tuple[int, int, int]:
    """A setting ``[frames, rows, columns]``; ValueError for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"stride={value!r} must be [frames, rows, columns]")
    time, down, right = (whole("stride", one) for one in value)
    return time, down, right


def psnr(a: Frames, b: Frames) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit frames; 99 for equal ones."""
    # Frame by frame: a long clip in wider numbers would take gigabytes. Whole numbers add exactly.
    error = sum(int(((x.astype(np.int32) - y) ** 2).sum()) for x, y in zip(a, b, strict=True))
    return 99.0 if error == 0 else float(10 * np.log10(255.0**2 * a.size / error))
