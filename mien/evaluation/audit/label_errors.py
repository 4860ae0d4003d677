"""Labels that are probably wrong, from probabilities of a model that did not train on them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.core.csv_cells import unescape_formula
from mien.core.errors import DataError
from mien.core.types import FaceSet
from mien.evaluation.comparison import in_order_of


@dataclass(frozen=True)
class Suspicion:
    """What out-of-fold probabilities say of N labels.

    suspicion   float32 (N,) in 0..1: one minus the probability of the label
    flagged     bool (N,): confident learning takes the label for wrong
    suggested   int64 (N,): the most probable class
    confusion   int64 (K, K): how often faces labeled i are confidently a j; off its diagonal stand wrong labels
    thresholds  float64 (K,): from which probability on a face is confidently a j
    """

    suspicion: np.ndarray
    flagged: np.ndarray
    suggested: np.ndarray
    confusion: np.ndarray
    thresholds: np.ndarray


def confident_learning(probabilities: np.ndarray, labels: np.ndarray) -> Suspicion:
    """Confident learning (Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021).

    With p_j(x) the out-of-fold probability of class j for face x, and X_i the faces labeled i:
    t_j = mean of p_j(x) over X_j is the threshold of class j (a class that is rarely sure is asked for less);
    C_ij = number of x in X_i with p_j(x) ≥ t_j, j being the most probable of the classes above their thresholds, is
    the confident joint. Faces counted off its diagonal are flagged (their rule "C_confusion"), and 1 − p_i(x), i being
    the label, ranks all: with the weak networks that can be trained in minutes this "self-confidence" finds more planted
    flips than the margin to the most probable other class (benchmarks/planted.py).

    probabilities float (N, K); labels int (N,), −1 where unknown: never flagged, with a suspicion of 0. A class
    without any label has the threshold 1.
    """
    probabilities = np.asarray(probabilities, np.float64)
    count, num_classes = probabilities.shape
    if labels.shape != (count,) or (count and labels.max() >= num_classes):
        raise ValueError(f"labels must be ({count},) and below {num_classes}")
    known = labels >= 0
    rows = np.arange(count)
    thresholds = np.array(
        [probabilities[labels == j, j].mean() if (labels == j).any() else 1.0 for j in range(num_classes)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1)  # (N, K)
    sure, taken_for = confident.max(axis=1) >= 0, confident.argmax(axis=1)
    counted = known & sure
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels[counted], taken_for[counted]), 1)
    return Suspicion(
        suspicion=np.where(known, 1 - probabilities[rows, labels], 0).astype(np.float32),
        flagged=counted & (taken_for != labels),
        suggested=probabilities.argmax(axis=1),
        confusion=confusion,
        thresholds=thresholds,
    )


def among(classes: Sequence[str], named: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """Columns for ``classes`` out of columns (N, M) for ``named``, each row summing to 1 again; all must be among them."""
    chosen = in_order_of(probabilities, named, classes)
    return chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12)


def read_probabilities(path: Path, faces: FaceSet) -> np.ndarray:
    """float32 (N, K) for every face from a CSV as `mien predict` writes it; unlabeled faces may be absent from it.

    Raises DataError where a labeled face or a class is absent, or a value is no probability.
    """
    hint = "write it with 'mien predict' on the same data"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            named = [column[2:] for column in reader.fieldnames or () if column.startswith("p_")]
            absent = [name for name in faces.classes if name not in named]
            if absent or "path" not in (reader.fieldnames or ()):
                raise DataError(path, f"has no column '{'path' if not absent else f'p_{absent[0]}'}'", hint)
            rows = {
                unescape_formula(row["path"]): [float(row[f"p_{name}"] or "nan") for name in named] for row in reader
            }
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise DataError(path, f"is not a CSV of probabilities ({error})", hint) from error
    missing = [
        name for name, known in zip(faces.names.tolist(), faces.is_labeled, strict=True) if known and name not in rows
    ]
    if missing:
        raise DataError(path, f"has no row for {len(missing):,} of the faces, '{missing[0]}' first", hint)
    even = [1 / len(named)] * len(named)
    values = np.array([rows.get(name, even) for name in faces.names.tolist()], np.float32)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()):
        raise DataError(path, "has values that are no probabilities", hint)
    return among(faces.classes, named, values)
