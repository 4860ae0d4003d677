"""Comparison of two models on the same faces: paired bootstrap, McNemar's test, differences by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.labels import FER2013
from mien.evaluation.metrics import Scores, divide_or_zero, f1, percentile_interval, recall, score

#: Counts that are drawn at once, to limit memory to 40 MB.
_CELLS_AT_ONCE = 5_000_000

#: McNemar's test is exact for fewer faces on which exactly one model is correct.
MIN_CHI_SQUARE = 25


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of equal accuracy, from the faces on which exactly one of two models is correct.

    only_a, only_b  faces on which only A, or only B, is correct
    statistic       chi-square with Edwards' continuity correction, or None for the exact test
    p_value         probability of such a difference, or a larger one, between equal models
    """

    only_a: int
    only_b: int
    statistic: float | None
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Models A and B on the same faces. Differences are B − A, intervals 95 %.

    predicted_a, predicted_b   int (N,), predicted classes
    gained, lost               int64 (K,): faces of each class on which only B, or only A, is correct
    """

    a: Scores
    b: Scores
    predicted_a: np.ndarray
    predicted_b: np.ndarray
    differences: dict[str, tuple[float, tuple[float, float]]]
    mcnemar: McNemar
    gained: np.ndarray
    lost: np.ndarray

    def per_class(self) -> list[dict[str, Any]]:
        """Return a dict for each class: class, support, recall and F1 of both, their differences, faces gained and lost."""
        recalls, f1s = ([of(scores.confusion) for scores in (self.a, self.b)] for of in (recall, f1))
        return [
            {
                "class": name,
                "support": int(self.a.confusion[k].sum()),
                "recall_a": float(recalls[0][k]),
                "recall_b": float(recalls[1][k]),
                "recall_difference": float(recalls[1][k] - recalls[0][k]),
                "f1_a": float(f1s[0][k]),
                "f1_b": float(f1s[1][k]),
                "f1_difference": float(f1s[1][k] - f1s[0][k]),
                "gained": int(self.gained[k]),
                "lost": int(self.lost[k]),
            }
            for k, name in enumerate(self.a.classes)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON has it."""
        return {
            "count": self.a.count,
            "classes": list(self.a.classes),
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "differences": {
                name: {"value": value, "interval": list(between)} for name, (value, between) in self.differences.items()
            },
            "mcnemar": vars(self.mcnemar),
            "same_prediction": int((self.predicted_a == self.predicted_b).sum()),
            "per_class": self.per_class(),
        }


def compare_models(
    probabilities_a: np.ndarray,
    probabilities_b: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str] = FER2013,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare the probabilities float (N, K) of two models for the same faces with labels int (N,).

    Columns are in the order of ``classes``. ``samples`` is the number of bootstrap draws. Raises ValueError as `score` does.
    """
    a, b = score(probabilities_a, labels, classes), score(probabilities_b, labels, classes)
    predicted_a, predicted_b = np.asarray(probabilities_a).argmax(axis=1), np.asarray(probabilities_b).argmax(axis=1)
    right_a, right_b = predicted_a == labels, predicted_b == labels
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    num_classes = len(a.classes)
    return Comparison(
        a,
        b,
        predicted_a,
        predicted_b,
        paired_bootstrap(labels, predicted_a, predicted_b, num_classes, samples, seed),
        mcnemar_test(int(only_a.sum()), int(only_b.sum())),
        gained=np.bincount(labels[only_b], minlength=num_classes),
        lost=np.bincount(labels[only_a], minlength=num_classes),
    )


def paired_bootstrap(
    labels: np.ndarray, predicted_a: np.ndarray, predicted_b: np.ndarray, num_classes: int, samples: int, seed: int
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Compute B − A in accuracy and macro-F1 with 95 % percentile intervals of the paired bootstrap.

    labels, predicted_a, predicted_b: int (N,). A face matters only by its label and the two predictions. So a draw of N faces
    is one multinomial draw over the combinations that occur. Both scores only need the counts of each class.
    """
    faces = np.stack([labels, predicted_a, predicted_b], axis=1).astype(np.int64)
    combinations, cells = np.unique(faces, axis=0, return_counts=True)  # (M, 3), (M,)
    truth, by_a, by_b = (np.eye(num_classes)[column] for column in combinations.T)  # each (M, K)
    rng, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // len(cells))
    drawn: dict[str, list[np.ndarray]] = {"accuracy": [], "macro_f1": []}
    for start in range(0, samples, at_once):
        counts = rng.multinomial(len(labels), cells / len(labels), size=min(at_once, samples - start)).astype(float)
        for name, difference in _score_differences(counts, truth, by_a, by_b).items():
            drawn[name].append(difference)
    values = _score_differences(cells[None].astype(float), truth, by_a, by_b)
    return {name: (float(values[name][0]), percentile_interval(np.concatenate(draws))) for name, draws in drawn.items()}


def _score_differences(
    counts: np.ndarray, truth: np.ndarray, by_a: np.ndarray, by_b: np.ndarray
) -> dict[str, np.ndarray]:
    """Return B − A in accuracy and macro-F1, each (S,), for counts (S, M) of combinations with one-hot classes (M, K)."""
    scores = []
    occurs = counts @ truth
    for predicted in (by_a, by_b):
        right, all_of_class = counts @ (truth * predicted), occurs + counts @ predicted  # (S, K)
        f1s = divide_or_zero(2 * right, all_of_class)
        macro = divide_or_zero(f1s.sum(axis=1), (all_of_class > 0).sum(axis=1))
        scores.append((right.sum(axis=1) / counts.sum(axis=1), macro))
    (accuracy_a, macro_a), (accuracy_b, macro_b) = scores
    return {"accuracy": accuracy_b - accuracy_a, "macro_f1": macro_b - macro_a}


def mcnemar_test(only_a: int, only_b: int) -> McNemar:
    """Apply McNemar's test (1947) to the numbers of faces on which only A, or only B, is correct.

    For fewer than 25 such faces: the two-sided exact binomial test with p = 1/2. Otherwise: chi-square with one degree of
    freedom and Edwards' continuity correction, (max(|a − b| − 1, 0))² / (a + b).
    """
    differ = only_a + only_b
    if differ < MIN_CHI_SQUARE:
        tail = sum(math.comb(differ, k) for k in range(min(only_a, only_b) + 1)) / 2**differ
        return McNemar(only_a, only_b, None, min(1.0, 2 * tail))
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / differ
    return McNemar(only_a, only_b, statistic, math.erfc(math.sqrt(statistic / 2)))  # P(χ²₁ > s) = erfc(√(s / 2))


def reorder_columns(probabilities: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Select the columns of ``classes`` from probabilities (N, M) in the order of ``labels``, which contain all classes."""
    return probabilities[:, [list(labels).index(name) for name in classes]]
