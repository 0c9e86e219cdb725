"""Tiny video VAEs of the real classes, with random weights, as diffusers saves them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders import (
    AutoencoderKLCogVideoX,
    AutoencoderKLCosmos,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
)

WAN: dict[str, Any] = {"base_dim": 8, "num_res_blocks": 1, "dim_mult": [1, 2, 2, 2]}
EIGHT: dict[str, Any] = {"latent_channels": 16, "block_out_channels": (8, 8, 8, 8)}
GROUPS = {**EIGHT, "layers_per_block": 1, "norm_num_groups": 2}
COSMOS = {
    **{"encoder_block_out_channels": (8, 8, 8, 8), "decode_block_out_channels": (8, 8, 8, 8)},
    **{"num_layers": 1, "latent_channels": 16, "resolution": 64},
}
LTX = {
    **{"block_out_channels": (8, 8, 8, 8), "layers_per_block": (1, 1, 1, 1, 1)},
    **{"decoder_block_out_channels": (8, 8, 8, 8), "decoder_layers_per_block": (1, 1, 1, 1, 1)},
}
RESIDUAL = {
    **{"z_dim": 48, "patch_size": 2, "in_channels": 12, "out_channels": 12, "is_residual": True},
    **{"scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},
}
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "wan": (AutoencoderKLWan, WAN),
    "wan 2.2": (AutoencoderKLWan, {**WAN, **RESIDUAL}),
    "cosmos": (AutoencoderKLCosmos, {**COSMOS, "temporal_compression_ratio": 4}),
    "cosmos of 8": (AutoencoderKLCosmos, COSMOS),
    "cogvideox": (AutoencoderKLCogVideoX, GROUPS),
    "hunyuan": (AutoencoderKLHunyuanVideo, GROUPS),
    "ltx": (AutoencoderKLLTXVideo, LTX),
}


@cache
def vae(kind: str) -> Any:
    """The model itself: the same numbers in every process."""
    torch.manual_seed(0)
    made, settings = KINDS[kind]
    return made(**settings).eval()


def saved(folder: Path, kind: str) -> Path:
    """Its folder."""
    vae(kind).save_pretrained(folder)
    return folder


def noise(frames: int = 9, height: int = 64, width: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
