"""From noise to data along the velocity field."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]


def time_grid(steps: int) -> list[float]:
    """Uniform levels from noise (0) to data (1), ``steps + 1`` of them."""
    return [i / steps for i in range(steps + 1)]


def euler(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Integrate dx/dt = v(x, t) from t = 0 to t = 1, one evaluation per step."""
    x = noise
    for t, following in pairwise(time_grid(steps)):
        x = x + (following - t) * velocity(x, t)
    return x


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: v_uncond + s (v_cond - v_uncond)."""
    return unconditional + scale * (conditional - unconditional)
