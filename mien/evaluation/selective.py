"""Selective classification: coverage and accuracy above a confidence threshold, and the threshold for a target accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.data.splits import split_halves
from mien.evaluation.calibration import apply_temperature, find_confidences, fit_temperature

#: Default target of the accuracy above the threshold.
TARGET_ACCURACY = 0.85


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve (El-Yaniv & Wiener, 2010).

    confidence   float (N,), descending thresholds
    coverage     float (N,), share of faces with at least this confidence; ascends to 1
    risk         float (N,), share of wrong predictions among them
    """

    confidence: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """Return the mean risk over all coverages (AURC). The best value is 0; a random order gives the error rate."""
        return float(self.risk.mean())


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> RiskCoverage:
    """Compute the curve of probabilities float (N, K) and labels int (N,).

    Faces of equal confidence have the same values, those of the last of them.
    """
    confidence, right = find_confidences(probabilities, labels)
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~right[order]
    answered = np.arange(1, len(order) + 1)
    last = np.searchsorted(-confidence, -confidence, side="right") - 1
    return RiskCoverage(confidence, (answered / len(order))[last], (np.cumsum(wrong) / answered)[last])


def find_threshold(probabilities: np.ndarray, labels: np.ndarray, target: float = TARGET_ACCURACY) -> float:
    """Find the lowest confidence threshold with an accuracy of at least ``target``; a value above 1 if there is none."""
    curve = risk_coverage(probabilities, labels)
    good = np.flatnonzero(1 - curve.risk >= target)
    return float(curve.confidence[good[-1]]) if len(good) else float(np.nextafter(1, 2))


@dataclass(frozen=True)
class SelectiveAccuracy:
    """Coverage, the share of faces above a threshold, and their accuracy (NaN without any)."""

    coverage: float
    accuracy: float


def measure_threshold(
    probabilities: np.ndarray, labels: np.ndarray, threshold: float | np.ndarray
) -> SelectiveAccuracy:
    """Measure probabilities float (N, K) and labels int (N,) with one threshold, or with one for each face (N,)."""
    confidence, right = find_confidences(probabilities, labels)
    answered = confidence >= threshold
    return SelectiveAccuracy(float(answered.mean()), float(right[answered].mean()) if answered.any() else float("nan"))


def cross_validate_threshold(
    logits: np.ndarray,
    labels: np.ndarray,
    target: float = TARGET_ACCURACY,
    seed: int = 0,
    *,
    fit_temperatures: bool = True,
) -> SelectiveAccuracy:
    """Measure logits (N, K) with the temperature and threshold of each half of the faces fitted on the other half.

    The result is an unbiased estimate for new faces. Without ``fit_temperatures``, the temperature is 1.
    """
    probabilities, thresholds = np.empty(np.shape(logits)), np.empty(len(labels))
    for mine, other in split_halves(labels, seed):
        temperature = fit_temperature(logits[other], labels[other]) if fit_temperatures else 1.0
        thresholds[mine] = find_threshold(apply_temperature(logits[other], temperature), labels[other], target)
        probabilities[mine] = apply_temperature(logits[mine], temperature)
    return measure_threshold(probabilities, labels, thresholds)
