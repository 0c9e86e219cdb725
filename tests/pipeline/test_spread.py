"""Numbers in bounded memory: exact while they are few, near while they are many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sweep.spread import MOST, Spread

SHARES = (0.0, 0.05, 0.5, 0.9, 1.0)
few = st.lists(st.sampled_from([-1e9, -2.5, 0.0, 1e-6, 0.1, 0.3, 7.0, 1e12]), min_size=1)


@given(few)
def test_of_few_different_numbers_all_is_exact(numbers: list[float]) -> None:
    spread = Spread(1)
    for number in numbers:
        spread.add(number, 2.0)
    assert spread.count == len(numbers) and spread.mean == pytest.approx(np.mean(numbers))
    assert spread.quantiles(SHARES) == pytest.approx(np.quantile(numbers, SHARES))
    for number in numbers:
        count, doubled = spread.between(number, np.inf)
        assert count == sum(one >= number for one in numbers) and doubled == 2 * count
    edges, counts = spread.bars(24)
    low, high = min(numbers), max(numbers)
    reach = (low, high if high > low else low + 1)
    counted, drawn = np.histogram(numbers, 24, reach)
    assert edges == pytest.approx(drawn.tolist()) and counts == counted.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_of_many_it_is_near_in_any_order_and_takes_no_more_room(seed: int) -> None:
    random = np.random.default_rng(seed)
    numbers = [*random.normal(0.5, 0.1, 20_000).tolist(), 1e6]  # and one that is far off
    spread, backwards = Spread(0, [0.47]), Spread(0, [0.47])
    for number in numbers:
        spread.add(number)
    for number in reversed(numbers):
        backwards.add(number)
    assert len(spread) <= MOST and spread.count == len(numbers)
    assert (spread.table == backwards.table).all()
    near = np.quantile(numbers, SHARES[:-1])
    assert spread.quantiles(SHARES[:-1]) == pytest.approx(near, abs=0.002)
    # What a threshold in force keeps is what a filter keeps, to the last clip.
    assert spread.between(0.47, np.inf)[0] == sum(number >= 0.47 for number in numbers)
    assert spread.between(-np.inf, 0.47)[0] == sum(number <= 0.47 for number in numbers)


def test_a_bar_ends_where_one_asks() -> None:
    spread = Spread()
    for number in (0.0, 0.9, 0.95, 1.0):
        spread.add(number)
    assert spread.bars(2) == ([0.0, 0.5, 1.0], [1, 3])
    assert spread.bars(2, [0.95, 7.0]) == ([0.0, 0.5, 0.95, 1.0], [1, 1, 2])


def test_nothing_has_no_bars() -> None:
    assert (Spread().count, Spread().bars(24)) == (0, ([0.0], []))
