"""`wan`: the causal video VAE of Wan, 4x8x8 with 16 channels (2.1); 4x16x16 with 48 (2.2)."""

from typing import ClassVar

from corpus.codecs.vae import VaeCodec
from corpus.codecs.weights import Runtime


class WanCodec(VaeCodec):
    """See `VaeCodec` for the settings."""

    id: ClassVar[str] = "wan"
    only: ClassVar[str | None] = "AutoencoderKLWan"
    repository: ClassVar[str | None] = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    floor: ClassVar[float | None] = 25.0

    def __init__(
        self, runtime: Runtime, *, dtype: str | None = None, tile: int | None = None
    ) -> None:
        super().__init__(runtime, dtype=dtype, tile=tile, licence="Apache-2.0")
