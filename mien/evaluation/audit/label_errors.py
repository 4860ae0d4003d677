"""Probable label errors, found with probabilities of models that were not trained on these faces."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.core.csv_cells import unescape_formula
from mien.core.errors import DataError
from mien.core.types import FaceSet
from mien.evaluation.comparison import reorder_columns


@dataclass(frozen=True)
class LabelErrors:
    """Probable errors among N labels, by confident learning.

    error_score      float32 (N,) in 0..1: one minus the probability of the label
    is_flagged       bool (N,): confident learning considers the label wrong
    suggested        int64 (N,): the most probable class
    confident_joint  int64 (K, K): faces with label i that are confidently of class j. Off the diagonal: label errors
    thresholds       float64 (K,): a face is confidently of class j from this probability on
    """

    error_score: np.ndarray
    is_flagged: np.ndarray
    suggested: np.ndarray
    confident_joint: np.ndarray
    thresholds: np.ndarray


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> LabelErrors:
    """Find probable label errors by confident learning.

    Let p_j(x) be the out-of-fold probability of class j for face x, and X_i the faces with label i.
    The threshold of class j is t_j = mean of p_j(x) over X_j, so that a class of low confidence has a low threshold.
    The confident joint C_ij counts the faces x in X_i with p_j(x) ≥ t_j, where j is the most probable such class.
    Faces off its diagonal are flagged (the rule "C_confusion").

    The score is 1 − p_i(x) for the label i ("self-confidence"). With small networks it finds more planted label errors than
    the margin to the most probable other class (benchmarks/planted_errors.py).

    Source: Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021.

    Args:
        probabilities: float (N, K), out of fold.
        labels: int (N,), −1 where unknown. Unknown labels are never flagged and score 0. A class without any label has the
            threshold 1.
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
    is_confident, confident_class = confident.max(axis=1) >= 0, confident.argmax(axis=1)
    counted = known & is_confident
    confident_joint = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confident_joint, (labels[counted], confident_class[counted]), 1)
    return LabelErrors(
        error_score=np.where(known, 1 - probabilities[rows, labels], 0).astype(np.float32),
        is_flagged=counted & (confident_class != labels),
        suggested=probabilities.argmax(axis=1),
        confident_joint=confident_joint,
        thresholds=thresholds,
    )


def select_columns(classes: Sequence[str], columns: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """Select the columns of ``classes`` and normalize each row to the sum 1.

    ``columns`` (M,) are the class names of probabilities (N, M); every class must be among them. Returns float (N, K).
    """
    chosen = reorder_columns(probabilities, columns, classes)
    return chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12)


def read_probabilities(path: Path, faces: FaceSet) -> np.ndarray:
    """Read the probabilities of all faces from a predictions CSV.

    Unlabeled faces may be missing from the file; their probabilities are equal. Returns float32 (N, K).
    Raises DataError if a labeled face or a class is missing, or if a value is no probability.
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
    return select_columns(faces.classes, named, values)
