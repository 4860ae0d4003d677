"""More scores of a confusion matrix; metrics.py has the first ones. Rows are the truth, columns the prediction.

All take counts (..., K, K), so that thousands of bootstrap draws are scored at once. Where a ratio has nothing below the
line its value is that of scikit-learn: 0, or NaN for Cohen's kappa.
"""

from __future__ import annotations

import numpy as np

from mien.evaluation.metrics import accuracy, divide_or_zero, f1, recall


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur as truth; (..., K, K) → (...)."""
    occurs = matrix.sum(axis=-1) > 0
    return divide_or_zero((recall(matrix) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def weighted_f1(matrix: np.ndarray) -> np.ndarray:
    """Mean F1, each class weighted by its faces; (..., K, K) → (...)."""
    support = matrix.sum(axis=-1)
    return divide_or_zero((f1(matrix) * support).sum(axis=-1), support.sum(axis=-1))


def hamming_distance(matrix: np.ndarray) -> np.ndarray:
    """Share of wrong predictions: 1 − accuracy where every face has one label; (..., K, K) → (...)."""
    return 1 - accuracy(matrix)


def cohen_kappa(matrix: np.ndarray) -> np.ndarray:
    """(p_o − p_e) / (1 − p_e): agreement p_o beyond that p_e which chance would bring (Cohen, 1960); (..., K, K) → (...).

    NaN where truth and prediction are one and the same class throughout, so that p_e is 1.
    """
    count, truths, guesses = _sum_margins(matrix)
    by_chance = (truths * guesses).sum(axis=-1)
    right = np.trace(matrix, axis1=-2, axis2=-1) * count
    return _divide_or_nan(right - by_chance, count**2 - by_chance)


def matthews_correlation(matrix: np.ndarray) -> np.ndarray:
    """R_K, Matthews' correlation for K classes (Gorodkin, 2004), in −1..1; (..., K, K) → (...).

    0 where all truths or all predictions are of one class.
    """
    count, truths, guesses = _sum_margins(matrix)
    covariance = np.trace(matrix, axis1=-2, axis2=-1) * count - (truths * guesses).sum(axis=-1)
    spread = (count**2 - (truths**2).sum(axis=-1)) * (count**2 - (guesses**2).sum(axis=-1))
    return divide_or_zero(covariance, np.sqrt(spread))


def specificity(matrix: np.ndarray) -> np.ndarray:
    """Of the faces that are not of a class, the share not taken for it: TN / (TN + FP); (..., K, K) → (..., K)."""
    count, truths, guesses = _sum_margins(matrix)
    others = count[..., None] - truths
    wrongly_taken = guesses - np.diagonal(matrix, axis1=-2, axis2=-1)
    return divide_or_zero(others - wrongly_taken, others)


def one_vs_rest_accuracy(matrix: np.ndarray) -> np.ndarray:
    """(TP + TN) / N of each class against all others; (..., K, K) → (..., K)."""
    count, truths, guesses = _sum_margins(matrix)
    wrong = truths + guesses - 2 * np.diagonal(matrix, axis1=-2, axis2=-1)
    return divide_or_zero(count[..., None] - wrong, count[..., None])


def _sum_margins(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(faces (...), truths of each class (..., K), predictions of each class (..., K)) as float: squares of counts grow."""
    matrix = matrix.astype(float)
    return matrix.sum(axis=(-2, -1)), matrix.sum(axis=-1), matrix.sum(axis=-2)


def _divide_or_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=b != 0)
