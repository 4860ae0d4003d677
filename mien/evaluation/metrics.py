"""Classification scores as functions of the confusion matrix: rows are the truth, columns the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.labels import CANONICAL, FER2013

#: Cells of resampled confusion matrices that are held at once, to limit memory to 40 MB.
_CELLS_AT_ONCE = 5_000_000


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count faces by truth (row) and prediction (column), int64 (K, K). Both inputs are int (N,) in 0..K-1."""
    cells = np.asarray(labels, np.int64) * num_classes + predicted  # a small integer type would overflow
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def divide_or_zero(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide a by b, with 0 where b is 0: a class that is never predicted has precision 0, as in scikit-learn."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Compute the share of correct predictions; matrix int (..., K, K) → (...)."""
    return divide_or_zero(np.trace(matrix, axis1=-2, axis2=-1).astype(float), matrix.sum(axis=(-2, -1)))


def precision(matrix: np.ndarray) -> np.ndarray:
    """Compute TP / (TP + FP) of each class; matrix int (..., K, K) → (..., K)."""
    return divide_or_zero(np.diagonal(matrix, axis1=-2, axis2=-1).astype(float), matrix.sum(axis=-2))


def recall(matrix: np.ndarray) -> np.ndarray:
    """Compute TP / (TP + FN) of each class; matrix int (..., K, K) → (..., K)."""
    return divide_or_zero(np.diagonal(matrix, axis1=-2, axis2=-1).astype(float), matrix.sum(axis=-1))


def f1(matrix: np.ndarray) -> np.ndarray:
    """Compute 2 TP / (2 TP + FP + FN) of each class; matrix int (..., K, K) → (..., K)."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(float)
    return divide_or_zero(2 * right, matrix.sum(axis=-2) + matrix.sum(axis=-1))


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Compute the mean F1 of the classes that occur as truth or prediction, as scikit-learn does; (..., K, K) → (...)."""
    occurs = (matrix.sum(axis=-2) + matrix.sum(axis=-1)) > 0
    return divide_or_zero((f1(matrix) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def log_losses(of_truth: np.ndarray) -> np.ndarray:
    """Compute −ln of the probabilities of the true class, in nats. Probabilities are clipped at 2e-16, as in scikit-learn."""
    tiny = np.finfo(np.float64).eps
    return -np.log(np.clip(of_truth.astype(np.float64), tiny, 1 - tiny))


def bootstrap_intervals(matrix: np.ndarray, samples: int = 2000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Compute 95 % percentile intervals of accuracy and macro-F1 by the bootstrap (Efron, 1979).

    A draw of N faces with replacement is one multinomial draw over the K² cells of the matrix int (K, K).
    """
    count, shares = int(matrix.sum()), matrix.ravel() / matrix.sum()
    rng, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // matrix.size)
    accuracies, macro_f1s = [], []
    for start in range(0, samples, at_once):
        draws = rng.multinomial(count, shares, size=min(at_once, samples - start)).reshape(-1, *matrix.shape)
        accuracies.append(accuracy(draws))
        macro_f1s.append(macro_f1(draws))
    return {
        "accuracy": percentile_interval(np.concatenate(accuracies)),
        "macro_f1": percentile_interval(np.concatenate(macro_f1s)),
    }


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap draws float (S,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Scores:
    """Scores of a model on labeled faces. ``confusion[i, j]``: faces of class i that are predicted as class j."""

    classes: tuple[str, ...]
    confusion: np.ndarray
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    log_loss: float

    def __str__(self) -> str:
        """Return the scores as the text that `mien evaluate` prints."""
        from mien.evaluation.tables import format_scores

        return format_scores(self)

    def plot(self, title: str = "scores") -> Any:
        """Return a matplotlib figure of the confusion matrix in counts and in rates of the true class."""
        from mien.evaluation.reports.figures import plot_confusion

        return plot_confusion(self, title)

    @property
    def count(self) -> int:
        """Return the number of faces."""
        return int(self.confusion.sum())

    @property
    def confusion_rates(self) -> np.ndarray:
        """Return the confusion matrix with every row divided by its sum, float (K, K)."""
        return divide_or_zero(self.confusion.astype(float), self.confusion.sum(axis=1, keepdims=True))

    @property
    def macro_f1_of_present(self) -> float:
        """Return the mean F1 of the classes with faces. ``macro_f1`` includes classes that are only predicted, with 0."""
        return float(f1(self.confusion)[self.confusion.sum(axis=1) > 0].mean())

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Return the classes without faces."""
        return tuple(name for name, count in zip(self.classes, self.confusion.sum(axis=1), strict=True) if not count)

    def per_class(self) -> list[dict[str, Any]]:
        """Return a dict for each class: class, precision, recall, f1, support."""
        columns = zip(
            self.classes,
            precision(self.confusion),
            recall(self.confusion),
            f1(self.confusion),
            self.confusion.sum(axis=1),
            strict=True,
        )
        return [
            {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for name, p, r, f, n in columns
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all scores as JSON has them."""
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": list(self.macro_f1_interval),
            "macro_f1_of_present": self.macro_f1_of_present,
            "log_loss": self.log_loss,
            "classes": list(self.classes),
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
            "confusion_rates": np.round(self.confusion_rates, 6).tolist(),
        }


def score(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None) -> Scores:
    """Compute the scores of probabilities float (N, K) and labels int (N,) in 0..K-1.

    Default classes: those of FER2013 for K = 7, these and contempt for K = 8, otherwise the numbers.

    Raises ValueError if shapes, labels or probabilities are invalid. Unlabeled rows (-1) are not allowed.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) == 0 or labels.shape != (len(probabilities),):
        raise ValueError(
            f"probabilities (N, K) and labels (N,) are needed, not {probabilities.shape} and {labels.shape}"
        )
    num_classes = probabilities.shape[1]
    if classes is None:
        usual = {len(FER2013): FER2013, len(CANONICAL): CANONICAL}
        classes = usual.get(num_classes) or tuple(map(str, range(num_classes)))
    if len(classes) != num_classes:
        raise ValueError(f"{len(classes)} class names for {num_classes} probabilities")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, not {labels.min()}..{labels.max()}")
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("every row of probabilities must be finite and sum to 1")
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), num_classes)
    intervals = bootstrap_intervals(matrix)
    of_truth = probabilities[np.arange(len(labels)), labels]
    return Scores(
        classes=tuple(classes),
        confusion=matrix,
        accuracy=float(accuracy(matrix)),
        accuracy_interval=intervals["accuracy"],
        macro_f1=float(macro_f1(matrix)),
        macro_f1_interval=intervals["macro_f1"],
        log_loss=float(log_losses(of_truth).mean()),
    )
