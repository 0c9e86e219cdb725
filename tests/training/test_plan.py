"""The pack plan: every sample once, rows within their budgets, the same for everyone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from training.plan import LengthIndex, Plan, plan_epoch, rank_rows, shuffled

SLOTS = {"text": 40, "clean": 12, "noisy": 10}
SHAPES = ((96, 3, 3), (96, 2, 4))


def index(clips: list[tuple[list[int], int, int]]) -> LengthIndex:
    """Of clips given as (length of each segment, shard, shape)."""
    windows = [np.cumsum(lengths).tolist() for lengths, _, _ in clips]
    costs = [(3 + 3 * m, 1 + m, m) for ends in windows for m in ends]
    return LengthIndex(
        keys=tuple(f"clip{i}" for i in range(len(clips))),
        shards=np.array([shard for _, shard, _ in clips], dtype=np.int64),
        shapes=tuple(SHAPES[shape] for _, _, shape in clips),
        clips=np.array([ends[-1] for ends in windows], dtype=np.int64),
        offsets=np.cumsum([0, *map(len, windows)]),
        chunks=np.array([m for ends in windows for m in ends], dtype=np.int64),
        costs=np.array(costs, dtype=np.int64),
    )


clips = st.lists(
    st.tuples(
        st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 4), st.integers(0, 1)
    ),
    min_size=1,
    max_size=60,
)


def make(lengths: LengthIndex, seed: int = 0, epoch: int = 0, window: int = 2) -> Plan:
    return plan_epoch(
        lengths, SLOTS, rows_per_step=3, shuffle_shards=window, seed=seed, epoch=epoch
    )


@settings(max_examples=80, deadline=None)
@given(clips, st.integers(0, 3))
def test_every_sample_is_seen_once_and_no_row_overflows(
    given_clips: list[tuple[list[int], int, int]], epoch: int
) -> None:
    lengths = index(given_clips)
    plan = make(lengths, epoch=epoch)
    windows = []
    for step in range(len(plan)):
        rows = plan.step(step)
        assert 1 <= len(rows) <= 3
        assert len({lengths.shapes[w.sample] for row in rows for w in row}) == 1
        for row in rows:
            assert row
            used = np.sum([(3 + 3 * w.chunks, 1 + w.chunks, w.chunks) for w in row], axis=0)
            assert (used <= list(SLOTS.values())).all()
            windows += row
    assert Counter(w.sample for w in windows) == Counter(range(len(given_clips)))
    for window in windows:
        ends = np.cumsum(given_clips[window.sample][0]).tolist()
        assert window.chunks == max(end for end in ends if end <= 10)
        assert window.whole == (window.chunks == ends[-1])
    assert all(0 < share <= 1 for share in plan.fill.values())


@settings(max_examples=40, deadline=None)
@given(clips, st.integers(1, 5))
def test_ranks_share_a_step_without_loss(
    given_clips: list[tuple[list[int], int, int]], world: int
) -> None:
    plan = make(index(given_clips))
    for step in range(len(plan)):
        rows = plan.step(step)
        parts = [rank_rows(rows, rank, world) for rank in range(world)]
        assert len({len(part) for part in parts}) == 1
        dealt = [part[i] for i in range(len(parts[0])) for part in parts]
        assert tuple(row for row in dealt if row) == rows
        assert dealt[len(rows) :] == [()] * (len(dealt) - len(rows))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = index([([1, 2], i // 6, 0) for i in range(30)])
    orders = {
        (seed, epoch): tuple(make(lengths, seed, epoch).samples)
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    assert tuple(make(lengths, 1, 1).samples) == orders[1, 1]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_shuffling_stays_within_windows_of_shards(window: int) -> None:
    shards = np.repeat(np.arange(6), 10)
    orders = [shards[shuffled(shards, window, 0, epoch)] for epoch in range(3)]
    for order in orders:
        groups = [set(part.tolist()) for part in order.reshape(-1, 10 * window)]
        assert all(len(group) == window for group in groups)
        assert set.union(*groups) == set(range(6))
        mixed = any((part != np.sort(part)).any() for part in order.reshape(-1, 10 * window))
        assert mixed == (window > 1)
    assert len({tuple(order) for order in orders}) == 3


def test_a_plan_takes_samples_in_the_shuffled_order() -> None:
    lengths = index([([9], i // 10, 0) for i in range(60)])
    plan = make(lengths, window=1)
    order = shuffled(lengths.shards, 1, 0, 0).tolist()
    # One sample fills a row. Best fit keeps 32 rows open; of equally full ones the first leaves.
    assert [plan.samples[0], *plan.samples[1:29]] == [order[0], *order[32:]]
    assert plan.samples[29:].tolist() == order[1:32]


def test_a_sample_that_fits_no_row_is_named() -> None:
    lengths = index([([3], 0, 0), ([11], 0, 0)])
    with pytest.raises(
        UserError, match=r"1 of 2 samples.*clip1 with 11 chunks.* \(rows\.noisy=11\)"
    ):
        make(lengths)
    lengths = index([([13], 0, 0), ([11], 0, 0)])
    with pytest.raises(UserError, match=r"2 of 2.*\(rows\.text=42 rows\.clean=14 rows\.noisy=13\)"):
        make(lengths)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(UserError, match="no sample"):
        make(index([]))


def test_the_fingerprint_knows_every_length() -> None:
    one = index([([1, 2], 0, 0), ([2], 0, 0)])
    assert one.fingerprint == index([([1, 2], 0, 0), ([2], 0, 0)]).fingerprint
    assert one.fingerprint != index([([1, 2], 0, 0), ([3], 0, 0)]).fingerprint
    assert one.fingerprint != index([([1, 2], 0, 0), ([2], 1, 0)]).fingerprint
