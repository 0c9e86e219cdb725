"""Shares with honest intervals: what every arena number is told with.

Tries within one film hang together (a sprite that is lost stays lost), so a share of 96 tries may
know no more than one of 24. The interval is that of Korn and Graubard (1998, "Confidence intervals
for proportions with small expected number of positive counts estimated from survey data"): the
exact binomial interval of Clopper and Pearson at the *effective* number of tries, which is the
number of independent tries that would have the variance seen between films.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

TAIL = 0.025  # outside of the interval, at either end


@dataclass(frozen=True)
class Rate:
    """A share with its interval.

    Attributes:
        low, high: 95 % interval.
    """

    successes: int
    n: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(outcomes: Sequence[Sequence[bool]]) -> Rate:
    """A share of all tries.

    Args:
        outcomes: per film the outcomes of its tries; at least one try in all.
    """
    films = [tries for tries in outcomes if len(tries)]
    if not films:
        raise ValueError("a share of no tries")
    won = np.array([sum(tries) for tries in films])
    tried = np.array([len(tries) for tries in films])
    n, rate = int(tried.sum()), float(won.sum() / tried.sum())
    low, high = _exact(rate, _effective(won, tried))
    return Rate(int(won.sum()), n, rate, low, high)


def _effective(won: np.ndarray, tried: np.ndarray) -> float:
    """How many independent tries these are worth; where all agree, one per film."""
    films, n, rate = len(won), tried.sum(), won.sum() / tried.sum()
    if rate in (0, 1) or films == 1:
        return float(films)
    variance = films / (films - 1) * ((won - rate * tried) ** 2).sum() / n**2
    if variance == 0:
        return float(n)
    # Few films know their own variance badly, as Student's t has it.
    doubt = stdtrit(n - 1, TAIL) / stdtrit(films - 1, TAIL)
    return float(min(n, rate * (1 - rate) / variance * doubt**2))


def _exact(rate: float, n: float) -> tuple[float, float]:
    """Clopper and Pearson's interval; n need not be whole."""
    won = rate * n
    low = 0.0 if rate == 0 else float(betaincinv(won, n - won + 1, TAIL))
    high = 1.0 if rate == 1 else float(betaincinv(won + 1, n - won, 1 - TAIL))
    return low, high
