"""Whether a model is as right as it is sure: reliability, calibration error, accuracy by confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.data.splits import split_halves

#: Bins of equal width in which confidence and accuracy are compared.
NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Faces gathered by confidence, the probability of the predicted class: bin b holds edges[b] < confidence <= edges[b + 1].

    edges       float (B + 1,), 0 to 1
    count       int64 (B,), faces
    confidence  float (B,), their mean confidence; NaN where there are none
    accuracy    float (B,), the share that is right; NaN where there are none
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Naeini et al., 2015; Guo et al., 2017): Σ count / N · |accuracy − confidence|."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.count * gaps).sum() / self.count.sum())

    @property
    def overconfidence(self) -> float:
        """Mean confidence less accuracy, over all faces: above 0 the model is surer than it is right."""
        return float((self.count * np.nan_to_num(self.confidence - self.accuracy)).sum() / self.count.sum())

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"from": float(low), "to": float(high), "count": int(n), "confidence": float(c), "accuracy": float(a)}
            for low, high, n, c, a in zip(
                self.edges[:-1], self.edges[1:], self.count, self.confidence, self.accuracy, strict=True
            )
        ]


def measure_reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = NUM_BINS) -> Reliability:
    """Probabilities (N, K) and labels (N,) → confidence against accuracy in bins of equal width."""
    confidence, right = find_confidences(probabilities, labels)
    edges = np.linspace(0, 1, bins + 1)
    place = assign_bins(confidence, bins)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, values, minlength=bins) for values in (confidence, right.astype(float)))
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    return Reliability(edges, count, *means)


def weighted_calibration_errors(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The expected calibration error of weighted faces; weights (..., N) → (...)."""
    confidence, right = find_confidences(probabilities, labels)
    member = assign_bins(confidence, NUM_BINS)[:, None] == np.arange(NUM_BINS)  # (N, B)
    gaps = weights @ (member * (right - confidence)[:, None])  # (..., B): weight × (accuracy − confidence)
    return np.abs(gaps).sum(axis=-1) / weights.sum(axis=-1)


def find_confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probability of the predicted class, float64 (N,); whether that class is the truth, bool (N,))."""
    probabilities = np.asarray(probabilities, np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def assign_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """int (N,): the bin of each confidence; a bin has its upper edge and not its lower."""
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def accuracy_by_confidence(probabilities: np.ndarray, labels: np.ndarray, steps: int = 20) -> list[dict[str, float]]:
    """What is left, and how right it is, where answers below a confidence are not given: one dict a threshold.

    ``threshold`` 0, 1 / steps, ...; ``coverage`` is the share of faces with at least that confidence, ``accuracy`` the
    share of these that is right, NaN where there are none (the risk-coverage curve of El-Yaniv & Wiener, 2010).
    """
    confidence, right = find_confidences(probabilities, labels)
    rows = []
    for threshold in np.arange(steps + 1) / steps:
        kept = confidence >= threshold
        rows.append(
            {
                "threshold": float(threshold),
                "coverage": float(kept.mean()),
                "accuracy": float(right[kept].mean()) if kept.any() else float("nan"),
            }
        )
    return rows


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits (N, K) → probabilities float64 (N, K): the softmax of logits / temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the labels (N,) most likely under logits (N, K) (Guo et al., 2017); in 0.05 to 20.

    The log loss is convex in β = 1 / T: its slope, mean(Σ p z − z_truth), rises with β, so halving finds its root.
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
    """(probabilities (N, K), two temperatures): each half of the faces with the temperature of the other half.

    What is measured on these probabilities was measured on faces that did not fit the temperature.
    """
    probabilities, temperatures = np.empty(np.shape(logits)), []
    for mine, other in split_halves(labels, seed):
        temperatures.append(fit_temperature(logits[other], labels[other]))
        probabilities[mine] = apply_temperature(logits[mine], temperatures[-1])
    return probabilities, temperatures
