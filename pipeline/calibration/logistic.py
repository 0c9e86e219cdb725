"""Logistic regression, and folds that never part a video."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from corpus.ids import unit_hash

Values = NDArray[np.float64]
FOLDS = 5


def logistic(inputs: Any, labels: Values, penalty: float = 1.0) -> tuple[Values, float]:
    """Weights and bias with the least loss; two classes weigh the same, whatever their sizes.

    Args:
        inputs: (N, F), dense or a scipy sparse matrix; standardised, or words that are there.
        labels: (N,) 0 or 1, both present.
        penalty: on half the squared weights, beside a sum over N captions.
    """
    positive = labels.mean()
    balance = np.where(labels == 1, 0.5 / positive, 0.5 / (1 - positive))

    def loss(at: Values) -> tuple[float, Values]:
        logits = inputs @ at[:-1] + at[-1]
        value = (balance * (np.logaddexp(0, logits) - labels * logits)).sum()
        pull = balance * (expit(logits) - labels)
        gradient = np.append(inputs.T @ pull + penalty * at[:-1], pull.sum())
        return float(value + penalty * (at[:-1] ** 2).sum() / 2), gradient

    start = np.zeros(inputs.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x[:-1]), float(found.x[-1])


def folds(
    videos: Sequence[str], seed: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """(learn from, judge) masks; all captions of a video are on one side, each is judged once.

    At most `FOLDS` of them, fewer where there are fewer videos; none for a single one.
    """
    names = sorted(set(videos), key=lambda video: unit_hash(seed, "fold", video))
    count = min(FOLDS, len(names))
    if count < 2:
        return
    fold = {video: place % count for place, video in enumerate(names)}
    of = np.array([fold[video] for video in videos])
    for number in range(count):
        yield of != number, of == number
