"""Answers that are given only where the model is sure enough: what is left, how right it is, which threshold keeps a promise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.data.splits import split_halves
from mien.evaluation.calibration import apply_temperature, find_confidences, fit_temperature

#: Answers that are given are to be right this often.
TARGET_ACCURACY = 0.85


@dataclass(frozen=True)
class RiskCoverage:
    """What is left when the least sure answers are taken away one by one (El-Yaniv & Wiener, 2010).

    confidence   float (N,), falling: answers with at least so much are given
    coverage     float (N,), the share of the faces that is answered; rises to 1
    risk         float (N,), the share of the answers given that is wrong
    """

    confidence: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """The mean risk over all coverages (AURC): 0 at best; random doubts give the error rate."""
        return float(self.risk.mean())


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> RiskCoverage:
    """Probabilities (N, K) and labels (N,) → the curve. Faces of one confidence are answered together or not at all, so
    that each of them has the values of the last."""
    confidence, right = find_confidences(probabilities, labels)
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~right[order]
    given = np.arange(1, len(order) + 1)
    last = np.searchsorted(-confidence, -confidence, side="right") - 1
    return RiskCoverage(confidence, (given / len(order))[last], (np.cumsum(wrong) / given)[last])


def find_threshold(probabilities: np.ndarray, labels: np.ndarray, target: float = TARGET_ACCURACY) -> float:
    """The lowest confidence from which on answers are right in a share of at least ``goal``; above 1 where none is."""
    curve = risk_coverage(probabilities, labels)
    good = np.flatnonzero(1 - curve.risk >= target)
    return float(curve.confidence[good[-1]]) if len(good) else float(np.nextafter(1, 2))


@dataclass(frozen=True)
class SelectiveAccuracy:
    """What a threshold does: the share of the faces that is answered, and of these the share that is right (else NaN)."""

    coverage: float
    accuracy: float


def measure_threshold(
    probabilities: np.ndarray, labels: np.ndarray, threshold: float | np.ndarray
) -> SelectiveAccuracy:
    """Probabilities (N, K) and labels (N,) with one threshold, or one for each face (N,)."""
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
    """Logits (N, K) → the same, with temperature and threshold of each half of the faces fitted on the other half: what
    they promise on new faces. ``fits``: whether there is a temperature at all."""
    probabilities, thresholds = np.empty(np.shape(logits)), np.empty(len(labels))
    for mine, other in split_halves(labels, seed):
        temperature = fit_temperature(logits[other], labels[other]) if fit_temperatures else 1.0
        thresholds[mine] = find_threshold(apply_temperature(logits[other], temperature), labels[other], target)
        probabilities[mine] = apply_temperature(logits[mine], temperature)
    return measure_threshold(probabilities, labels, thresholds)
