"""How far reviewers agree, beyond what chance would give.

Cohen's kappa (1960) for every pair of reviewers, over the captions that both judged;
Krippendorff's alpha for nominal data (2004, ch. 11) over all of them, since not everybody judges
everything. 1 is agreement, 0 is chance; None where nothing varies, so that chance explains all.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from pipeline.review.labels import Label

About = tuple[str, str]


@dataclass(frozen=True)
class Pair:
    """Two reviewers: captions that both judged, share of equal judgements, and Cohen's kappa."""

    first: str
    second: str
    both: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class Reviewer:
    """What one reviewer said: captions judged, and how many of them accepted."""

    name: str
    judged: int
    accepted: int


@dataclass(frozen=True)
class Agreement:
    """All reviewers.

    Attributes:
        shared: captions that two or more judged.
        share: of equal judgements, over all pairs of judgements on one caption; None of none.
        alpha: Krippendorff's.
        kinds: how often each kind of error was named.
    """

    reviewers: tuple[Reviewer, ...]
    pairs: tuple[Pair, ...]
    shared: int
    share: float | None
    alpha: float | None
    kinds: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def agreement(labels: Iterable[Label]) -> Agreement:
    """Of judgements as `Labels.standing` gives them."""
    by_reviewer: dict[str, dict[About, bool]] = defaultdict(dict)
    kinds = Counter[str]()
    for one in labels:
        by_reviewer[one.reviewer][one.about] = one.label == "accept"
        kinds.update(one.kinds)
    names = sorted(by_reviewer)
    units: dict[About, list[bool]] = defaultdict(list)
    for name in names:
        for about, accepted in by_reviewer[name].items():
            units[about].append(accepted)
    judged = [unit for unit in units.values() if len(unit) > 1]
    equal = [one == other for unit in judged for one, other in combinations(unit, 2)]
    return Agreement(
        tuple(Reviewer(n, len(by_reviewer[n]), sum(by_reviewer[n].values())) for n in names),
        tuple(_pair(by_reviewer, *two) for two in combinations(names, 2)),
        len(judged),
        sum(equal) / len(equal) if equal else None,
        alpha(judged),
        dict(kinds.most_common()),
    )


def _pair(said: dict[str, dict[About, bool]], first: str, second: str) -> Pair:
    shared = sorted(said[first].keys() & said[second].keys())
    judgements = [(said[first][about], said[second][about]) for about in shared]
    equal = sum(one == other for one, other in judgements)
    return Pair(first, second, len(shared), equal / max(1, len(shared)), kappa(judgements))


def kappa(judgements: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's: agreement above that of two who judge at random, each with his own shares."""
    if not judgements:
        return None
    number = len(judgements)
    observed = sum(one == other for one, other in judgements) / number
    one, other = (sum(said) / number for said in zip(*judgements, strict=True))
    chance = one * other + (1 - one) * (1 - other)
    return None if chance == 1 else (observed - chance) / (1 - chance)


def alpha(units: Sequence[Sequence[bool]]) -> float | None:
    """Krippendorff's for nominal data: 1 - observed / expected disagreement.

    Args:
        units: judgements per caption, two or more.
    """
    values = Counter(value for unit in units for value in unit)
    total = values.total()
    if min(values[True], values[False]) == 0:
        return None
    observed = sum(2 * _differing(unit) / (len(unit) - 1) for unit in units) / total
    expected = 2 * values[True] * values[False] / (total * (total - 1))
    return 1 - observed / expected


def _differing(unit: Sequence[bool]) -> int:
    """Pairs of judgements that differ."""
    return sum(unit) * (len(unit) - sum(unit))


def lines(found: Agreement) -> list[str]:
    """For people."""
    if not found.reviewers:
        return ["no caption is labelled yet: tv2tv review CORPUS"]
    told = [
        f"{one.name}: {one.judged} captions judged, {one.accepted / one.judged:.1%} accepted"
        for one in found.reviewers
    ]
    told += [
        f"{one.first} and {one.second}: {one.both} captions both, {one.share:.1%} equal, "
        f"Cohen's kappa {number(one.kappa)}"
        for one in found.pairs
        if one.both
    ]
    if found.share is None:
        told.append("no caption was judged by two: the same --sample and --seed give the same ones")
    else:
        told.append(
            f"all: {found.shared} captions judged by two or more, {found.share:.1%} equal, "
            f"Krippendorff's alpha {number(found.alpha)}"
        )
    if found.kinds:
        named = ", ".join(f"{kind} {count}" for kind, count in found.kinds.items())
        told.append(f"errors named: {named}")
    return told


def number(value: float | None) -> str:
    return "undefined (nothing varies)" if value is None else f"{value:.3f}"
