"""What language alone gives away: damage that can be told without looking at any picture.

The yardstick for every scorer that looks: logistic regression on the words and word pairs of a
caption, told apart by kind of damage. A scorer that does no better may have learned how damaged
sentences sound and nothing of what they show.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pipeline.calibration.logistic import folds, logistic
from stages.measures.text_rules import words

Values = NDArray[np.float64]


def alone(
    true: Sequence[str], damaged: Sequence[str], videos: Sequence[str], seed: int
) -> tuple[Values, Values] | None:
    """Scores of true and damaged texts by words alone, higher for true ones.

    Each is scored by a model of captions of other videos; None where there is but one video.
    """
    vocabulary: dict[str, int] = {}
    both = _table([*true, *damaged], vocabulary)
    labels = np.repeat([1.0, 0.0], [len(true), len(damaged)])
    scores = np.zeros(len(labels))
    judged = False
    for learn, judge in folds([*videos, *videos], seed):
        weights, _ = logistic(both[learn], labels[learn])
        # Without the bias: it differs from fold to fold and says nothing about a caption.
        scores[judge] = both[judge] @ weights
        judged = True
    return (scores[: len(true)], scores[len(true) :]) if judged else None


def _table(texts: Sequence[str], vocabulary: dict[str, int]) -> csr_matrix:
    """(N, words and pairs) of what is there."""
    rows, columns = [], []
    for row, text in enumerate(texts):
        found = words(text)
        pairs = [f"{one} {other}" for one, other in zip(["<", *found], [*found, ">"], strict=True)]
        for term in {*found, *pairs}:
            rows.append(row)
            columns.append(vocabulary.setdefault(term, len(vocabulary)))
    shape = (len(texts), max(1, len(vocabulary)))
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
