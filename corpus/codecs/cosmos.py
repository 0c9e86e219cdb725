"""`cosmos`: NVIDIA's Cosmos tokenizer, 4x8x8 with 16 channels (CV4x8x8).

Two forms of it:

* TorchScript, as NVIDIA ships it: ``encoder.jit``, ``decoder.jit``, and ``mean_std.pt`` with some
  of them. The first two are code: they run only if that was allowed and if their SHA-256 is pinned;
* diffusers' `AutoencoderKLCosmos`, where its stride is the clock's (the released one has 8 frames
  to a latent, and is refused at 4).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from corpus.codecs.base import Codec, CodecInfo, stride_of, whole
from corpus.codecs.torch_codec import Model, TorchCodec, default_dtype
from corpus.codecs.vae import VaeCodec, pooled
from corpus.codecs.weights import ALLOWED, Runtime, digest, sha256_of
from corpus.errors import UserError

if TYPE_CHECKING:
    import torch

VERSION = "1"
LICENCE = "NVIDIA Open Model License"
ENCODER, DECODER, STATISTICS = "encoder.jit", "decoder.jit", "mean_std.pt"
FLOOR = 25.0


def cosmos(runtime: Runtime, **settings: Any) -> Codec:
    """The form of it that the weights have."""
    place = runtime.place("cosmos")
    kind = CosmosTorchScript if (place / ENCODER).is_file() else CosmosVae
    return kind(runtime, **settings)


class CosmosVae(VaeCodec):
    """See `VaeCodec` for the settings."""

    id: ClassVar[str] = "cosmos"
    only: ClassVar[str | None] = "AutoencoderKLCosmos"
    floor: ClassVar[float | None] = FLOOR

    def __init__(
        self, runtime: Runtime, *, dtype: str | None = None, tile: int | None = None
    ) -> None:
        super().__init__(runtime, dtype=dtype, tile=tile, licence=LICENCE)


class CosmosTorchScript(TorchCodec):
    """Args:
    encoder_sha256, decoder_sha256: of the two files that are code.
    channels, stride: what the files hold; tried out as all codecs are.
    dtype: see `VaeCodec`.
    """

    floor: ClassVar[float | None] = FLOOR

    def __init__(
        self,
        runtime: Runtime,
        *,
        encoder_sha256: str | None = None,
        decoder_sha256: str | None = None,
        channels: int = 16,
        stride: tuple[int, int, int] = (4, 8, 8),
        dtype: str | None = None,
    ) -> None:
        self._pins = {ENCODER: encoder_sha256, DECODER: decoder_sha256}
        channels, stride = whole("channels", channels), stride_of(stride)
        files = self._files(runtime)
        mean, std = _statistics(files, channels)
        dtype = default_dtype(runtime, dtype)
        info = CodecInfo(
            id="cosmos",
            revision=f"{VERSION}-{digest(files)}",
            channels=channels,
            stride=stride,
            causal=True,
            mean=mean,
            std=std,
            input_range=(-1.0, 1.0),
            dtype=dtype,
            licence=LICENCE,
            settings={
                "encoder_sha256": encoder_sha256,
                "decoder_sha256": decoder_sha256,
                "channels": channels,
                "stride": list(stride),
                "dtype": dtype,
            },
        )
        super().__init__(runtime, info)

    def _files(self, runtime: Runtime) -> list[Path]:
        """The files, if they may be run and are those that were pinned."""
        folder = runtime.place("cosmos")
        if not runtime.allow_torchscript:
            raise UserError(
                f"codec cosmos: {folder / ENCODER} is TorchScript, which is code: set "
                f"latents.allow_torchscript (or {ALLOWED}=1 in the environment) if you trust it"
            )
        for name, pin in self._pins.items():
            if not (folder / name).is_file():
                raise UserError(f"codec cosmos: {folder} has no {name}: fetch all of it")
            if pin is None:
                raise UserError(
                    f"codec cosmos: latents.settings does not pin {folder / name}, which is code: "
                    f"set {name.removesuffix('.jit')}_sha256 to its SHA-256 (sha256sum {name})"
                )
            if (found := sha256_of(folder / name)) != pin:
                raise UserError(
                    f"codec cosmos: {folder / name} has the SHA-256 {found}, not the pinned {pin}: "
                    "it is another file, or latents.settings pins the wrong one"
                )
        names = [*self._pins, *([STATISTICS] if (folder / STATISTICS).is_file() else [])]
        return [folder / name for name in names]

    def _load(self) -> Model:
        import torch

        files = self._files(self.runtime)
        if f"{VERSION}-{digest(files)}" != self.info.revision:
            raise UserError(
                f"codec cosmos: {files[0].parent} is not of revision {self.info.revision}"
            )
        try:
            halves = [torch.jit.load(path, self.runtime.device) for path in files[:2]]
        except RuntimeError as error:
            raise UserError(
                f"codec cosmos: {files[0].parent} holds no TorchScript: {error}"
            ) from error
        return _Halves(*(half.eval().to(self._dtype) for half in halves))


class _Halves:
    """Encoder and decoder as `Model`; an encoder may tell more than the latent, which is first."""

    def __init__(self, encoder: Any, decoder: Any) -> None:
        self._encoder, self._decoder = encoder, decoder

    def encode(self, pixels: "torch.Tensor") -> "torch.Tensor":
        found = self._encoder(pixels)
        latents: torch.Tensor = found[0] if isinstance(found, tuple | list) else found
        return latents

    def decode(self, latents: "torch.Tensor") -> "torch.Tensor":
        pixels: torch.Tensor = self._decoder(latents)
        return pixels


def _statistics(files: list[Path], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of ``mean_std.pt``: a mean and a deviation per channel and latent frame, made one per
    channel; where there is no such file, latents are stored as they come."""
    if files[-1].name != STATISTICS:
        return (0.0,) * channels, (1.0,) * channels
    import torch

    try:
        mean, std = torch.load(files[-1], map_location="cpu", weights_only=True)
        return pooled("cosmos", mean.double().numpy(), std.double().numpy(), channels)
    except Exception as error:  # of a file that is none of these, torch says so in many ways
        raise UserError(
            f"codec cosmos: {files[-1]} cannot be read: {error!r}: take the file that comes with "
            "the encoder"
        ) from error
