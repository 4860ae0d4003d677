"""Problems of a data set: findings about each picture, their counts, and CSV files that the parameter `exclude` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.csv_cells import CsvWriter
from mien.core.files import replace_file
from mien.core.labels import FERPLUS_VOTES
from mien.core.types import FaceSet
from mien.data.duplicates import (
    BLANK_DEVIATION,
    Duplicates,
    choose_originals,
    compute_deviations,
    find_leaked,
    has_label_conflict,
)
from mien.evaluation.audit.label_errors import LabelErrors

#: A picture is no face if at least this many of the ten FER+ annotators say so.
MIN_NON_FACE_VOTES = 5
#: Brightness, contrast or sharpness is an outlier beyond this many robust deviations from the median. Twice the usual 3.5
#: (Iglewicz & Hoaglin, "How to detect and handle outliers", 1993), since faces vary more than a normal distribution.
OUTLIER_DEVIATIONS = 7.0
_MIN_PICTURES = 50  # of fewer pictures, no outliers are reported

#: The CSV files that are written. Each has the column ``path``.
TABLES = ("audit.csv", "duplicates.csv", "leaked.csv", "nonfaces.csv", "labels.csv")
COLUMNS = ("path", "split", "label", "reasons", "duplicate_of", "duplicate_of_split", "similarity",
           "duplicate_of_label", "not_a_face", "outlier", "label_error", "suggested_label")  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What an audit found among N faces.

    duplicates      the pairs and groups of duplicates
    duplicate_of    int64 (N,): the row that is kept instead of this one, −1 where this row is kept
    similarity      float32 (N,): correlation with the most similar duplicate, 0 without one
    is_leaked       bool (N,): validation and test rows that have a duplicate in the training split
    is_blank        bool (N,): pictures of one gray
    nonface_score   float32 (N,): log odds that the picture is no face, or None if this was not checked
    is_not_a_face   bool (N,): by the score or by the FER+ annotators
    outlier         str (N,): how lighting or sharpness differs ("dark", "blurred", ...), "" for ordinary pictures
    label_errors    probable label errors, or None without out-of-fold probabilities
    has_label_error bool (N,): labels that are probably wrong
    skipped_checks  checks that were not made, with the reason
    """

    faces: FaceSet
    duplicates: Duplicates
    duplicate_of: np.ndarray
    similarity: np.ndarray
    is_leaked: np.ndarray
    is_blank: np.ndarray
    nonface_score: np.ndarray | None
    is_not_a_face: np.ndarray
    outlier: np.ndarray
    label_errors: LabelErrors | None
    has_label_error: np.ndarray
    skipped_checks: tuple[str, ...] = ()

    def reasons(self) -> dict[str, np.ndarray]:
        """Return a mask bool (N,) for each reason to exclude rows."""
        return {
            "duplicate": self.duplicate_of >= 0,
            "blank": self.is_blank,
            "not-a-face": self.is_not_a_face,
            "outlier": self.outlier != "",
            "label-error": self.has_label_error,
        }

    def counts(self) -> dict[str, Any]:
        """Return all numbers of the audit as JSON has them."""
        faces, duplicates = self.faces, self.duplicates
        across = [group for group in duplicates.groups if len(np.unique(faces.split[group])) > 1]
        contradictory = [group for group in duplicates.groups if has_label_conflict(faces, group)]
        exact_groups = group_exact_duplicates(duplicates, len(faces))
        values: dict[str, Any] = {
            "faces": len(faces),
            "splits": {name or "(none)": int((faces.split == name).sum()) for name in faces.splits},
            "classes": dict(zip(faces.classes, faces.class_counts().tolist(), strict=True)),
            "groups": _count_groups(faces, duplicates.groups),
            "exact_groups": _count_groups(faces, exact_groups),
            "near_pairs": int((~duplicates.is_exact).sum()),
            "mirrored_pairs": int(duplicates.is_mirrored.sum()),
            "contradictory_groups": len(contradictory),
            "contradictory_rows": int(sum(map(len, contradictory))),
            "groups_across_splits": len(across),
            "leaked": {name: int(self.is_leaked[faces.split == name].sum()) for name in faces.splits},
            **{reason: int(mask.sum()) for reason, mask in self.reasons().items()},
            "skipped_checks": list(self.skipped_checks),
        }
        if self.label_errors is not None:
            values["labels_flagged"] = int(self.label_errors.is_flagged.sum())
            right = self.label_errors.suggested == faces.labels
            values["out_of_fold_accuracy"] = float(right[faces.is_labeled].mean())
        return values


def group_exact_duplicates(duplicates: Duplicates, count: int) -> tuple[np.ndarray, ...]:
    """Return the groups of exact duplicates, each int64 (M,) rows; ``count`` is the number of all rows."""
    from mien.data.duplicates import connected_components

    return connected_components(count, duplicates.pairs[duplicates.is_exact])


def collect_findings(
    faces: FaceSet,
    duplicates: Duplicates,
    *,
    nonface_score: np.ndarray | None = None,
    label_errors: LabelErrors | None = None,
    share: float = 0.05,
    skipped_checks: tuple[str, ...] = (),
) -> Findings:
    """Combine the results of all checks.

    Args:
        nonface_score: float32 (N,), from mien.evaluation.audit.non_faces.
        label_errors: from mien.evaluation.audit.label_errors. The flagged labels with the highest score are taken.
        share: upper limit of the labels that are taken, as a share of all labels.
        skipped_checks: checks that were not made, with the reason.
    """
    blank = compute_deviations(faces.images) < BLANK_DEVIATION
    is_not_a_face = np.zeros(len(faces), bool) if nonface_score is None else (nonface_score > 0) & ~blank
    if faces.votes is not None:
        is_not_a_face |= (faces.votes[:, FERPLUS_VOTES.index("not_a_face")] >= MIN_NON_FACE_VOTES) & ~blank
    has_label_error = np.zeros(len(faces), bool)
    if label_errors is not None:
        flagged = np.flatnonzero(label_errors.is_flagged)
        most = flagged[np.argsort(-label_errors.error_score[flagged], kind="stable")]
        has_label_error[most[: round(share * int(faces.is_labeled.sum()))]] = True
    similarity = np.zeros(len(faces), np.float32)
    for column in (0, 1):
        np.maximum.at(similarity, duplicates.pairs[:, column], duplicates.similarity)
    return Findings(
        faces=faces,
        duplicates=duplicates,
        duplicate_of=choose_originals(faces, duplicates),
        similarity=similarity,
        is_leaked=find_leaked(faces, duplicates),
        is_blank=blank,
        nonface_score=nonface_score,
        is_not_a_face=is_not_a_face,
        outlier=find_outliers(faces.images, ~blank),
        label_errors=label_errors,
        has_label_error=has_label_error,
        skipped_checks=skipped_checks,
    )


def find_outliers(images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Find pictures of unusual brightness, contrast or sharpness.

    Brightness is the mean of the gray levels, contrast their deviation, and sharpness the mean difference of neighboring
    pixels divided by the contrast. Contrast and sharpness are compared on a log scale. A picture is an outlier if it lies
    OUTLIER_DEVIATIONS robust deviations (1.4826 × the median absolute deviation) from the median.

    Args:
        images: uint8 (N, H, W).
        which: bool (N,), the pictures that are compared.

    Returns:
        str (N,): "dark", "bright", "flat" (low contrast), "hard" (high contrast), "blurred", "noisy", or "".
    """
    pictures = images.reshape(len(images), -1)
    contrast = np.maximum(compute_deviations(images), 0.5)
    steps = [np.abs(np.diff(images.astype(np.int16), axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    measures = (
        (pictures.mean(axis=1), "dark", "bright"),
        (np.log(contrast), "flat", "hard"),
        (np.log(np.maximum(steps[0] + steps[1], 0.01) / contrast), "blurred", "noisy"),
    )
    if which.sum() < _MIN_PICTURES:
        return np.full(len(images), "", dtype="<U8")
    kinds, furthest = np.full(len(images), "", dtype="<U8"), np.full(len(images), OUTLIER_DEVIATIONS)
    for values, low, high in measures:
        median = np.median(values[which])
        spread = max(1.4826 * np.median(np.abs(values[which] - median)), 1e-6)
        distance = (values - median) / spread
        is_outlier = which & (np.abs(distance) > furthest)
        kinds[is_outlier] = np.where(distance[is_outlier] < 0, low, high)
        furthest[is_outlier] = np.abs(distance[is_outlier])
    return kinds


def write_tables(findings: Findings, folder: Path) -> list[Path]:
    """Write audit.csv with every row that has a finding, and one CSV for each kind. Return the paths.

    labels.csv is written only if labels were checked.
    """
    reasons = findings.reasons()
    masks = [
        np.any(list(reasons.values()), axis=0),
        reasons["duplicate"],
        findings.is_leaked,
        reasons["blank"] | reasons["not-a-face"],
    ]
    if findings.label_errors is not None:
        masks.append(findings.label_errors.is_flagged | findings.has_label_error)
    tables = dict(zip(TABLES, masks, strict=False))
    for name, mask in tables.items():
        rows = np.flatnonzero(mask)
        if name == "labels.csv" and findings.label_errors is not None:
            rows = rows[np.argsort(-findings.label_errors.error_score[rows], kind="stable")]
        with replace_file(folder / name) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = CsvWriter(file)
            writer.writerow(COLUMNS)
            writer.writerows(_table_row(findings, reasons, int(row)) for row in rows)
    return [folder / name for name in tables]


def _table_row(findings: Findings, reasons: dict[str, np.ndarray], row: int) -> list[Any]:
    faces, original = findings.faces, int(findings.duplicate_of[row])
    has_original, judged = original >= 0, findings.label_errors if faces.labels[row] >= 0 else None
    score = None if findings.nonface_score is None else findings.nonface_score[row]
    return [
        faces.names[row],
        faces.split[row],
        get_label_name(faces, row),
        ";".join(reason for reason, mask in reasons.items() if mask[row]),
        faces.names[original] if has_original else "",
        faces.split[original] if has_original else "",
        f"{findings.similarity[row]:.4f}" if findings.similarity[row] else "",
        get_label_name(faces, original) if has_original else "",
        "" if score is None else f"{score:.2f}",
        findings.outlier[row],
        "" if judged is None else f"{judged.error_score[row]:.4f}",
        "" if judged is None else faces.classes[judged.suggested[row]],
    ]


def get_label_name(faces: FaceSet, row: int) -> str:
    """Return the class name of a row, "" if its label is unknown."""
    return faces.classes[faces.labels[row]] if faces.labels[row] >= 0 else ""


def _count_groups(faces: FaceSet, groups: tuple[np.ndarray, ...]) -> dict[str, int]:
    across = [group for group in groups if len(np.unique(faces.split[group])) > 1]
    contradictory = [group for group in groups if has_label_conflict(faces, group)]
    return {
        "groups": len(groups),
        "rows": int(sum(map(len, groups))),
        "surplus": int(sum(len(group) - 1 for group in groups)),
        "within_one_split": len(groups) - len(across),
        "across_splits": len(across),
        "contradictory": len(contradictory),
    }
