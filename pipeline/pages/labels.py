"""What people said of captions, beside what the verdicts say; see `pipeline.review`."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from corpus.captions import KEEP
from pipeline.inputs.sources import Listing
from pipeline.ledger.walk import slices
from pipeline.plan import Plan
from pipeline.review.agreement import Agreement, agreement, number
from pipeline.review.current import Judged, current
from pipeline.review.labels import KINDS, Labels

Z = 1.96  # of 95 %


@dataclass(frozen=True)
class Share:
    """Labels on captions that the verdicts keep, or reject.

    Attributes:
        low, high: of the share accepted by people, with 95 % confidence (Wilson 1927).
    """

    name: str
    judged: int
    accepted: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.accepted / self.judged


@dataclass(frozen=True)
class Part:
    """The report's part on labels.

    Attributes:
        kinds: words for a kind of error, and how often it was named.
        gone: labels of captions that were made anew, or ended.
        alpha: Krippendorff's, as words.
    """

    agreement: Agreement
    verdicts: tuple[Share, ...]
    kinds: tuple[tuple[str, int], ...]
    gone: int
    alpha: str


def labels_part(plan: Plan, listing: Listing) -> Part | None:
    """None where nobody has judged a caption; else the corpus is walked once more."""
    given = Labels(plan.layout).standing()
    if not given:
        return None
    judged = current(given, slices(plan, listing))
    agreed = agreement(one.label for one in judged)
    kinds = tuple((KINDS.get(name, name), count) for name, count in agreed.kinds.items())
    gone = len(given) - len(judged)
    return Part(agreed, tuple(_shares(judged)), kinds, gone, number(agreed.alpha))


def _shares(judged: Sequence[Judged]) -> list[Share]:
    kept = [one for one in judged if one.verdict == KEEP]
    rejected = [one for one in judged if one.verdict != KEEP]
    found = []
    for name, some in (("kept by the verdicts", kept), ("rejected by them", rejected)):
        accepted = sum(one.label.label == "accept" for one in some)
        if some:
            found.append(Share(name, len(some), accepted, *wilson(accepted, len(some))))
    return found


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Ends of Wilson's interval for a share, with 95 % confidence."""
    share, square = hits / total, Z**2 / total
    middle = share + square / 2
    spread = Z * sqrt(share * (1 - share) / total + square / (4 * total))
    return (middle - spread) / (1 + square), (middle + spread) / (1 + square)
