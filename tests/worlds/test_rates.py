"""Intervals hold what they promise, also when tries of one film hang together."""

import numpy as np
import pytest

from worlds.rates import share


@pytest.mark.parametrize("films", [12, 24])
@pytest.mark.parametrize("rate", [0.5, 0.9])
@pytest.mark.parametrize("alike", [0.0, 0.2, 0.5])
def test_nominal_95_percent_covers_the_truth_that_often(
    films: int, rate: float, alike: float
) -> None:
    """Four tries a film, whose chances are spread around the truth (beta-binomial)."""
    generator = np.random.default_rng(1)
    strength = (1 - alike) / max(alike, 1e-6)
    covered = []
    for _ in range(1500):
        chances = generator.beta(rate * strength, (1 - rate) * strength, films)
        found = share([(generator.random(4) < chance).tolist() for chance in chances])
        covered.append(found.low <= rate <= found.high)
    assert np.mean(covered) >= 0.94


def test_independent_tries_have_the_exact_binomial_interval() -> None:
    """Values of Clopper and Pearson for 8 of 10, from tables."""
    found = share([[True]] * 8 + [[False]] * 2)
    assert (found.successes, found.n, found.rate) == (8, 10, 0.8)
    # The variance between ten films is known by nine degrees of freedom: a little wider.
    assert (found.low, found.high) == pytest.approx((0.4439, 0.9748), abs=0.03)


def test_agreement_is_no_certainty() -> None:
    """No interval is a point: not of one film, nor of films that all went alike."""
    for outcomes in ([[True, False, True, False]], [[True, False]] * 12, [[True] * 4] * 12):
        found = share(outcomes)
        assert found.high - found.low > 0.2
    assert (found.rate, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 12))  # as of twelve tries, not 48
    none = share([[False] * 4] * 12)
    assert (none.low, none.high) == (0, pytest.approx(1 - found.low))


def test_tries_that_hang_together_are_worth_less() -> None:
    apart = share([[bool(i % 2)] for i in range(80)])
    together = share([[bool(i % 2)] * 8 for i in range(10)])
    assert apart.rate == together.rate == 0.5 and apart.n == together.n == 80
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_films_without_tries_say_nothing() -> None:
    assert share([[], [True], [False], []]) == share([[True], [False]])
    with pytest.raises(ValueError, match="no tries"):
        share([[]])
