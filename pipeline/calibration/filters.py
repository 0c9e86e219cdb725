"""What thresholds reject: alone, first, and together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration.gather import Judges
from pipeline.calibration.injection import Pair, Sentence
from pipeline.calibration.statistics import Auroc
from stages.verdicts import Bound, bounds

Values = NDArray[np.float64]
ALL = "all"
TRUE = "true"
MISSING = float("-inf")
# Of these more is not better, or it depends on what captions are for: none is proposed.
UNPROPOSED = {"words", "claims_per_second", "new", "change", "rare"}
WORTH = 0.6  # of an AUROC without interval, from which a threshold is proposed


@dataclass(frozen=True)
class Filter:
    """One threshold and what it rejects.

    Attributes:
        proposed: it is not in force: it keeps the asked share of true captions.
        true, damaged: shares that it rejects alone, of true captions, and of damaged ones by kind.
        first_true, first: shares of which it is the first to reject, in the order of the filters.
        also: of the damaged captions that it rejects, the share that each filter rejects, too;
            None where it rejects none.
    """

    score: str
    value: float
    least: bool
    proposed: bool
    true: float
    damaged: dict[str, float]
    first_true: float
    first: dict[str, float]
    also: tuple[float | None, ...]

    @property
    def rule(self) -> str:
        return f"{self.score} {'≥' if self.least else '≤'} {self.value:.4g}"


@dataclass(frozen=True)
class Filters:
    """All of them in order: those in force as the stage verdicts takes them, then proposed ones.

    Attributes:
        passes: shares that none rejects, of true captions (`TRUE`) and of damaged ones by kind.
    """

    filters: tuple[Filter, ...]
    passes: dict[str, float]


def both(pairs: Sequence[Pair], score: str) -> tuple[Values, Values]:
    """A score of true and of damaged captions; missing ones are the worst."""
    return (
        np.array([pair.true.scores.get(score, MISSING) for pair in pairs]),
        np.array([pair.damaged.scores.get(score, MISSING) for pair in pairs]),
    )


def find(
    by_kind: Mapping[str, Sequence[Pair]], aurocs: Mapping[str, Auroc], judges: Judges, keep: float
) -> Filters:
    """The filters in force, and one for every other score that tells damage.

    Args:
        by_kind: pairs, all of them under `ALL`.
        aurocs: of each score over all kinds.
        keep: share of true captions that a proposed threshold keeps.
    """
    pairs = by_kind[ALL]
    there = {name for pair in pairs for name in pair.true.scores}
    in_force = bounds(judges.verdicts.config, there)
    judged = {bound.score for bound in in_force}
    order = [(bound, False) for bound in in_force]
    useful = sorted(there - judged - UNPROPOSED, key=lambda name: (-aurocs[name].value, name))
    for name in useful:
        if _tells(aurocs[name]):
            values = both(pairs, name)[0]
            threshold = float(np.quantile(values, 1 - keep, method="lower"))
            if np.isfinite(threshold):
                order.append((Bound(name, threshold, True), True))
    rejects = {
        kind: np.array([[_rejects(bound, pair.damaged) for bound, _ in order] for pair in each])
        for kind, each in by_kind.items()
    }
    rejects[TRUE] = np.array([[_rejects(bound, pair.true) for bound, _ in order] for pair in pairs])
    rejects = {name: table.reshape(len(table), len(order)) for name, table in rejects.items()}
    alone = {name: table.mean(0) for name, table in rejects.items()}
    first = {name: _first(table).mean(0) for name, table in rejects.items()}
    kinds = list(by_kind)
    found = tuple(
        Filter(
            bound.score,
            bound.value,
            bound.least,
            proposed,
            float(alone[TRUE][n]),
            {kind: float(alone[kind][n]) for kind in kinds},
            float(first[TRUE][n]),
            {kind: float(first[kind][n]) for kind in kinds},
            _also(rejects[ALL], n),
        )
        for n, (bound, proposed) in enumerate(order)
    )
    passes = {name: float(1 - table.any(1).mean()) for name, table in rejects.items()}
    return Filters(found, passes)


def _tells(auroc: Auroc) -> bool:
    return auroc.value >= WORTH if auroc.low is None else auroc.low > 0.5


def _rejects(bound: Bound, caption: Sentence) -> bool:
    """What has no score is not kept."""
    return bound.score not in caption.scores or not bound.keeps(caption.scores[bound.score])


def _first(rejects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a filter rejects what none before it did."""
    earlier: NDArray[np.int64] = np.cumsum(rejects, axis=1) - rejects
    return rejects & (earlier == 0)


def _also(rejects: NDArray[np.bool_], number: int) -> tuple[float | None, ...]:
    own = rejects[rejects[:, number]]
    if not len(own):
        return (None,) * rejects.shape[1]
    return tuple(float(share) for share in own.mean(0))
