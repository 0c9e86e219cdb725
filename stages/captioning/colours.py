"""Names of colours, and how light or dark a picture is."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = (
    *("black", "grey", "white", "red", "orange", "yellow", "green", "blue"),
    *("purple", "pink", "brown"),
)
BLACK, GREY, WHITE, RED, ORANGE, YELLOW, GREEN, BLUE, PURPLE, PINK, BROWN = range(len(NAMES))

DARK_VALUE, LIGHT_VALUE = 50, 200  # of 255: black below, white above (without colour)
GREY_CHROMA = 32  # of 255: greatest minus least channel of a colourless pixel ...
GREY_SATURATION = 0.16  # ... or this share of the greatest
# Upper ends of hue ranges in degrees; the last wraps to red.
HUES = (
    (15, RED),
    (42, ORANGE),
    (68, YELLOW),
    (168, GREEN),
    (258, BLUE),
    (300, PURPLE),
    (338, PINK),
)
BROWN_VALUE = 165  # orange below this is brown
OLIVE_VALUE, OLIVE_HUE = 150, 50  # yellow below this value is green, or brown below this hue
PINK_SATURATION, PINK_VALUE = 0.5, 170  # red that is pale and light is pink


# Name of a saturated colour for each of 256 hues.
_BY_HUE = np.array(
    [next((name for end, name in HUES if h * 360 / 256 < end), RED) for h in range(256)], np.uint8
)


def name_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index into `NAMES` for every pixel of an array (..., 3) RGB."""
    if not pixels.size:
        return np.zeros(pixels.shape[:-1], np.uint8)
    hsv = cv2.cvtColor(pixels.reshape(-1, 1, 3), cv2.COLOR_RGB2HSV_FULL)[:, 0]
    hue = hsv[:, 0] * np.float32(360 / 256)
    saturation, value = hsv[:, 1] / np.float32(255), hsv[:, 2].astype(np.float32)
    names = _BY_HUE[hsv[:, 0]]
    names[(names == ORANGE) & (value < BROWN_VALUE)] = BROWN
    olive = (names == YELLOW) & (value < OLIVE_VALUE)
    names[olive] = np.where(hue[olive] < OLIVE_HUE, BROWN, GREEN)
    names[(names == RED) & (saturation < PINK_SATURATION) & (value > PINK_VALUE)] = PINK
    colourless = (saturation * value < GREY_CHROMA) | (saturation < GREY_SATURATION)
    names[colourless] = GREY
    names[colourless & (value > LIGHT_VALUE)] = WHITE
    names[value < DARK_VALUE] = BLACK
    return names.reshape(pixels.shape[:-1])


def shares(names: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of every colour name, (len(NAMES),); zeros for an empty array."""
    return np.bincount(names.ravel(), minlength=len(NAMES)) / max(1, names.size)


@dataclass(frozen=True)
class Look:
    """A picture at a glance.

    Attributes:
        light: mean luma, 0 to 1.
        colour: its most common colour name.
        share: how much of the picture has that colour, 0 to 1.
    """

    light: float
    colour: str
    share: float


def look(frames: NDArray[np.uint8]) -> Look:
    """Look of frames (T, H, W, 3) taken together."""
    found = shares(name_pixels(frames[:, ::2, ::2]))
    best = int(found.argmax())
    luma = frames.reshape(-1, 3).mean(axis=0) @ np.array([0.299, 0.587, 0.114])
    return Look(float(luma / 255), NAMES[best], float(found[best]))


def own_colour(frames: NDArray[np.uint8], inside: NDArray[np.bool_]) -> str:
    """The colour that a region has more of than its surroundings.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        inside: (T, H, W) the region.
    """
    around = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((9, 9), np.uint8)) for m in inside])
    ring = (around > 0) & ~inside
    here, there = shares(name_pixels(frames[inside])), shares(name_pixels(frames[ring]))
    # A region's edge shows its surroundings: count a colour for what it has beyond theirs.
    return NAMES[int((here - 0.5 * there).argmax())]
