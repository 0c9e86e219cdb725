"""Mixture of Transformers: each modality has its own weights, attention is shared.

Sizes: B rows, L tokens of one modality (T of text, V of video), D width, H heads, E = D / H.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.attention import attend

# Axis of each rotary frequency, repeated: the sequence gets half of them, rows and columns a
# quarter each, and every axis has slow and fast ones.
AXIS_PATTERN = (0, 1, 0, 2)


class Keys(Protocol):
    """Where keys and values of earlier tokens are kept; see `training.generate.cache`."""

    def extend(self, layer: int, k_BHLE: Tensor, v_BHLE: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values that the new tokens may look at, themselves included."""
        ...


class Half(nn.Module):
    """One modality's weights in one layer: norms, Q/K/V, output, feed-forward (SwiGLU)."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        for linear in (self.qkv, self.gate_up):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        # Each of the 2 * layers additions to the residual stream starts with its share of variance.
        for linear in (self.out, self.down):
            nn.init.normal_(linear.weight, std=(2 * layers * linear.in_features) ** -0.5)

    def project(self, x_BLD: Tensor) -> Tensor:
        """Q, K and V of every head: (B, L, 3, H, E)."""
        return self.qkv(self.attention_norm(x_BLD)).unflatten(-1, (3, self.heads, -1))

    def finish(self, x_BLD: Tensor, attended_BLD: Tensor) -> Tensor:
        """Output projection and feed-forward, each added to the stream."""
        x_BLD = x_BLD + self.out(attended_BLD)
        gate, up = self.gate_up(self.feed_norm(x_BLD)).chunk(2, -1)
        return x_BLD + self.down(functional.silu(gate) * up)


class Layer(nn.Module):
    """Both towers' halves of one layer around the attention they share."""

    def __init__(
        self, index: int, width: int, heads: int, hidden: int, layers: int, eps: float
    ) -> None:
        super().__init__()
        self.index = index
        self.text = Half(width, heads, hidden, layers, eps)
        self.video = Half(width, heads, hidden, layers, eps)

    def forward(
        self,
        text_BTD: Tensor,
        video_BVD: Tensor,
        rotation: tuple[Tensor, Tensor],
        bias: Tensor,
        keys: Keys | None,
    ) -> tuple[Tensor, Tensor]:
        split = text_BTD.shape[1]
        qkv = torch.cat([self.text.project(text_BTD), self.video.project(video_BVD)], 1)
        q, k = (rotate(qkv[:, :, i].transpose(1, 2), *rotation) for i in (0, 1))
        v = qkv[:, :, 2].transpose(1, 2)
        if keys is not None:
            k, v = keys.extend(self.index, k, v)
        attended = attend(q, k, v, bias).transpose(1, 2).flatten(2)
        return (
            self.text.finish(text_BTD, attended[:, :split]),
            self.video.finish(video_BVD, attended[:, split:]),
        )


def rotation(position_BL3: Tensor, head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, each (B, 1, L, E / 2).

    A text token has one id on all axes, for which this is ordinary 1-D RoPE; frequencies are those
    of Llama, ``theta ** (-2 i / E)``, and pairs are (i, i + E / 2) as in HF checkpoints.
    """
    half = head // 2
    device = position_BL3.device
    frequency = theta ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    axis = torch.tensor([AXIS_PATTERN[i % len(AXIS_PATTERN)] for i in range(half)], device=device)
    angle = position_BL3.to(torch.float32)[..., axis] * frequency
    return angle.cos()[:, None], angle.sin()[:, None]


def rotate(x_BHLE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embedding."""
    a, b = x_BHLE.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
