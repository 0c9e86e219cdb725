"""The flow convention, stated once.

Rectified flow between noise (t = 0) and data (t = 1)::

    x_t = t * clean + (1 - t) * noise          v = dx_t / dt = clean - noise

A network's output is read as the velocity v (the paper) or as the clean latent x; a solver always
moves along v. Every function works on NumPy arrays and on torch tensors; ``t`` is a number or
broadcasts against the latents.
"""

from typing import Any, Literal

Predict = Literal["v", "x"]
CLEAN_TIME = 1.0


def interpolate(clean: Any, noise: Any, t: Any) -> Any:
    """x_t, the point at t on the straight path from noise to data."""
    return t * clean + (1 - t) * noise


def velocity(clean: Any, noise: Any) -> Any:
    """v of the true path, the same at every t."""
    return clean - noise


def target(clean: Any, noise: Any, predict: Predict) -> Any:
    """What the network's output is compared with."""
    return clean if predict == "x" else velocity(clean, noise)


def to_velocity(output: Any, x_t: Any, t: Any, predict: Predict) -> Any:
    """A network's output at (x_t, t) as a velocity; t is below 1, as in every step of a solver."""
    return output if predict == "v" else (output - x_t) / (1 - t)
