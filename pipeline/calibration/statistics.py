"""AUROC with intervals, and what thresholds keep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

DRAWS = 1000
AT_ONCE = 100  # draws
LEVELS = 512  # of a score, that an interval tells apart
LEAST_VIDEOS = 5
TAILS = (2.5, 97.5)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Auroc:
    """The chance that a true caption scores higher than a damaged one; half where they are equal.

    Attributes:
        low, high: 95 % interval, None where there are too few videos to know.
    """

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auroc(true: Values, damaged: Values) -> float:
    """See `Auroc`; both need at least one value, and -inf is a missing score."""
    ranks = rankdata(np.concatenate([true, damaged]))
    above = ranks[: len(true)].sum() - len(true) * (len(true) + 1) / 2
    return float(above / (len(true) * len(damaged)))


def estimate(
    true: Values,
    damaged: Values,
    videos: Sequence[str],
    seed: int = 0,
    others: Sequence[str] | None = None,
) -> Auroc:
    """With an interval by the bootstrap over videos.

    Captions of one video hang together, so whole videos are drawn, with replacement.

    Args:
        true, damaged: scores of captions and of their damaged versions.
        videos: of each true caption.
        others: of each damaged one, where they are not versions of the true ones in order.
    """
    value = auroc(true, damaged)
    owned = [*videos, *(videos if others is None else others)]
    names, owner = np.unique(np.asarray(owned), return_inverse=True)
    if len(names) < LEAST_VIDEOS:
        return Auroc(value, None, None)
    levels = _levels(np.concatenate([true, damaged]))
    count = levels.max() + 1
    tables = []
    for part in (slice(None, len(true)), slice(len(true), None)):
        table = np.zeros((len(names), count))
        np.add.at(table, (owner[part], levels[part]), 1.0)
        tables.append(table)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(DRAWS // AT_ONCE):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), AT_ONCE)
        good, bad = drawn @ tables[0], drawn @ tables[1]
        above = ((bad.cumsum(1) - bad / 2) * good).sum(1)
        pairs = good.sum(1) * bad.sum(1)
        found.append(above[pairs > 0] / pairs[pairs > 0])  # a draw may lack one of the two
    low, high = np.percentile(np.concatenate(found), TAILS)
    return Auroc(value, float(low), float(high))


def _levels(values: Values) -> NDArray[np.intp]:
    """Values as small whole numbers in the same order; very many are binned."""
    distinct, levels = np.unique(values, return_inverse=True)
    if len(distinct) <= LEVELS:
        return np.asarray(levels)
    ranks = rankdata(values) / len(values)
    return np.asarray(np.minimum((ranks * LEVELS).astype(np.intp), LEVELS - 1))


@dataclass(frozen=True)
class Step:
    """What a threshold keeps.

    Attributes:
        true: share of true captions.
        damaged: share of damaged ones by kind.
    """

    threshold: float
    true: float
    damaged: dict[str, float]


def curve(true: Values, damaged: dict[str, Values], steps: int = 60) -> list[Step]:
    """Thresholds over the range of a score, lowest accepted value; -inf is never kept."""
    finite = true[np.isfinite(true)]
    if not len(finite):
        return []
    thresholds = np.unique(np.quantile(finite, np.linspace(0, 1, steps)))
    return [
        Step(
            float(threshold),
            float((true >= threshold).mean()),
            {kind: float((values >= threshold).mean()) for kind, values in damaged.items()},
        )
        for threshold in thresholds
    ]
