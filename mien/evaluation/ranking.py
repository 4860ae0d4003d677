"""Ranking scores: ROC and precision-recall curves, the areas below them, and top-k accuracy.

``scores`` float (N,) are probabilities of one class, ``positive`` bool (N,) are the faces of that class. Faces may have weights
float (..., N), such as the counts of bootstrap draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Points of a curve, each (T,), by descending threshold. Faces with scores >= threshold are predicted as positive."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Compute the false-positive rate (x) and true-positive rate (y) at every distinct score, from (0, 0) at threshold ∞.

    A rate is NaN without negatives, or without positives.
    """
    true_positives, false_positives, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):  # 0 / 0
        x, y = false_positives / false_positives[-1], true_positives / true_positives[-1]
    return Curve(np.append(0, x), np.append(0, y), np.append(np.inf, thresholds))


def precision_recall_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Compute recall (x) and precision (y) at every distinct score, from recall 0 and precision 1 at threshold ∞.

    Recall is NaN without positives.
    """
    true_positives, false_positives, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):
        x = true_positives / true_positives[-1]
    return Curve(
        np.append(0, x),
        np.append(1, true_positives / (true_positives + false_positives)),
        np.append(np.inf, thresholds),
    )


def roc_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the area below the ROC curve (...): the probability that a positive scores above a negative; ties count half.

    NaN without positives or without negatives.
    """
    true_positives, false_positives, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    area = (_increments(false_positives) * (true_positives - _increments(true_positives) / 2)).sum(axis=-1)
    whole = true_positives[..., -1] * false_positives[..., -1]
    return np.divide(area, whole, out=np.full(np.shape(area), np.nan), where=whole > 0)


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute Σ (R_n − R_{n−1}) P_n over the distinct scores, without interpolation (...). 0 without positives."""
    true_positives, false_positives, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    positives = true_positives + false_positives
    precision = np.divide(true_positives, positives, out=np.zeros_like(true_positives), where=positives > 0)
    total = true_positives[..., -1]
    summed = (_increments(true_positives) * precision).sum(axis=-1)
    return np.divide(summed, total, out=np.zeros(np.shape(summed)), where=total > 0)


def is_in_top_k(probabilities: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return whether the label is among the k most probable classes, bool (N,).

    Of equal probabilities, the last class comes first, as in scikit-learn.
    """
    order = np.argsort(probabilities, axis=1, kind="stable")[:, ::-1]
    return (order[:, :k] == np.asarray(labels)[:, None]).any(axis=1)


def _as_weights(weights: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count) if weights is None else np.asarray(weights, float)


def _cumulative_counts(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights of true positives (..., T), of false positives (..., T), and descending thresholds (T,).

    There is one threshold for each distinct score.
    """
    scores, positive = np.asarray(scores), np.asarray(positive, bool)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # where a run of equal scores ends
    ranked = weights[..., order]
    true_positives = np.cumsum(ranked * positive[order], axis=-1)[..., last]
    false_positives = np.cumsum(ranked, axis=-1)[..., last] - true_positives
    return true_positives, false_positives, scores[last]


def _increments(values: np.ndarray) -> np.ndarray:
    """Return the difference of each value and the one before it; the first value is compared with 0."""
    return np.diff(values, axis=-1, prepend=0)
