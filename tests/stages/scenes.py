"""Synthetic film scenes whose cuts are known: textured worlds under a moving camera."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.reading.pictures import FLOW_SIZE

Frames = NDArray[np.uint8]
WIDTH, HEIGHT = 256, 144


def world(seed: int, size: int = 640) -> NDArray[np.uint8]:
    """A large still picture: soft noise of several scales in a colour of its own, with boxes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size, size, 3), np.float32)
    for cells, weight in ((6, 60), (24, 35), (96, 18)):
        grid = rng.normal(0, weight, (cells, cells, 3)).astype(np.float32)
        grid = 0.8 * grid.mean(2, keepdims=True) + 0.2 * grid
        picture += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    picture += rng.uniform(70, 180, 3).astype(np.float32)
    for _ in range(25):
        x, y = rng.integers(0, size, 2)
        w, h = rng.integers(10, 70, 2)
        colour = tuple(float(c) for c in rng.integers(0, 256, 3))
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    return picture.clip(0, 255).astype(np.uint8)


def camera(
    seed: int,
    frames: int,
    speed: tuple[float, float] = (1.0, 0.0),
    zoom: float = 1.0,
    shake: float = 0.0,
) -> Frames:
    """Views of a world.

    Args:
        speed: pixels per frame, right and down.
        zoom: factor per frame.
        shake: standard deviation of a random walk's steps, pixels.

    Returns:
        uint8 (T, HEIGHT, WIDTH, 3).
    """
    picture = world(seed)
    rng = np.random.default_rng(seed + 1000)
    path = np.outer(np.arange(frames), speed) + np.cumsum(rng.normal(0, shake, (frames, 2)), 0)
    views = []
    for t in range(frames):
        scale = zoom**t
        x, y = np.array([320.0, 320.0]) + path[t] - [WIDTH / 2 / scale, HEIGHT / 2 / scale]
        matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
        views.append(
            cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)
        )
    return np.stack(views)


def brightness(frames: Frames, curve: Callable[[int], float]) -> Frames:
    """Each frame times ``curve(index)``."""
    gains = np.array([curve(t) for t in range(len(frames))])[:, None, None, None]
    return (frames * gains).clip(0, 255).astype(np.uint8)


def dissolve(a: Frames, b: Frames, length: int) -> Frames:
    """The last ``length`` frames of a and the first of b shown together."""
    part = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    mixed = (1 - part) * a[-length:] + part * b[:length]
    return np.concatenate([a[:-length], mixed.round().astype(np.uint8), b[length:]])


def flash(frames: Frames, at: int, length: int = 2) -> Frames:
    """White pictures for a moment."""
    lit = frames.copy()
    lit[at : at + length] = 250
    return lit


def small(frames: Frames) -> list[Frames]:
    """Frames as `stages.cutting.boundaries` is shown them: BGR of `FLOW_SIZE`."""
    return [cv2.resize(f[..., ::-1], FLOW_SIZE, interpolation=cv2.INTER_AREA) for f in frames]
