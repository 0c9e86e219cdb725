"""`diffusers`: any video VAE of diffusers, by the class that its ``config.json`` names.

What a codec is (channels, stride, statistics) is read from its config and from the names of its
files; the weights are read when the first clip is encoded. Only safetensors are read.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from safetensors import SafetensorError, safe_open

from corpus.codecs.base import CodecInfo, stride_of, whole
from corpus.codecs.torch_codec import Model, TorchCodec, default_dtype
from corpus.codecs.weights import Runtime, digest, read_config
from corpus.errors import UserError

if TYPE_CHECKING:
    import torch

VERSION = "1"  # of what this file makes of frames, weights and settings
EXTRA = "pip install 'tv2tv[vae]'"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_KL = re.compile(r"^AutoencoderKL[A-Za-z0-9]*$")
Setting = tuple[str, int]  # of a config, and what holds where it is not set


@dataclass(frozen=True)
class Traits:
    """What is known of a class of diffusers.

    Attributes:
        causal: declared; `corpus.codecs.fitness.prove` tries it out.
        channels, time, space: settings of its config that say so.
        standardises: its config must say ``latents_mean`` and ``latents_std``.
    """

    causal: bool
    channels: Setting = ("latent_channels", 16)
    time: Setting = ("temporal_compression_ratio", 4)
    space: Setting = ("spatial_compression_ratio", 8)
    standardises: bool = False


KNOWN = {
    "AutoencoderKLWan": Traits(
        True, ("z_dim", 16), ("scale_factor_temporal", 4), ("scale_factor_spatial", 8), True
    ),
    "AutoencoderKLCosmos": Traits(True, time=("temporal_compression_ratio", 8), standardises=True),
    "AutoencoderKLCogVideoX": Traits(False),
    "AutoencoderKLHunyuanVideo": Traits(False),
    "AutoencoderKLLTXVideo": Traits(
        True,
        ("latent_channels", 128),
        ("temporal_compression_ratio", 8),
        ("spatial_compression_ratio", 32),
    ),
}


class VaeCodec(TorchCodec):
    """Args:
    dtype: ``float32`` (default on a CPU) or ``bfloat16`` (default on a GPU).
    tile: frames with a side above so many pixels are encoded in overlapping tiles; that needs less
        memory and gives other latents. None for never.
    channels, stride, causal: declared, where the class is not in `KNOWN`; tried out in any case.
    licence: of the weights.
    """

    id: ClassVar[str] = "diffusers"
    only: ClassVar[str | None] = None  # class, where the codec is of one
    repository: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ("torch", "diffusers")

    def __init__(
        self,
        runtime: Runtime,
        *,
        dtype: str | None = None,
        tile: int | None = None,
        channels: int | None = None,
        stride: Sequence[int] | None = None,
        causal: bool | None = None,
        licence: str = "unknown",
    ) -> None:
        _check_installed(self.id)
        config, files = self._found(runtime)
        traits = KNOWN.get(config["_class_name"])
        if traits is None and (channels is None or stride is None or causal is None):
            raise UserError(
                f"codec {self.id}: nothing is known of {config['_class_name']}: declare channels, "
                "stride: [frames, pixels, pixels] and causal in latents.settings"
            )
        if traits is not None:
            channels = _number(config, traits.channels) if channels is None else channels
            space = _number(config, traits.space)
            stride = (_number(config, traits.time), space, space) if stride is None else stride
            causal = traits.causal if causal is None else causal
        channels, stride = whole("channels", channels), stride_of(stride)
        if not isinstance(causal, bool):
            raise ValueError(f"causal={causal!r} must be true or false")
        if tile is not None and whole("tile", tile) % (4 * stride[1]):
            raise ValueError(f"tile={tile} must be a multiple of {4 * stride[1]}")
        dtype = default_dtype(runtime, dtype)
        mean, std = statistics(self.id, config, files, channels, traits)
        declared = {"channels": channels, "stride": list(stride), "causal": causal}
        settings: dict[str, Any] = {"dtype": dtype, "tile": tile}
        if self.only is None:
            settings |= {**declared, "licence": licence}
        info = CodecInfo(
            id=self.id,
            revision=revision(config, files),
            channels=channels,
            stride=stride,
            causal=causal,
            mean=mean,
            std=std,
            input_range=(-1.0, 1.0),
            dtype=dtype,
            licence=licence,
            settings=settings,
        )
        super().__init__(runtime, info)
        self.tile = tile

    @property
    def probe_size(self) -> tuple[int, int]:
        height, width = super().probe_size
        return height, width if self.tile is None else self.tile + self.info.stride[2]

    def _found(self, runtime: Runtime) -> tuple[dict[str, Any], list[Path]]:
        """The config, without notes of whoever wrote it, and the files of the weights."""
        place = runtime.place(self.id, self.repository)
        # Repositories of whole pipelines keep it in a folder of its own.
        folder = place / "vae" if (place / "vae" / "config.json").is_file() else place
        config = read_config(self.id, folder)
        name = str(config.get("_class_name"))
        if not _KL.match(name) or (self.only is not None and name != self.only):
            raise UserError(
                f"codec {self.id}: {folder} holds weights of {name}, not of "
                f"{self.only or 'a video VAE (AutoencoderKL...)'}: name another folder or codec"
            )
        told = {n: v for n, v in config.items() if not n.startswith("_") or n == "_class_name"}
        return told, weight_files(self.id, folder)

    def _load(self) -> Model:
        config, files = self._found(self.runtime)
        if revision(config, files) != self.info.revision:
            raise UserError(
                f"codec {self.id}: the weights in {files[0].parent} are not those of revision "
                f"{self.info.revision}: they differ between machines, or changed during the run"
            )
        name = config["_class_name"]
        vae = _load_class(self.id, name, files[0].parent, self._dtype)
        if self.tile is not None:
            _tile(self.id, name, vae, self.tile)
        return _Vae(vae.to(self.runtime.device))


class _Vae:
    """A VAE of diffusers as `Model`: the mode of the posterior, never a draw."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def encode(self, pixels: "torch.Tensor") -> "torch.Tensor":
        found: torch.Tensor = self._vae.encode(pixels).latent_dist.mode()
        return found

    def decode(self, latents: "torch.Tensor") -> "torch.Tensor":
        found: torch.Tensor = self._vae.decode(latents).sample
        return found


def revision(config: Mapping[str, Any], files: Sequence[Path]) -> str:
    return f"{VERSION}-{digest(files, config)}"


def weight_files(codec: str, folder: Path) -> list[Path]:
    """The safetensors that diffusers would read in a folder: one file, or those of an index."""
    one, index = folder / WEIGHTS, folder / f"{WEIGHTS}.index.json"
    if one.is_file():
        return [one]
    names: list[str] = []
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"codec {codec}: {index} cannot be read: {error!r}") from error
    files = [folder / Path(str(name)).name for name in names]
    missing = [path.name for path in files if not path.is_file()]
    if not files or missing:
        raise UserError(
            f"codec {codec}: {folder} has no {', '.join(missing) or WEIGHTS}: fetch all of it "
            "(other formats than safetensors can hold code, and are not read)"
        )
    return files


def statistics(
    codec: str,
    config: Mapping[str, Any],
    files: Sequence[Path],
    channels: int,
    traits: Traits | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that make a latent what diffusers' models are shown:
    ``(z - latents_mean) * scaling_factor / latents_std``, or with ``shift_factor`` for a mean."""
    if traits is not None and traits.standardises and "latents_mean" not in config:
        raise UserError(
            f"codec {codec}: its config.json does not say latents_mean and latents_std: take the "
            "config that comes with the weights"
        )
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None and std is None:
        mean, std = _buffers(files)
    scale = float(config.get("scaling_factor") or 1.0)
    if mean is None or std is None:
        shift = float(config.get("shift_factor") or 0.0)
        return (shift,) * channels, (1.0 / scale,) * channels
    means, stds = pooled(codec, mean, std, channels)
    return means, tuple(value / scale for value in stds)


def pooled(
    codec: str, mean: Any, std: Any, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One mean and deviation per channel of statistics that may be per latent frame, as those of
    Cosmos: a clip may end anywhere, and all of its latents are standardised alike."""
    try:
        means = np.asarray(mean, np.float64).reshape(channels, -1)
        stds = np.asarray(std, np.float64).reshape(channels, -1)
        spread = (stds**2 + means**2).mean(1) - means.mean(1) ** 2
        if means.shape != stds.shape or not (np.isfinite(means).all() and (spread > 0).all()):
            raise ValueError(f"{means.shape} and {stds.shape}, or no positive numbers")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"codec {codec}: its statistics are not those of {channels} channels: {error}"
        ) from error
    deviations = stds[:, 0] if stds.shape[1] == 1 else np.sqrt(spread)
    return tuple(map(float, means.mean(1))), tuple(map(float, deviations))


def _buffers(files: Sequence[Path]) -> tuple[Any, Any]:
    """Statistics that lie among the weights, as those of LTX."""
    found: dict[str, Any] = {}
    for path in files:
        try:
            with safe_open(path, "numpy") as tensors:
                names = {"latents_mean", "latents_std"} & set(tensors.keys())
                found |= {name: tensors.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no safetensors file: {error}") from error
    return found.get("latents_mean"), found.get("latents_std")


def _number(config: Mapping[str, Any], setting: Setting) -> int:
    value = config.get(setting[0])
    return int(setting[1] if value is None else value)


def _check_installed(codec: str) -> None:
    try:
        version("diffusers")
    except PackageNotFoundError as error:
        raise UserError(f"codec {codec} needs diffusers: {EXTRA}") from error


def _load_class(codec: str, name: str, folder: Path, dtype: "torch.dtype") -> Any:
    """A VAE with its weights, all of them and no others."""
    from diffusers.models import ModelMixin, autoencoders

    kind = vars(autoencoders).get(name) if _KL.match(name) else None
    if not isinstance(kind, type) or not issubclass(kind, ModelMixin):
        raise UserError(f"codec {codec}: diffusers {version('diffusers')} has no {name}")
    try:
        loaded: Any = kind.from_pretrained(
            folder,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
        vae, told = loaded
    except (OSError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(
            f"codec {codec}: {folder} holds no {name} that loads: {error}; fetch it again"
        ) from error
    wrong = [*told["missing_keys"], *told["unexpected_keys"], *told["mismatched_keys"]]
    if wrong:  # diffusers would go on with random numbers
        raise UserError(
            f"codec {codec}: the weights in {folder} are not those of its config: "
            f"{len(wrong)} tensors are missing, odd or of another shape, such as {wrong[0]}"
        )
    return vae.eval().requires_grad_(False)


def _tile(codec: str, name: str, vae: Any, tile: int) -> None:
    if not hasattr(vae, "tiled_encode") or not hasattr(vae, "tile_sample_stride_height"):
        raise UserError(
            f"codec {codec}: diffusers encodes {name} in no tiles of a given size: leave out tile, "
            "and make clips of smaller frames (clips.buckets)"
        )
    apart = tile * 3 // 4
    vae.enable_tiling(
        tile_sample_min_height=tile,
        tile_sample_min_width=tile,
        tile_sample_stride_height=apart,
        tile_sample_stride_width=apart,
    )
