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

    def __init__(
        self, width: int, heads: int, hidden: int, layers: int, eps: float, qk_norm: bool
    ) -> None:
        super().__init__()
        self.heads, self.eps = heads, eps
        self.attention_norm = nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        # One gain per channel of a head, shared by the heads, for queries and for keys.
        self.qk_gain = nn.Parameter(torch.full((2, 1, width // heads), 1.5)) if qk_norm else None
        self.out = nn.Linear(width, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        for linear in (self.qkv, self.gate_up):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        # Each of the 2 * layers additions to the residual stream starts with its share of variance.
        for linear in (self.out, self.down):
            nn.init.normal_(linear.weight, std=(2 * layers * linear.in_features) ** -0.5)

    def project(self, x_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Queries with keys, (B, L, 2, H, E), and values, (B, L, H, E), of every head."""
        qkv = self.qkv(self.attention_norm(x_BLD)).unflatten(-1, (3, self.heads, -1))
        qk, v = qkv.split([2, 1], 2)
        if self.qk_gain is not None:
            qk = functional.rms_norm(qk, qk.shape[-1:], eps=self.eps) * self.qk_gain
        return qk, v.squeeze(2)

    def finish(self, x_BLD: Tensor, attended_BLD: Tensor) -> Tensor:
        """Output projection and feed-forward, each added to the stream."""
        x_BLD = x_BLD + self.out(attended_BLD)
        gate, up = self.gate_up(self.feed_norm(x_BLD)).chunk(2, -1)
        return x_BLD + self.down(functional.silu(gate) * up)


class Layer(nn.Module):
    """Both towers' halves of one layer around the attention they share."""

    def __init__(
        self,
        index: int,
        width: int,
        heads: int,
        hidden: int,
        layers: int,
        eps: float,
        qk_norm: bool,
    ) -> None:
        super().__init__()
        self.index = index
        self.text = Half(width, heads, hidden, layers, eps, qk_norm)
        self.video = Half(width, heads, hidden, layers, eps, qk_norm)

    def forward(
        self,
        text_BTD: Tensor,
        video_BVD: Tensor,
        rotation: tuple[Tensor, Tensor],
        bias: Tensor,
        keys: Keys | None,
    ) -> tuple[Tensor, Tensor]:
        split = text_BTD.shape[1]
        (text_qk, text_v), (video_qk, video_v) = (
            self.text.project(text_BTD),
            self.video.project(video_BVD),
        )
        qk = rotate(torch.cat([text_qk, video_qk], 1), *rotation)
        q, k = (each.transpose(1, 2) for each in qk.unbind(2))
        v = torch.cat([text_v, video_v], 1).transpose(1, 2)
        if keys is not None:
            k, v = keys.extend(self.index, k, v)
        attended = attend(q, k, v, bias).transpose(1, 2).flatten(2)
        return (
            self.text.finish(text_BTD, attended[:, :split]),
            self.video.finish(video_BVD, attended[:, split:]),
        )


def rotation(position_BL3: Tensor, head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of the rotary angles, (B, L, 1, 1, 1, E / 2) and (..., 2, E / 2).

    A text token has one id on all axes, for which this is ordinary 1-D RoPE; frequencies are those
    of Llama, ``theta ** (-2 i / E)``, and pairs are (i, i + E / 2) as in HF checkpoints.
    """
    half = head // 2
    device = position_BL3.device
    frequency = theta ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    axis = torch.tensor([AXIS_PATTERN[i % len(AXIS_PATTERN)] for i in range(half)], device=device)
    angle = position_BL3.to(torch.float32)[:, :, None, None, None, axis] * frequency
    sine = angle.sin()
    return angle.cos(), torch.cat([-sine, sine], -2)


def rotate(x_BL2HE: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply rotary position embedding to queries and keys at once."""
    pairs = x_BL2HE.unflatten(-1, (2, -1))
    return (pairs * cosine + pairs.flip(-2) * sine).flatten(-2)
