"""Between latents and tokens: a small U-Net cut in two, with the towers at its bottom.

The downsampler turns a latent frame and its level t into tokens, the upsampler turns the tokens of
a noisy block back into a latent frame (velocity or clean latent, see `training.flow`). Both are
residual convolution blocks steered by t; each halving of the resolution leaves a skip connection.

Sizes: n frames, C latent channels, h x w latent pixels, D width. Features stay channels-last,
(n, h, w, D), so that all but the spatial filters are plain matrix products.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

TIME_FEATURES = 64
TIME_SCALE = 1000.0  # t lies in [0, 1]; the sinusoids want it spread out
PLACE_FEATURES = 16  # per axis
PLACE_PERIOD = 64.0  # pixels after which the slowest place sinusoid comes round
NARROWEST = 64  # features of the highest resolutions, which are the dearest


class ConvBlock(nn.Module):
    """Depthwise 3x3, FiLM by the time features, pointwise SiLU pair, residual."""

    def __init__(self, width: int, time_width: int, eps: float) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width, eps)
        self.film = nn.Linear(time_width, 2 * width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x_nhwD: Tensor, time_nD: Tensor) -> Tensor:
        scale, shift = self.film(time_nD)[:, None, None].chunk(2, -1)
        y = self.spatial(x_nhwD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.norm(y) * (1 + scale) + shift
        return x_nhwD + self.narrow(functional.silu(self.widen(y)))


class TimeEmbedding(nn.Module):
    """Level t, (n,), to features, (n, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(TIME_FEATURES, width)
        self.mix = nn.Linear(width, width)

    def forward(self, t_n: Tensor) -> Tensor:
        half = TIME_FEATURES // 2
        frequency = 10_000.0 ** (-torch.arange(half, device=t_n.device) / half)
        waves = sinusoids(t_n * TIME_SCALE, frequency)
        return functional.silu(self.mix(functional.silu(self.widen(waves))))


class Downsampler(nn.Module):
    """Latent frames to tokens."""

    def __init__(self, channels: int, width: int, factor: int, eps: float) -> None:
        super().__init__()
        features = level_widths(width, factor)
        self.time = TimeEmbedding(width)
        self.stem = nn.Linear(channels, features[0])
        self.blocks = nn.ModuleList(ConvBlock(each, width, eps) for each in features)
        self.shrink = nn.ModuleList(nn.Linear(4 * a, b) for a, b in pairwise(features))
        self.place = nn.Linear(4 * PLACE_FEATURES, width, bias=False)

    def forward(self, x_nChw: Tensor, t_n: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Tokens (n, P, D), the skips of every level, and the time features for the upsampler."""
        time = self.time(t_n)
        y, skips = self.stem(x_nChw.permute(0, 2, 3, 1)), []
        for i, block in enumerate(self.blocks):
            if i:
                y = self.shrink[i - 1](quarter(y))
            y = block(y, time)
            skips.append(y)
        y = y + self.place(places(y.shape[1], y.shape[2], y.device))
        return y.flatten(1, 2), skips, time


class Upsampler(nn.Module):
    """Tokens to latent frames."""

    def __init__(self, channels: int, width: int, factor: int, eps: float) -> None:
        super().__init__()
        features = level_widths(width, factor)[::-1]
        self.norm = nn.RMSNorm(width, eps)
        self.merge = nn.ModuleList(nn.Linear(2 * each, each) for each in features)
        self.blocks = nn.ModuleList(ConvBlock(each, width, eps) for each in features)
        self.grow = nn.ModuleList(nn.Linear(a, 4 * b) for a, b in pairwise(features))
        self.head = nn.Linear(features[-1], channels)

    def forward(self, tokens_nPD: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        """(n, C, h, w)."""
        y = self.norm(tokens_nPD).unflatten(1, skips[-1].shape[1:3])
        for i, skip in enumerate(reversed(skips)):
            if i:
                y = unquarter(self.grow[i - 1](y))
            y = self.blocks[i](self.merge[i](torch.cat([y, skip], -1)), time)
        return self.head(y).permute(0, 3, 1, 2)


def level_widths(width: int, factor: int) -> list[int]:
    """Features per resolution, from the highest to the towers' own: halved per doubling."""
    levels = int(math.log2(factor))
    return [max(width >> (levels - i), min(width, NARROWEST)) for i in range(levels + 1)]


def quarter(x_nhwD: Tensor) -> Tensor:
    """Each 2 x 2 square of pixels as one: (n, h / 2, w / 2, 4 D)."""
    n, h, w, d = x_nhwD.shape
    squares = x_nhwD.view(n, h // 2, 2, w // 2, 2, d).transpose(2, 3)
    return squares.reshape(n, h // 2, w // 2, 4 * d)


def unquarter(x_nhwD: Tensor) -> Tensor:
    """Inverse of `quarter`."""
    n, h, w, d = x_nhwD.shape
    squares = x_nhwD.view(n, h, w, 2, 2, d // 4).transpose(2, 3)
    return squares.reshape(n, 2 * h, 2 * w, d // 4)


def sinusoids(x: Tensor, frequency: Tensor) -> Tensor:
    """Sines and cosines of x at some angular frequencies, along a new last axis."""
    angle = x[..., None].to(torch.float32) * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def places(height: int, width: int, device: torch.device) -> Tensor:
    """Features of each pixel's row and column, (height, width, 4 PLACE_FEATURES)."""
    octave = torch.arange(PLACE_FEATURES, device=device) / PLACE_FEATURES
    frequency = math.pi * (2 / PLACE_PERIOD) ** octave
    rows = sinusoids(torch.arange(height, device=device), frequency)
    columns = sinusoids(torch.arange(width, device=device), frequency)
    return torch.cat(
        [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], -1
    )
