"""Estimates: from a few films that were tried to all that are listed, with intervals.

For every quantity y (clips, bytes, seconds of a stage ...) a film is taken to give
``y = b . x + noise``. In x are one or two numbers that are cheap to know: for what every film goes
through, one per film and its seconds; for what comes after filters that drop what stands still, its
moving seconds, or the clips that these would give without cuts. No b is negative, and the noise of
a film has a variance that grows with its seconds. With one number this is the ratio estimator (sum
of y over sum of x). Intervals come from a bootstrap over the tried films, widened by Student's t
for few of them, plus the noise of the films to come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import t as student

REPLICATES = 400
LEVEL = 0.95
LEAST = 4  # tried films for an interval
COLUMNS = ("films", "seconds", "mixed", "moving", "windows")
Uses = tuple[str, ...]
ALL: Uses = ("films", "seconds")  # what is done to every film
MOVING: Uses = ("moving",)  # what is done to what moves
CLIPS: Uses = ("windows",)
MIXED: Uses = ("mixed",)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Facts:
    """What is known of a film before it is worked on.

    Attributes:
        size: bytes; -1 where nobody says.
        seconds: its length; 0 for a file that is no film worth working on.
        windows: clips it would give were it one shot.
        moving: share of it that moves, where that counts.
    """

    size: int
    seconds: float
    windows: int
    moving: float = 1.0

    @property
    def x(self) -> Array:
        """A row of `COLUMNS`; all zero for what ends at the probe."""
        if not self.seconds:
            return np.zeros(len(COLUMNS))
        mixed = math.sqrt(max(self.size, 0) * self.seconds)
        moving = (self.seconds * self.moving, self.windows * self.moving)
        return np.array([1.0, self.seconds, mixed, *moving])


NO_FILM = Facts(0, 0.0, 0)


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that should hold the true one 95 times in 100.

    Attributes:
        low, high: None where too few films were tried to say.
    """

    value: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Draws:
    """One quantity, estimated once, and again for every replicate: what sums are made of."""

    value: float
    replicates: Array
    enough: bool = True

    def __add__(self, other: "Draws") -> "Draws":
        both = self.enough and other.enough
        return Draws(self.value + other.value, self.replicates + other.replicates, both)

    def times(self, factor: float) -> "Draws":
        return Draws(self.value * factor, self.replicates * factor, self.enough)

    @property
    def estimate(self) -> Estimate:
        if not self.enough:
            return Estimate(self.value, None, None)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self.replicates, (tail, 1 - tail))
        return Estimate(self.value, max(0.0, min(float(low), self.value)), float(high))


def exactly(value: float) -> Draws:
    """What was measured and need not be estimated."""
    return Draws(value, np.full(REPLICATES, value))


class Model:
    """Tried films, and what they say of others.

    Args:
        facts, made: of each tried film: what was known before, and sums by name.
        probed: facts of a random sample of all files, for those that nobody looked into.
    """

    def __init__(
        self,
        facts: Sequence[Facts],
        made: Sequence[Mapping[str, float]],
        probed: Sequence[Facts],
        seed: int = 0,
    ) -> None:
        films = [i for i, one in enumerate(facts) if one.seconds]
        self._x = np.array([facts[i].x for i in films]).reshape(-1, len(COLUMNS))
        self._made = [made[i] for i in films]
        self._probed = probed
        self._seed = seed
        random = np.random.default_rng(seed)
        self._resamples = random.integers(max(1, len(films)), size=(REPLICATES, max(1, len(films))))
        self._reprobed = random.integers(max(1, len(probed)), size=(REPLICATES, len(probed)))

    def total(
        self, name: str, known: Iterable[Facts], unknown: Iterable[int] = (), uses: Uses = ALL
    ) -> Draws:
        """The sum of a quantity over films.

        Args:
            known: films that were probed.
            unknown: sizes of files that were not.
            uses: `COLUMNS` that it is told from.
        """
        targets = np.array([one.x for one in known]).reshape(-1, len(COLUMNS))
        known_x, sizes = targets.sum(axis=0), list(unknown)
        columns = [COLUMNS.index(column) for column in uses]
        if not len(self._x):
            return Draws(0.0, np.zeros(REPLICATES), enough=not known_x.any() and not sizes)
        x, seconds = self._x[:, columns], self._x[:, COLUMNS.index("seconds")]
        y = np.array([float(one.get(name, 0.0)) for one in self._made])
        coefficients = _fit(x, y, seconds)
        count, free = len(y), max(1, len(y) - len(columns))
        noise = float(np.sum((y - x @ coefficients) ** 2 / seconds)) / free
        every = known_x + self._unknown_x(self._probed, sizes)
        value = float(every[columns] @ coefficients)
        random = np.random.default_rng([self._seed, *name.encode()])
        widen = float(student.ppf((1 + LEVEL) / 2, free) / 1.96) * math.sqrt(count / free)
        replicates = np.empty(REPLICATES)
        for i, chosen in enumerate(self._resamples):
            again = [self._probed[j] for j in self._reprobed[i]] if sizes else self._probed
            every = known_x + self._unknown_x(again, sizes)
            mean = float(every[columns] @ _fit(x[chosen], y[chosen], seconds[chosen]))
            spread = math.sqrt(noise * every[COLUMNS.index("seconds")]) * random.standard_normal()
            replicates[i] = max(0.0, value + widen * (mean - value) + spread)
        return Draws(value, replicates, enough=count >= LEAST)

    def _unknown_x(self, probed: Sequence[Facts], sizes: Sequence[int]) -> Array:
        """Sums of `COLUMNS` over files of these sizes: by bytes, or by count where one has none."""
        if not sizes or not probed:
            return np.zeros(len(COLUMNS))
        x = np.array([one.x for one in probed]).sum(axis=0)
        looked = [one.size for one in probed]
        if min(*sizes, *looked) < 0 or not sum(looked):
            return x * (len(sizes) / len(probed))
        share = np.full(len(COLUMNS), sum(sizes) / sum(looked))
        share[COLUMNS.index("films")] = len(sizes) / len(probed)
        return np.asarray(x * share, np.float64)


def _fit(x: Array, y: Array, seconds: Array) -> Array:
    """Least squares without negative coefficients, each film weighted by 1 / seconds."""
    weight = 1 / np.sqrt(seconds)
    found, _ = nnls(x * weight[:, None], y * weight)
    return np.asarray(found, np.float64)


def draw(facts: Sequence[Facts], count: int, seed: int) -> list[int]:
    """Positions of ``count`` films, or all there are, in random order.

    Systematic over the films in order of length, each with a chance that grows with the square root
    of its seconds: what varies more is tried more often, and every length is met.
    """
    films = sorted(
        (i for i, one in enumerate(facts) if one.seconds), key=lambda i: facts[i].seconds
    )
    random = np.random.default_rng(seed)
    order = [int(j) for j in random.permutation(len(films))]
    if len(films) <= count:
        return [films[j] for j in order]
    ends = np.cumsum([math.sqrt(facts[i].seconds) for i in films])
    marks = (np.arange(count) + random.random()) * ends[-1] / count
    drawn = set(np.searchsorted(ends, marks).tolist())
    spare = [j for j in order if j not in drawn][: count - len(drawn)]  # for those drawn twice
    chosen = drawn | set(spare)
    return [films[j] for j in order if j in chosen]
