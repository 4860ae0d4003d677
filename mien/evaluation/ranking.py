"""Scores of an order: ROC and precision-recall curves, the areas below them, and the top k.

``scores`` are how sure the model is of one class (N,), ``positive`` says which faces are of it. Faces may have weights
(..., N), as bootstrap draws give them: how often each face was drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Points of a curve, from the strictest threshold to the loosest: faces with scores >= threshold count as found."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """False-positive rate (x) and true-positive rate (y) at every distinct score, from (0, 0) at threshold ∞.

    A rate is NaN where there are no faces to take it of: no negatives, or no positives.
    """
    found, wrong, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):  # 0 / 0
        x, y = wrong / wrong[-1], found / found[-1]
    return Curve(np.append(0, x), np.append(0, y), np.append(np.inf, thresholds))


def precision_recall_curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Recall (x) and precision (y) at every distinct score, from recall 0 and precision 1 at threshold ∞.

    Recall is NaN where there are no positives.
    """
    found, wrong, thresholds = _cumulative_counts(scores, positive, np.ones(len(scores)))
    with np.errstate(invalid="ignore"):
        x = found / found[-1]
    return Curve(np.append(0, x), np.append(1, found / (found + wrong)), np.append(np.inf, thresholds))


def roc_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area below the ROC curve: the chance that a positive scores above a negative, ties counting half → (...).

    NaN where there are no positives or no negatives.
    """
    found, wrong, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    area = (_increments(wrong) * (found - _increments(found) / 2)).sum(axis=-1)
    whole = found[..., -1] * wrong[..., -1]
    return np.divide(area, whole, out=np.full(np.shape(area), np.nan), where=whole > 0)


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Σ (R_n − R_{n−1}) P_n over the distinct scores, without interpolation → (...). 0 where there are no positives."""
    found, wrong, _ = _cumulative_counts(scores, positive, _as_weights(weights, len(scores)))
    taken = found + wrong
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    total = found[..., -1]
    summed = (_increments(found) * precision).sum(axis=-1)
    return np.divide(summed, total, out=np.zeros(np.shape(summed)), where=total > 0)


def is_in_top_k(probabilities: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """bool (N,): whether the truth is among the k most probable classes; of equal ones the later is taken first,
    as in scikit-learn."""
    order = np.argsort(probabilities, axis=1, kind="stable")[:, ::-1]
    return (order[:, :k] == np.asarray(labels)[:, None]).any(axis=1)


def _as_weights(weights: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count) if weights is None else np.asarray(weights, float)


def _cumulative_counts(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weight of true positives (..., T), of false positives (..., T), thresholds (T,)), scores descending.

    Faces of equal score are found together: one threshold for each distinct score.
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
    """How much each value is above the one before it, the first above 0."""
    return np.diff(values, axis=-1, prepend=0)
