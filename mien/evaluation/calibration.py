"""Calibration: reliability, calibration error, temperature scaling, accuracy by confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.data.splits import split_halves

#: Number of bins of equal width, in which confidence and accuracy are compared.
NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Accuracy in bins of confidence, the probability of the predicted class.

    Bin b contains faces with edges[b] < confidence <= edges[b + 1].

    edges       float (B + 1,), 0 to 1
    count       int64 (B,), number of faces
    confidence  float (B,), mean confidence; NaN for an empty bin
    accuracy    float (B,), share of correct predictions; NaN for an empty bin
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def calibration_error(self) -> float:
        """Return the expected calibration error, Σ count / N · |accuracy − confidence| (Naeini et al., 2015)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.count * gaps).sum() / self.count.sum())

    @property
    def overconfidence(self) -> float:
        """Return mean confidence minus accuracy over all faces; positive for an overconfident model."""
        return float((self.count * np.nan_to_num(self.confidence - self.accuracy)).sum() / self.count.sum())

    def to_json(self) -> list[dict[str, Any]]:
        """Return a dict for each bin as JSON has it."""
        return [
            {"from": float(low), "to": float(high), "count": int(n), "confidence": float(c), "accuracy": float(a)}
            for low, high, n, c, a in zip(
                self.edges[:-1], self.edges[1:], self.count, self.confidence, self.accuracy, strict=True
            )
        ]


def measure_reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = NUM_BINS) -> Reliability:
    """Measure accuracy in bins of confidence: probabilities float (N, K), labels int (N,) in 0..K-1."""
    confidence, right = find_confidences(probabilities, labels)
    edges = np.linspace(0, 1, bins + 1)
    place = assign_bins(confidence, bins)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, values, minlength=bins) for values in (confidence, right.astype(float)))
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    return Reliability(edges, count, *means)


def weighted_calibration_errors(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error of weighted faces; weights float (..., N) → (...)."""
    confidence, right = find_confidences(probabilities, labels)
    member = assign_bins(confidence, NUM_BINS)[:, None] == np.arange(NUM_BINS)  # (N, B)
    gaps = weights @ (member * (right - confidence)[:, None])  # (..., B): weight × (accuracy − confidence)
    return np.abs(gaps).sum(axis=-1) / weights.sum(axis=-1)


def find_confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the predicted class, float64 (N,), and whether it is correct, bool (N,)."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def assign_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each confidence, int (N,). A bin includes its upper edge, not its lower edge."""
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def accuracy_by_confidence(probabilities: np.ndarray, labels: np.ndarray, steps: int = 20) -> list[dict[str, float]]:
    """Measure coverage and accuracy at confidence thresholds 0, 1 / steps, ..., 1. Returns a dict for each threshold.

    ``coverage`` is the share of faces with at least this confidence, ``accuracy`` the share of correct predictions among
    them, NaN without any (the risk-coverage curve of El-Yaniv & Wiener, 2010).
    """
    confidence, right = find_confidences(probabilities, labels)
    rows = []
    for threshold in np.arange(steps + 1) / steps:
        is_answered = confidence >= threshold
        rows.append(
            {
                "threshold": float(threshold),
                "coverage": float(is_answered.mean()),
                "accuracy": float(right[is_answered].mean()) if is_answered.any() else float("nan"),
            }
        )
    return rows


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the softmax of logits (N, K) / temperature, float64 (N, K)."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature in 0.05..20 that minimizes the log loss of logits (N, K) and labels int (N,) (Guo et al., 2017).

    The log loss is convex in β = 1 / T. Its slope, mean(Σ p z − z_truth), increases with β, so that bisection finds the root.
    """
    logits, truth = np.asarray(logits, np.float64), np.asarray(logits, np.float64)[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((apply_temperature(logits, 1 / inverse) * logits).sum(axis=1) - truth).mean())

    low, high = 1 / 20, 20.0
    for _ in range(50):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


def cross_fit_temperature(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, list[float]]:
    """Scale each half of the faces by the temperature that was fitted on the other half.

    Scores of these probabilities are unbiased, since no face is scaled by a temperature that was fitted on it.
    Returns probabilities float64 (N, K) and the two temperatures.
    """
    probabilities, temperatures = np.empty(np.shape(logits)), []
    for mine, other in split_halves(labels, seed):
        temperatures.append(fit_temperature(logits[other], labels[other]))
        probabilities[mine] = apply_temperature(logits[mine], temperatures[-1])
    return probabilities, temperatures
