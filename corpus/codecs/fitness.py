"""Whether a codec fits interleaved training: declared by its info, and put to the proof.

A chunk's latent may see its own frames and earlier ones, none that come later: else the model
would be shown what it is to predict. What a codec declares is tried out once per worker on two
chunks of noise, since a config can say anything.
"""

import numpy as np

from corpus.clock import Clock
from corpus.codecs.base import Codec, CodecInfo, Latent
from corpus.errors import UserError

UNSTEADY = 0.05  # of a latent's deviation: more than rounding on a GPU, less than any draw
WAY_OUT = "choose a causal codec such as dct, wan or cosmos (docs/codecs.md)"


def check_fits(info: CodecInfo, clock: Clock) -> None:
    """UserError unless a latent of this codec is one chunk of this clock and sees no later one."""
    if not info.causal:
        raise UserError(
            f"codec {info.id}: not causal: frames of later chunks change earlier latents, so "
            f"interleaved training would be shown what it is to predict; {WAY_OUT}"
        )
    if info.stride[0] != clock.frames_per_chunk:
        raise UserError(
            f"codec {info.id}: makes a latent of {info.stride[0]} frames, the clock's chunk has "
            f"{clock.frames_per_chunk}: {WAY_OUT}, or set clock.frames_per_chunk="
            f"{info.stride[0]} in a new corpus"
        )


def prove(codec: Codec) -> None:
    """Try out on noise what a codec declares: shape, finite, repeatable, and causal if it says so.

    Raises:
        UserError: it is otherwise.
    """
    info, time = codec.info, codec.info.stride[0]
    film = np.random.default_rng(0).integers(
        0, 256, (1 + 2 * time, *codec.probe_size, 3), dtype=np.uint8
    )
    second, third = film.copy(), film.copy()
    second[1 : 1 + time] ^= 255
    third[1 + time :] ^= 255
    try:
        latent, again = codec.encode(film), codec.encode(film)
        changed, later = codec.encode(second), codec.encode(third)
    except ValueError as error:
        raise UserError(
            f"codec {info.id}: of {len(film)} frames of noise: {error}; its weights or settings "
            "are not what they are said to be"
        ) from error
    noise = float(np.abs(latent - again).max())
    if noise > UNSTEADY:
        raise UserError(f"codec {info.id}: the same frames gave other latents (by {noise:.2g})")
    if info.causal:
        first, rest = f"frames 1 to {time}", f"frames {1 + time} to {2 * time}"
        _unseen(info, rest, later, latent, 0, noise)
        _unseen(info, rest, later, latent, 1, noise)
        _unseen(info, first, changed, latent, 0, noise)
        _seen(info, first, changed, latent, 1, noise)
        _seen(info, rest, later, latent, 2, noise)


def _unseen(
    info: CodecInfo, frames: str, one: Latent, other: Latent, at: int, noise: float
) -> None:
    if (by := _change(one, other, at)) > noise:
        raise UserError(
            f"codec {info.id}: declared causal, and yet changing {frames} changes latent {at} (by "
            f"{by:.2g}): no use for interleaved training; {WAY_OUT}"
        )


def _seen(info: CodecInfo, frames: str, one: Latent, other: Latent, at: int, noise: float) -> None:
    if _change(one, other, at) <= noise:
        raise UserError(f"codec {info.id}: latent {at} does not see {frames}, which it stands for")


def _change(one: Latent, other: Latent, at: int) -> float:
    return float(np.abs(one[:, at] - other[:, at]).max())
