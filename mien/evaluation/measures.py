"""All scores of a report with 95 % bootstrap intervals.

Scores of the confusion matrix are resampled by one multinomial draw over its cells. Scores of the probabilities are resampled
face by face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.labels import FER2013
from mien.evaluation import confusion_metrics, metrics
from mien.evaluation.calibration import (
    Reliability,
    accuracy_by_confidence,
    measure_reliability,
    weighted_calibration_errors,
)
from mien.evaluation.metrics import Scores, log_losses, score
from mien.evaluation.ranking import average_precision, is_in_top_k, roc_auc

#: Overall scores that are functions of the confusion matrix.
OVERALL_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": confusion_metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "weighted_f1": confusion_metrics.weighted_f1,
    "cohen_kappa": confusion_metrics.cohen_kappa,
    "matthews_correlation": confusion_metrics.matthews_correlation,
    "hamming_distance": confusion_metrics.hamming_distance,
}

#: Scores of each class that are functions of the confusion matrix.
CLASS_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "precision": metrics.precision,
    "recall": metrics.recall,
    "specificity": confusion_metrics.specificity,
    "f1": metrics.f1,
    "accuracy": confusion_metrics.one_vs_rest_accuracy,
}

#: Scores that resampling increases, since noise adds to every gap. Their draws are shifted by the bias, the difference of
#: their mean and the score (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 10).
BIASED_METRICS = ("expected_calibration_error",)

#: Draws of faces that are made at once, to limit memory.
_DRAWS_AT_ONCE = 100

#: Cells of resampled confusion matrices that are held at once, to limit memory to 40 MB.
_CELLS_AT_ONCE = 5_000_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """The result of `compute_measures`.

    scores       accuracy, macro-F1, log loss and the confusion matrix, as of `score`
    overall      name → (value, (low, high)); NaN for an undefined value
    by_class     name → (values (K,), lows (K,), highs (K,)) of each class against the rest
    reliability  accuracy in bins of confidence
    confidence   coverage and accuracy at confidence thresholds, as of `accuracy_by_confidence`
    """

    scores: Scores
    overall: dict[str, tuple[float, Interval]]
    by_class: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    reliability: Reliability
    confidence: list[dict[str, float]]

    def per_class(self) -> list[dict[str, Any]]:
        """Return a dict for each class: class, every score with its interval, support."""
        rows = []
        for index, row in enumerate(self.scores.per_class()):
            values: dict[str, Any] = {"class": row["class"]}
            for name, (value, low, high) in self.by_class.items():
                values[name] = float(value[index])
                values[f"{name}_interval"] = [float(low[index]), float(high[index])]
            rows.append(values | {"support": row["support"]})
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return all scores as JSON has them, those of `Scores.to_json` under the same names. Undefined values are None."""
        values = self.scores.to_json()
        for name, (value, between) in self.overall.items():
            values[name], values[f"{name}_interval"] = value, list(between)
        values["per_class"] = self.per_class()
        values["calibration"] = {"bins": self.reliability.to_json(), "overconfidence": self.reliability.overconfidence}
        values["by_confidence"] = self.confidence
        return replace_nan(values)


def compute_measures(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str] = FER2013,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> Measures:
    """Compute all scores of probabilities float (N, K) and labels int (N,), with ``samples`` bootstrap draws.

    Raises ValueError as `score` does.
    """
    scores = score(probabilities, labels, classes)
    probabilities, matrix = np.asarray(probabilities, np.float64), scores.confusion
    rng = np.random.default_rng(seed)
    shares = matrix.ravel() / scores.count
    of_matrix = OVERALL_METRICS | {f"class {name}": of for name, of in CLASS_METRICS.items()}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in of_matrix}
    supports = []
    at_once = max(1, _CELLS_AT_ONCE // matrix.size)
    for start in range(0, samples, at_once):
        drawn = rng.multinomial(scores.count, shares, size=min(at_once, samples - start)).reshape(-1, *matrix.shape)
        supports.append(drawn.sum(axis=2))
        for name, of in of_matrix.items():
            parts[name].append(of(drawn))
    redrawn_of = {name: np.concatenate(values) for name, values in parts.items()}
    overall = {
        name: (float(of(matrix)), _percentile_interval(redrawn_of[name])) for name, of in OVERALL_METRICS.items()
    }
    overall |= {name: (getattr(scores, name), getattr(scores, f"{name}_interval")) for name in ("accuracy", "macro_f1")}
    without = np.concatenate(supports) == 0  # draws without faces of a class do not count for it
    by_class = {
        name: (of(matrix), *_percentile_limits(np.where(without, np.nan, redrawn_of[f"class {name}"])))
        for name, of in CLASS_METRICS.items()
    }

    of_faces = _weighted_metrics(probabilities, labels)
    once = {name: of(np.ones(len(labels))) for name, of in of_faces.items()}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in of_faces}
    truth, present = np.eye(len(matrix))[labels], []
    for weights in draw_bootstrap_weights(len(labels), samples, rng):
        present.append(weights @ truth > 0)
        for name, of in of_faces.items():
            draws[name].append(of(weights))
    for name, value in once.items():
        redrawn = np.concatenate(draws[name])
        if np.ndim(value):
            by_class[name] = (value, *_percentile_limits(np.where(np.concatenate(present), redrawn, np.nan)))
        else:
            bias = redrawn.mean() - value if name in BIASED_METRICS else 0.0
            low, high = _percentile_interval(redrawn - bias)
            overall[name] = (float(value), (max(0.0, low), high) if name in BIASED_METRICS else (low, high))
    return Measures(
        scores,
        overall,
        by_class,
        measure_reliability(probabilities, labels),
        accuracy_by_confidence(probabilities, labels),
    )


def draw_bootstrap_weights(count: int, samples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw ``count`` faces with replacement, ``samples`` times. Yields how often each was drawn, float (<= 100, count)."""
    for start in range(0, samples, _DRAWS_AT_ONCE):
        many = min(_DRAWS_AT_ONCE, samples - start)
        rows = rng.integers(0, count, (many, count)) + count * np.arange(many)[:, None]
        yield np.bincount(rows.ravel(), minlength=many * count).reshape(many, count).astype(float)


def replace_nan(value: Any) -> Any:
    """Replace every NaN in nested dicts and lists by None, since JSON has no NaN."""
    if isinstance(value, dict):
        return {name: replace_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _weighted_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return scores as functions of the weights of faces: float (..., N) → (...), or (..., K) for scores of each class."""
    losses = log_losses(probabilities[np.arange(len(labels)), labels])
    top_two = is_in_top_k(probabilities, labels, 2).astype(float)
    is_class = [labels == k for k in range(probabilities.shape[1])]

    def mean_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: weights @ values / weights.sum(axis=-1)

    def of_each_class(of: Callable[..., np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: np.stack(
            [of(probabilities[:, k], mask, weights) for k, mask in enumerate(is_class)], axis=-1
        )

    return {
        "log_loss": mean_of(losses),
        "top_2_accuracy": mean_of(top_two),
        "expected_calibration_error": lambda weights: weighted_calibration_errors(probabilities, labels, weights),
        "roc_auc": of_each_class(roc_auc),
        "average_precision": of_each_class(average_precision),
    }


def _percentile_limits(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 and 97.5 percentiles over the first axis, ignoring undefined draws; NaN without any draw."""
    low, high = np.full((2, *draws.shape[1:]), np.nan)
    defined = np.isfinite(draws).any(axis=0)
    if defined.any():
        low[defined], high[defined] = np.nanpercentile(draws[..., defined], [2.5, 97.5], axis=0)
    return low, high


def _percentile_interval(draws: np.ndarray) -> Interval:
    low, high = _percentile_limits(draws[:, None])
    return float(low[0]), float(high[0])
