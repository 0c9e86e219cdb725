"""All workers find room, wherever the scheduler puts the others."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.room import all_fit
from stages.stage import Resources

Sizes = list[tuple[float, float]]


def needs(*cpus: float) -> list[Resources]:
    return [Resources(cpus=each) for each in cpus]


def test_equal_needs_fit_to_the_last_cpu() -> None:
    assert all_fit(needs(1, 1, 1, 1, 1, 1), [(3, 0), (3, 0)])
    assert not all_fit(needs(1, 1, 1, 1, 1, 1, 1), [(3, 0), (3, 0)])
    assert all_fit(needs(0.5, 0.5, 0.5, 0.5), [(2, 0)])


def test_a_sum_that_fits_is_not_enough_on_several_machines() -> None:
    assert not all_fit(needs(2, 2, 2), [(3, 0), (3, 0)])
    assert all_fit(needs(2, 2, 2), [(6, 0)])
    assert not all_fit(needs(1, 1, 2), [(2, 0), (2, 0)]), "one on each leaves no room for two"


def test_cpu_stages_stay_off_gpu_machines_while_there_is_room() -> None:
    model = Resources(cpus=1, gpus=1)
    assert all_fit([*needs(1, 1, 1, 1), model], [(4, 0), (2, 1)])
    assert all_fit([*needs(1, 1, 1, 1, 1), model], [(4, 0), (2, 1)])
    assert not all_fit([*needs(1, 1, 1, 1, 1, 1), model], [(4, 0), (2, 1)])
    assert not all_fit([model, model], [(4, 0), (8, 1)])
    half = Resources(cpus=1, gpus=0.5)
    assert all_fit([half, half], [(4, 0), (8, 1)])


def fits_when_put(order: list[float], places: tuple[int, ...], sizes: Sizes) -> bool:
    """Whether the last of them finds room after the others were put as told, where they fit."""
    left = [cpus for cpus, _ in sizes]
    for need, place in zip(order[:-1], places, strict=True):
        if left[place] >= need:
            left[place] -= need
    return max(left) >= order[-1]


@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=4),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_a_yes_holds_for_every_way_to_put_the_others(wanted: list[int], cpus: list[int]) -> None:
    sizes: Sizes = [(float(each), 0.0) for each in cpus]
    if not all_fit(needs(*wanted), sizes):
        return
    for last in range(len(wanted)):
        order = [float(each) for each in [*wanted[:last], *wanted[last + 1 :], wanted[last]]]
        for places in product(range(len(sizes)), repeat=len(order) - 1):
            assert fits_when_put(order, places, sizes)
