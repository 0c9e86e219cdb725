"""The pack plan: which windows of which samples fill which row of which step.

`plan_epoch` is a pure function of (length index, slots, rows per step, seed, epoch). Every rank
and every resumed run computes the same plan, so the state of a loader is just (epoch, step).

A *window* is a prefix ``[0, m)`` of a clip's chunks that ends on a segment boundary; a later window
would have no one-frame start latent. Each sample gives one window per epoch: the longest that fits
an empty row. A row is a bin with one capacity per part of the physical sequence (see
`training.rows`), a step is up to ``rows_per_step`` rows of one latent shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from corpus.ids import content_id, sha256_bytes

Ints = NDArray[np.int64]
OPEN_ROWS = 32  # rows of one shape that are being filled at once: enough for a fill near 1


@dataclass(frozen=True)
class Window:
    """The prefix ``[0, chunks)`` of a sample; `whole` when nothing of the clip is left out."""

    sample: int
    chunks: int
    whole: bool


@dataclass(frozen=True)
class LengthIndex:
    """What packing needs to know of N samples with W legal windows in all.

    Attributes:
        keys: sample keys, (N,).
        shards: shard of each sample, (N,); shuffling keeps samples of near shards together.
        shapes: latent shape without time, one (channels, height, width) per sample.
        clips: chunks of each sample's whole clip, (N,).
        offsets: windows of sample i are ``offsets[i]:offsets[i + 1]``, (N + 1,).
        chunks: length of each window, ascending within a sample, (W,).
        costs: slots that each window takes of each part of a row, (W, parts).
    """

    keys: tuple[str, ...]
    shards: Ints
    shapes: tuple[tuple[int, int, int], ...]
    clips: Ints
    offsets: Ints
    chunks: Ints
    costs: Ints

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def fingerprint(self) -> str:
        """Name by content; a run that resumes must find the same one."""
        arrays = (self.shards, self.clips, self.offsets, self.chunks, self.costs)
        return content_id(
            "lengths",
            sha256_bytes("\n".join(self.keys).encode()),
            sha256_bytes(np.array(self.shapes, dtype="<i8").tobytes()),
            *(sha256_bytes(each.astype("<i8").tobytes()) for each in arrays),
        )


@dataclass(frozen=True)
class LeftOut:
    """What no row shows, since clips are longer than an empty row has room for.

    Attributes:
        clips, chunks: how many there are.
        cut_clips: clips of which only a beginning is shown.
        cut_chunks: chunks that are not shown.
    """

    clips: int
    cut_clips: int
    chunks: int
    cut_chunks: int

    def __str__(self) -> str:
        return (
            f"{self.cut_clips:,} of {self.clips:,} clips are longer than a row: only their "
            f"beginnings are shown, and {self.cut_chunks:,} of {self.chunks:,} chunks never; raise "
            "rows.clean, rows.noisy and rows.text, or cut shorter clips (clips.max_seconds in the "
            "recipe)"
        )


@dataclass(frozen=True)
class Plan:
    """One epoch. Rows lie in step order; all rows of a step have one latent shape.

    Attributes:
        samples, chunks: the windows in row order, (N,).
        whole: whether each window is its whole clip, (N,).
        rows: windows of row r are ``rows[r]:rows[r + 1]``.
        steps: rows of step s are ``steps[s]:steps[s + 1]``.
        fill: share of the slots in use, per part.
    """

    epoch: int
    samples: Ints
    chunks: Ints
    whole: NDArray[np.bool_]
    rows: Ints
    steps: Ints
    fill: dict[str, float]

    def __len__(self) -> int:
        """Steps in this epoch."""
        return len(self.steps) - 1

    def step(self, index: int) -> tuple[tuple[Window, ...], ...]:
        """The rows of one step, in order."""
        return tuple(self._row(r) for r in range(self.steps[index], self.steps[index + 1]))

    def _row(self, row: int) -> tuple[Window, ...]:
        return tuple(
            Window(int(self.samples[i]), int(self.chunks[i]), bool(self.whole[i]))
            for i in range(self.rows[row], self.rows[row + 1])
        )


def rank_rows(
    rows: Sequence[tuple[Window, ...]], rank: int, world: int
) -> tuple[tuple[Window, ...], ...]:
    """The rows of one step that a rank computes: row r goes to rank r mod world.

    Every rank gets ceil(rows / world); a rank short of one gets an empty row, whose loss is zero.
    """
    mine = tuple(rows[rank::world])
    return mine + ((),) * (-(-len(rows) // world) - len(mine))


def plan_epoch(
    index: LengthIndex,
    slots: Mapping[str, int],
    *,
    rows_per_step: int,
    shuffle_shards: int,
    seed: int,
    epoch: int,
) -> Plan:
    """Pack every sample of the index into rows once.

    Args:
        slots: capacity of a row, by name of its parts, in the order of ``index.costs``.
        shuffle_shards: samples are shuffled within windows of this many (shuffled) shards.

    Raises:
        UserError: no sample, or one whose shortest window does not fit an empty row.
    """
    best = longest_windows(index, slots)
    packer = _Packer(index, best, slots, rows_per_step)
    for sample in shuffled(index.shards, shuffle_shards, seed, epoch):
        packer.add(int(sample))
    packed = list(packer.finish())

    steps = np.cumsum([0, *(len(step) for step in packed)])
    rows = [row for step in packed for row in step]
    samples = np.array([sample for row in rows for sample in row], dtype=np.int64)
    windows = best[samples]
    capacity = len(rows) * np.array(list(slots.values()), dtype=np.int64)
    used = index.costs[windows].sum(axis=0)
    return Plan(
        epoch=epoch,
        samples=samples,
        chunks=index.chunks[windows],
        whole=index.chunks[windows] == index.clips[samples],
        rows=np.cumsum([0, *(len(row) for row in rows)]),
        steps=steps,
        fill=dict(zip(slots, (used / np.maximum(capacity, 1)).tolist(), strict=True)),
    )


def left_out(index: LengthIndex, slots: Mapping[str, int]) -> LeftOut:
    """What no row of these slots shows; the same in every epoch. UserError as `plan_epoch`."""
    cut = index.clips - index.chunks[longest_windows(index, slots)]
    return LeftOut(len(index), int((cut > 0).sum()), int(index.clips.sum()), int(cut.sum()))


def longest_windows(index: LengthIndex, slots: Mapping[str, int]) -> Ints:
    """Per sample the longest window that fits an empty row, as an index into windows, (N,)."""
    if not len(index):
        raise UserError("there is no sample to train on: the shards hold none of this split")
    fits: NDArray[np.bool_] = np.all(index.costs <= np.array(list(slots.values())), axis=1)
    best = np.maximum.reduceat(np.where(fits, np.arange(len(fits)), -1), index.offsets[:-1])
    outside = np.flatnonzero(best < index.offsets[:-1])
    if len(outside):
        raise UserError(_too_long(index, slots, outside))
    return best


def _too_long(index: LengthIndex, slots: Mapping[str, int], outside: Ints) -> str:
    """Which samples fit no row, and what would let all of them in."""
    first = index.offsets[outside]
    most = index.costs[first].max(axis=0).tolist()
    needs = [
        f"rows.{part}={need}"
        for (part, room), need in zip(slots.items(), most, strict=True)
        if need > room
    ]
    return (
        f"{len(outside)} of {len(index)} samples fit no row, not even their first segment with its "
        f"words, such as {index.keys[outside[0]]} with {int(index.chunks[first[0]])} chunks: raise "
        f"the row budgets ({' '.join(needs)}), or have less at a time: fewer words by finer "
        "captions (captions.every), fewer chunks by shorter segments (segments.seconds in the "
        "recipe)"
    )


def shuffled(shards: Ints, window: int, seed: int, epoch: int) -> Ints:
    """Samples in an epoch's order: shards shuffled, then samples within windows of shards, (N,)."""
    names = np.unique(shards)
    order = names[_order(len(names), seed, epoch, "shards")]
    rank = np.empty(int(names.max()) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    noise = _order(len(shards), seed, epoch, "samples")
    return np.lexsort((noise, rank[shards] // window))


def _order(count: int, seed: int, epoch: int, use: str) -> Ints:
    """A keyed permutation from raw bits, whose stream NumPy promises to keep."""
    key = int(content_id("order", seed, epoch, use), 16)
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


class _Packer:
    """Best fit over a bounded number of open rows per latent shape, in the order of arrival."""

    def __init__(
        self, index: LengthIndex, best: Ints, slots: Mapping[str, int], rows_per_step: int
    ) -> None:
        self._index, self._best = index, best
        self._slots = np.array(list(slots.values()), dtype=np.int64)
        self._rows_per_step = rows_per_step
        self._bins: dict[tuple[int, int, int], _Bins] = {}
        self._steps: list[list[list[int]]] = []

    def add(self, sample: int) -> None:
        shape = self._index.shapes[sample]
        if shape not in self._bins:
            self._bins[shape] = _Bins(self._slots)
        bins = self._bins[shape]
        bins.add(sample, self._index.costs[self._best[sample]])
        if len(bins.closed) >= self._rows_per_step:
            self._steps.append(bins.closed[: self._rows_per_step])
            del bins.closed[: self._rows_per_step]

    def finish(self) -> Iterator[list[list[int]]]:
        """All steps; the last ones of each shape may hold fewer rows."""
        yield from self._steps
        for _, bins in sorted(self._bins.items()):
            rows = bins.closed + [bins.rows[i] for i in range(bins.count)]
            for start in range(0, len(rows), self._rows_per_step):
                yield rows[start : start + self._rows_per_step]


class _Bins:
    """Open rows of one latent shape, and those that are full."""

    def __init__(self, slots: Ints) -> None:
        self._slots = slots
        self._scale = 1.0 / np.maximum(slots, 1)
        self._free = np.full((OPEN_ROWS, len(slots)), -1, dtype=np.int64)  # -1: not opened
        self._left = np.full(OPEN_ROWS, np.inf)  # free share of the tightest part that has slots
        self.rows: list[list[int]] = [[] for _ in range(OPEN_ROWS)]
        self.count = 0
        self.closed: list[list[int]] = []

    def add(self, sample: int, cost: Ints) -> None:
        """Into the fullest open row with room; else a new row, closing the fullest if need be."""
        left = np.where((self._free >= cost).all(axis=1), self._left, np.inf)
        place = int(left.argmin())
        if left[place] == np.inf:
            place = self._open()
        self.rows[place].append(sample)
        self._free[place] -= cost
        share = self._free[place] * self._scale
        self._left[place] = share[self._slots > 0].min()

    def _open(self) -> int:
        """A place for a new row."""
        place = self.count
        if place < OPEN_ROWS:
            self.count += 1
        else:
            place = int(self._left.argmin())
            self.closed.append(self.rows[place])
            self.rows[place] = []
        self._free[place] = self._slots
        return place
