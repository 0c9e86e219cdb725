"""The TV2TV model: one sequence of text tokens and latent blocks through two towers.

Sizes: B rows, T text slots, N clean blocks, M noisy blocks, P tokens per block, V = (N + M) P video
tokens, L = T + V, D width, C latent channels, h x w latent pixels.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from training.attention import bias
from training.flow import Predict
from training.rows import Batch
from training.samplers import Downsampler, Upsampler
from training.sequence import NO_TARGET, Specials
from training.towers import Keys, Layer, rotation

Positive = Annotated[int, Field(ge=1)]


class ModelConfig(BaseModel):
    """Everything that fixes the architecture.

    Attributes:
        vocab: text token ids.
        channels: latent channels.
        specials: ids with a role in the sequence.
        layers, width, heads: of both towers.
        hidden: width of the feed-forward networks.
        factor: downsampling from latent pixels to tokens, per side.
        predict: what the upsampler's output means and is compared with (`training.flow`).
        qk_norm: normalise queries and keys per head.
        text_on_grid: text has its sequence id on the row and column axes too, which leaves a
            language model's angles as they were; else it stands at the grid's origin, and what a
            head makes of rows and columns does not depend on when a word is said.
        theta: base of the rotary frequencies.
        eps: of the norms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    vocab: Positive
    channels: Positive
    specials: Specials
    layers: Positive
    width: Positive
    heads: Positive
    hidden: Positive
    factor: Literal[1, 2, 4] = 1
    predict: Predict = "v"
    qk_norm: bool = False
    text_on_grid: bool = True
    theta: Annotated[float, Field(gt=0)] = 10_000.0
    eps: Annotated[float, Field(gt=0)] = 1e-5

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "ModelConfig":
        """Rotary embedding turns pairs of channels, so a head's width is even."""
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width={self.width} cannot be cut into heads={self.heads} of one even width: "
                "choose a width that is a multiple of twice the heads"
            )
        return self


@dataclass(frozen=True)
class Prediction:
    """What the model says about a batch.

    Attributes:
        logits: at the text positions that have a target, row by row, (n, vocab).
        target: those targets, (n,).
        flow: the upsampler's output for every noisy block, (B, M, C, h, w).
    """

    logits: Tensor
    target: Tensor
    flow: Tensor


class TV2TV(nn.Module):
    """See the module's text. Weights come from torch's global generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.embedding = nn.Embedding(c.vocab, c.width)
        self.downsampler = Downsampler(c.channels, c.width, c.factor, c.eps)
        self.layers = nn.ModuleList(
            Layer(i, c.width, c.heads, c.hidden, c.layers, c.eps, c.qk_norm)
            for i in range(c.layers)
        )
        self.norm = nn.RMSNorm(c.width, c.eps)
        self.head = nn.Linear(c.width, c.vocab, bias=False)
        self.upsampler = Upsampler(c.channels, c.width, c.factor, c.eps)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, batch: Batch) -> Prediction:
        """One training pass over sorted rows."""
        clean = batch.shown.shape[1]
        frames = torch.cat([batch.shown, batch.noisy], 1)
        video, skips, time = self.look(frames, torch.cat([batch.shown_t, batch.t], 1))
        table = bias(batch.meta, batch.meta, video.dtype)
        text, video = self.trunk(self.embedding(batch.text), video, batch.position, table)

        def noisy(x: Tensor) -> Tensor:
            """The noisy blocks of something given per block, (B M, ...)."""
            return x.reshape(*frames.shape[:2], *x.shape[1:])[:, clean:].flatten(0, 1)

        blocks = video.reshape(frames.shape[0] * frames.shape[1], -1, video.shape[2])
        flow = self.upsampler(noisy(blocks), [noisy(skip) for skip in skips], noisy(time))
        learned = batch.target != NO_TARGET
        return Prediction(
            logits=self.next_token(text[learned]),
            target=batch.target[learned],
            flow=flow.reshape(batch.clean.shape),
        )

    def look(self, frames_BNChw: Tensor, levels_BN: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Video tokens (B, N P, D), with skips and time features per block for the upsampler."""
        rows, blocks = levels_BN.shape
        tokens, skips, time = self.downsampler(frames_BNChw.flatten(0, 1), levels_BN.flatten())
        return tokens.reshape(rows, blocks * tokens.shape[1], tokens.shape[2]), skips, time

    def trunk(
        self,
        text_BTD: Tensor,
        video_BVD: Tensor,
        position_BL3: Tensor,
        table: Tensor,
        keys: Keys | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All layers over ``[text | video]``; with ``keys``, over what is cached as well."""
        if not self.config.text_on_grid:
            position_BL3 = position_BL3.clone()
            position_BL3[:, : text_BTD.shape[1], 1:] = 0
        turn = rotation(position_BL3, self.config.width // self.config.heads, self.config.theta)
        for layer in self.layers:
            text_BTD, video_BVD = layer(text_BTD, video_BVD, turn, table, keys)
        return text_BTD, video_BVD

    def ends(self) -> tuple[nn.Module, ...]:
        """What stands between features and tokens or pixels: embedding, text head, video head."""
        return self.embedding, self.head, self.upsampler.head

    def next_token(self, text_nD: Tensor) -> Tensor:
        """Scores of the next text token, (n, vocab)."""
        return self.head(self.norm(text_nD))


def parameter_groups(model: TV2TV) -> dict[str, list[nn.Parameter]]:
    """All parameters by part, each once: what gradient norms are told of."""
    groups: dict[str, list[nn.Parameter]] = {
        "text": [*model.norm.parameters()],
        "video": [],
        "samplers": [*model.downsampler.parameters(), *model.upsampler.parameters()],
        "embeddings": [*model.embedding.parameters(), *model.head.parameters()],
    }
    for name, parameter in model.layers.named_parameters():
        groups[name.split(".")[1]].append(parameter)
    return groups
