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
    found, wrong, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):  # 0 / 0
        x, y = wrong / wrong[-1], found / found[-1]
    return Curve(np.append(0, x), np.append(0, y), np.append(np.inf, thresholds))


def precision_recall_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Compute recall (x) and precision (y) at every distinct score, from recall 0 and precision 1 at threshold ∞.

    Recall is NaN without positives.
    """
    found, wrong, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):
        x = found / found[-1]
    return Curve(np.append(0, x), np.append(1, found / (found + wrong)), np.append(np.inf, thresholds))


def roc_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the area below the ROC curve (...): the probability that a positive scores above a negative; ties count half.

    NaN without positives or without negatives.
    """
    found, wrong, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    area = (_increments(wrong) * (found - _increments(found) / 2)).sum(axis=-1)
    whole = found[..., -1] * wrong[..., -1]
    return np.divide(area, whole, out=np.full(np.shape(area), np.nan), where=whole > 0)


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute Σ (R_n − R_{n−1}) P_n over the distinct scores, without interpolation (...). 0 without positives."""
    found, wrong, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    taken = found + wrong
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    total = found[..., -1]
    summed = (_increments(found) * precision).sum(axis=-1)
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
    found = np.cumsum(ranked * positive[order], axis=-1)[..., last]
    wrong = np.cumsum(ranked, axis=-1)[..., last] - found
    return found, wrong, scores[last]


def _increments(values: np.ndarray) -> np.ndarray:
    """Return the difference of each value and the one before it; the first value is compared with 0."""
    return np.diff(values, axis=-1, prepend=0)
