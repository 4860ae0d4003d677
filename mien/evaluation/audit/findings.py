"""What is wrong with a data set: findings about each picture, their counts, and CSVs that `--exclude` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.csv_cells import CsvWriter
from mien.core.files import replace_file
from mien.core.labels import FERPLUS_VOTES
from mien.core.types import FaceSet
from mien.data.duplicates import BLANK, Twins, contradicting, deviations, kept_instead, leaked
from mien.evaluation.audit.label_errors import Suspicion

#: Of ten FER+ raters so many say that a picture is no face.
RATERS = 5
#: Robust deviations from the median beyond which brightness, contrast or sharpness is odd (twice the usual 3.5 of
#: Iglewicz & Hoaglin, "How to detect and handle outliers", 1993, as pictures of faces are spread more widely than a normal law).
ODD = 7.0
_LEAST = 50  # pictures without which nothing can be said to be usual

#: What is written, each with the column ``path``.
TABLES = ("audit.csv", "duplicates.csv", "leaked.csv", "nonfaces.csv", "labels.csv")
COLUMNS = ("path", "split", "label", "reasons", "twin", "twin_split", "similarity", "twin_label",
           "not_a_face", "oddity", "suspicion", "suggested")  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What an audit found among N faces.

    kept            int64 (N,): the twin that stays instead of a row that should be left out, −1 where the row stays
    similarity      float32 (N,): of the row and its nearest twin, 0 where it has none
    leaked          bool (N,): validation and test rows with a training twin
    blank           bool (N,)
    nonface_score   float32 (N,): log odds that it is no face, or None where this was not looked at
    not_a_face      bool (N,): by the score or by FER+'s raters
    oddity          str (N,): in which way its light or sharpness is odd, "" where it is not
    suspicion       of the labels, or None where no probabilities were at hand
    suspicious      bool (N,): labels that are probably wrong
    left_out        what was not looked at, and why
    """

    faces: FaceSet
    twins: Twins
    kept: np.ndarray
    similarity: np.ndarray
    leaked: np.ndarray
    blank: np.ndarray
    nonface_score: np.ndarray | None
    not_a_face: np.ndarray
    oddity: np.ndarray
    suspicion: Suspicion | None
    suspicious: np.ndarray
    left_out: tuple[str, ...] = ()

    def reasons(self) -> dict[str, np.ndarray]:
        """bool (N,) for each reason to leave rows out."""
        return {
            "duplicate": self.kept >= 0,
            "blank": self.blank,
            "not-a-face": self.not_a_face,
            "odd": self.oddity != "",
            "label": self.suspicious,
        }

    def counts(self) -> dict[str, Any]:
        """Every figure of the audit, as plain values."""
        faces, twins = self.faces, self.twins
        across = [group for group in twins.groups if len(np.unique(faces.split[group])) > 1]
        contradictory = [group for group in twins.groups if contradicting(faces, group)]
        one_pixelwise = connected_exact(twins, len(faces))
        values: dict[str, Any] = {
            "faces": len(faces),
            "splits": {name or "(none)": int((faces.split == name).sum()) for name in faces.splits},
            "classes": dict(zip(faces.classes, faces.class_counts().tolist(), strict=True)),
            "groups": _group_counts(faces, twins.groups),
            "exact_groups": _group_counts(faces, one_pixelwise),
            "near_pairs": int((~twins.exact).sum()),
            "mirrored_pairs": int(twins.mirrored.sum()),
            "contradictory_groups": len(contradictory),
            "contradictory_rows": int(sum(map(len, contradictory))),
            "groups_across_splits": len(across),
            "leaked": {name: int(self.leaked[faces.split == name].sum()) for name in faces.splits},
            **{reason: int(mask.sum()) for reason, mask in self.reasons().items()},
            "left_out": list(self.left_out),
        }
        if self.suspicion is not None:
            values["labels_flagged"] = int(self.suspicion.flagged.sum())
            right = self.suspicion.suggested == faces.labels
            values["out_of_fold_accuracy"] = float(right[faces.is_labeled].mean())
        return values


def connected_exact(twins: Twins, count: int) -> tuple[np.ndarray, ...]:
    """The groups that exact twins alone form."""
    from mien.data.duplicates import connected

    return connected(count, twins.pairs[twins.exact])


def examine(
    faces: FaceSet,
    twins: Twins,
    *,
    nonface_score: np.ndarray | None = None,
    suspicion: Suspicion | None = None,
    share: float = 0.05,
    left_out: tuple[str, ...] = (),
) -> Findings:
    """All findings together.

    nonface_score (N,) of mien.evaluation.audit.non_faces; suspicion of mien.evaluation.audit.label_errors. Of the labels that it flags the
    most suspicious are taken, at most ``share`` of all labels.
    """
    blank = deviations(faces.images) < BLANK
    stranger = np.zeros(len(faces), bool) if nonface_score is None else (nonface_score > 0) & ~blank
    if faces.votes is not None:
        stranger |= (faces.votes[:, FERPLUS_VOTES.index("not_a_face")] >= RATERS) & ~blank
    suspicious = np.zeros(len(faces), bool)
    if suspicion is not None:
        flagged = np.flatnonzero(suspicion.flagged)
        most = flagged[np.argsort(-suspicion.suspicion[flagged], kind="stable")]
        suspicious[most[: round(share * int(faces.is_labeled.sum()))]] = True
    similarity = np.zeros(len(faces), np.float32)
    for column in (0, 1):
        np.maximum.at(similarity, twins.pairs[:, column], twins.similarity)
    return Findings(
        faces=faces,
        twins=twins,
        kept=kept_instead(faces, twins),
        similarity=similarity,
        leaked=leaked(faces, twins),
        blank=blank,
        nonface_score=nonface_score,
        not_a_face=stranger,
        oddity=oddities(faces.images, ~blank),
        suspicion=suspicion,
        suspicious=suspicious,
        left_out=left_out,
    )


def oddities(images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """str (N,): "dark", "bright", "flat" (little contrast), "hard", "blurred" or "noisy", "" for pictures like the others.

    Brightness is the mean, contrast the deviation, sharpness the mean difference of neighboring pixels over the
    contrast; the last two on a log scale. Odd is what lies ODD robust deviations (1.4826 × the median absolute
    deviation) from the median of the pictures of ``which``, bool (N,).
    """
    pictures = images.reshape(len(images), -1)
    contrast = np.maximum(deviations(images), 0.5)
    steps = [np.abs(np.diff(images.astype(np.int16), axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    measures = (
        (pictures.mean(axis=1), "dark", "bright"),
        (np.log(contrast), "flat", "hard"),
        (np.log(np.maximum(steps[0] + steps[1], 0.01) / contrast), "blurred", "noisy"),
    )
    if which.sum() < _LEAST:
        return np.full(len(images), "", dtype="<U8")
    found, furthest = np.full(len(images), "", dtype="<U8"), np.full(len(images), ODD)
    for values, low, high in measures:
        median = np.median(values[which])
        spread = max(1.4826 * np.median(np.abs(values[which] - median)), 1e-6)
        distance = (values - median) / spread
        odd = which & (np.abs(distance) > furthest)
        found[odd] = np.where(distance[odd] < 0, low, high)
        furthest[odd] = np.abs(distance[odd])
    return found


def write_tables(findings: Findings, folder: Path) -> list[Path]:
    """audit.csv with every row that has a finding, and one CSV a kind; labels.csv only where labels were judged."""
    reasons = findings.reasons()
    masks = [
        np.any(list(reasons.values()), axis=0),
        reasons["duplicate"],
        findings.leaked,
        reasons["blank"] | reasons["not-a-face"],
    ]
    if findings.suspicion is not None:
        masks.append(findings.suspicion.flagged | findings.suspicious)
    tables = dict(zip(TABLES, masks, strict=False))
    for name, mask in tables.items():
        rows = np.flatnonzero(mask)
        if name == "labels.csv" and findings.suspicion is not None:
            rows = rows[np.argsort(-findings.suspicion.suspicion[rows], kind="stable")]
        with replace_file(folder / name) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = CsvWriter(file)
            writer.writerow(COLUMNS)
            writer.writerows(_row(findings, reasons, int(row)) for row in rows)
    return [folder / name for name in tables]


def _row(findings: Findings, reasons: dict[str, np.ndarray], row: int) -> list[Any]:
    faces, twin = findings.faces, int(findings.kept[row])
    has_twin, judged = twin >= 0, findings.suspicion if faces.labels[row] >= 0 else None
    score = None if findings.nonface_score is None else findings.nonface_score[row]
    return [
        faces.names[row],
        faces.split[row],
        label_name(faces, row),
        ";".join(reason for reason, mask in reasons.items() if mask[row]),
        faces.names[twin] if has_twin else "",
        faces.split[twin] if has_twin else "",
        f"{findings.similarity[row]:.4f}" if findings.similarity[row] else "",
        label_name(faces, twin) if has_twin else "",
        "" if score is None else f"{score:.2f}",
        findings.oddity[row],
        "" if judged is None else f"{judged.suspicion[row]:.4f}",
        "" if judged is None else faces.classes[judged.suggested[row]],
    ]


def label_name(faces: FaceSet, row: int) -> str:
    """The class of a row, "" where it is unknown."""
    return faces.classes[faces.labels[row]] if faces.labels[row] >= 0 else ""


def _group_counts(faces: FaceSet, groups: tuple[np.ndarray, ...]) -> dict[str, int]:
    across = [group for group in groups if len(np.unique(faces.split[group])) > 1]
    against = [group for group in groups if contradicting(faces, group)]
    return {
        "groups": len(groups),
        "rows": int(sum(map(len, groups))),
        "surplus": int(sum(len(group) - 1 for group in groups)),
        "within_one_split": len(groups) - len(across),
        "across_splits": len(across),
        "contradictory": len(against),
    }
