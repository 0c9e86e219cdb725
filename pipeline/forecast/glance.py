"""How much of a film moves, at a glance: a few pairs of pictures, a second apart.

Recipes drop what stands still (slides, photographs), and no header tells that a film does. A glance
costs a fraction of a second per pair, so that `tv2tv plan` can afford it for all films it probes.
"""

import numpy as np

from corpus.video import Frames
from pipeline.pages.thumbnails import HEIGHT, SECONDS, WIDTH, decode

PAIRS = 6
APART = 1.0  # seconds
BLOCK = 14  # pixels a side; both sides of a picture are multiples
STILL = 1.0  # grey levels of change, of the block that changes most (as in `measures.pixels`)


def moving(path: str, stream: int, start: float, seconds: float) -> float:
    """Share of the pairs in which something moves; 1 where no pair can be had.

    Args:
        start, seconds: of the film, in presentation time.
    """
    room = max(0.0, seconds - APART - 0.2)
    moments = [start + room * (i + 0.5) / PAIRS for i in range(PAIRS)]
    pairs = [decode(path, stream, moment, SECONDS, 2, 1 / APART) for moment in moments]
    seen = [_differ(*pair) for pair in pairs if pair]
    return float(np.mean(seen)) if seen else 1.0


def _differ(first: Frames, second: Frames) -> bool:
    change = np.abs(first.astype(float) - second).mean(axis=2)
    blocks = change.reshape(HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK).mean(axis=(1, 3))
    return bool(blocks.max() > STILL)
