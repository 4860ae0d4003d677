"""Further scores of a confusion matrix (see metrics.py). Rows are the truth, columns the prediction.

All take counts int (..., K, K), so that thousands of bootstrap draws are scored at once. A ratio with the denominator 0 has
the value of scikit-learn: 0, or NaN for Cohen's kappa.
"""

from __future__ import annotations

import numpy as np

from mien.evaluation.metrics import accuracy, divide_or_zero, f1, recall


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Compute the mean recall of the classes that occur as truth; (..., K, K) → (...)."""
    occurs = matrix.sum(axis=-1) > 0
    return divide_or_zero((recall(matrix) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def weighted_f1(matrix: np.ndarray) -> np.ndarray:
    """Compute the mean F1, weighted by the faces of each class; (..., K, K) → (...)."""
    support = matrix.sum(axis=-1)
    return divide_or_zero((f1(matrix) * support).sum(axis=-1), support.sum(axis=-1))


def hamming_distance(matrix: np.ndarray) -> np.ndarray:
    """Compute the share of wrong predictions, 1 − accuracy; (..., K, K) → (...)."""
    return 1 - accuracy(matrix)


def cohen_kappa(matrix: np.ndarray) -> np.ndarray:
    """Compute (p_o − p_e) / (1 − p_e): agreement p_o beyond chance agreement p_e (Cohen, 1960); (..., K, K) → (...).

    NaN if truth and prediction are always the same class, so that p_e is 1.
    """
    count, truths, guesses = _sum_margins(matrix)
    by_chance = (truths * guesses).sum(axis=-1)
    right = np.trace(matrix, axis1=-2, axis2=-1) * count
    return _divide_or_nan(right - by_chance, count**2 - by_chance)


def matthews_correlation(matrix: np.ndarray) -> np.ndarray:
    """Compute Matthews' correlation R_K for K classes (Gorodkin, 2004), in −1..1; (..., K, K) → (...).

    0 if all truths or all predictions are of one class.
    """
    count, truths, guesses = _sum_margins(matrix)
    covariance = np.trace(matrix, axis1=-2, axis2=-1) * count - (truths * guesses).sum(axis=-1)
    spread = (count**2 - (truths**2).sum(axis=-1)) * (count**2 - (guesses**2).sum(axis=-1))
    return divide_or_zero(covariance, np.sqrt(spread))


def specificity(matrix: np.ndarray) -> np.ndarray:
    """Compute TN / (TN + FP) of each class; (..., K, K) → (..., K)."""
    count, truths, guesses = _sum_margins(matrix)
    others = count[..., None] - truths
    false_positives = guesses - np.diagonal(matrix, axis1=-2, axis2=-1)
    return divide_or_zero(others - false_positives, others)


def one_vs_rest_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Compute (TP + TN) / N of each class against the rest; (..., K, K) → (..., K)."""
    count, truths, guesses = _sum_margins(matrix)
    wrong = truths + guesses - 2 * np.diagonal(matrix, axis1=-2, axis2=-1)
    return divide_or_zero(count[..., None] - wrong, count[..., None])


def _sum_margins(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return faces (...), truths of each class (..., K) and predictions of each class (..., K) as float, to avoid overflow."""
    matrix = matrix.astype(float)
    return matrix.sum(axis=(-2, -1)), matrix.sum(axis=-1), matrix.sum(axis=-2)


def _divide_or_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=b != 0)
