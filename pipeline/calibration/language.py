"""What language alone gives away: damage that can be told without looking at any picture.

The yardstick for every scorer that looks: logistic regression on the words and word pairs of a
caption, told apart by kind of damage. A scorer that does no better may have learned how damaged
sentences sound and nothing of what they show. It learns from all other films that it is given, not
only from those of the sample: with a few films to go by it would look worse than it is.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pipeline.calibration.logistic import folds, logistic
from stages.measures.text_rules import words

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """A true text and what damage made of it, with the film that it is of."""

    video: str
    true: str
    damaged: str


def alone(
    judged: Sequence[Said], others: Iterable[Said], seed: int
) -> tuple[Values, Values] | None:
    """Scores of true and of damaged texts by words alone, higher for true ones.

    Each is scored by a model of captions of other videos; None where there is but one video.

    Args:
        judged: what is scored.
        others: what may be learned from besides.
    """
    said = [*judged, *others]
    both = _table([*(one.true for one in said), *(one.damaged for one in said)])
    labels = np.repeat([1.0, 0.0], len(said))
    wanted = np.tile(np.arange(len(said)) < len(judged), 2)
    scores = np.zeros(len(labels))
    done = False
    for learn, judge in folds([one.video for one in said] * 2, seed):
        weights, _ = logistic(both[learn], labels[learn])
        # Without the bias: it differs from fold to fold and says nothing about a caption.
        scores[judge & wanted] = both[judge & wanted] @ weights
        done = True
    found = scores[wanted]
    return (found[: len(judged)], found[len(judged) :]) if done else None


def _table(texts: Sequence[str]) -> csr_matrix:
    """(N, words and pairs) of what is there; what is in one text says nothing of another."""
    terms = [_terms(text) for text in texts]
    counts = Counter(term for each in terms for term in each)
    columns = {term: n for n, term in enumerate(sorted(t for t in counts if counts[t] > 1))}
    cells = [(row, columns[t]) for row, each in enumerate(terms) for t in each if t in columns]
    places = np.array(cells, np.intp).reshape(-1, 2).T
    shape = (len(texts), max(1, len(columns)))
    return csr_matrix((np.ones(len(cells)), tuple(places)), shape)


def _terms(text: str) -> set[str]:
    found = words(text)
    pairs = zip(["<", *found], [*found, ">"], strict=True)
    return {*found, *(f"{one} {other}" for one, other in pairs)}
