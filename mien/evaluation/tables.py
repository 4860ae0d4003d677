"""Scores as text and files, and the predictions CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mien.core.csv_cells import CsvWriter
from mien.core.files import replace_file, write_json, write_text
from mien.core.types import FaceSet
from mien.evaluation.calibration import measure_reliability
from mien.evaluation.measures import replace_nan
from mien.evaluation.metrics import Scores
from mien.evaluation.reports.curves import draw_figure, plot_coverage
from mien.evaluation.reports.figures import draw_confusion
from mien.evaluation.selective import measure_threshold, risk_coverage


def format_scores(scores: Scores) -> str:
    """Format accuracy and macro-F1 with 95 % intervals, a line for each class, and the confusion matrix in counts and rates."""
    low, high = scores.accuracy_interval
    f1_low, f1_high = scores.macro_f1_interval
    width = max(map(len, scores.classes))
    lines = [
        f"accuracy  {scores.accuracy:.2%}  (95 % interval {low:.2%} to {high:.2%})",
        f"macro-F1  {scores.macro_f1:.4f}  ({f1_low:.4f} to {f1_high:.4f})",
        *_format_absent_classes(scores),
        f"log loss  {scores.log_loss:.4f}",
        f"faces     {scores.count:,}",
        "",
        f"{'class':<{width}}  precision  recall      f1  support",
    ]
    lines += [
        f"{row['class']:<{width}}  {row['precision']:>9.3f}  {row['recall']:>6.3f}  {row['f1']:>6.3f}  {row['support']:>7,}"
        for row in scores.per_class()
    ]
    for title, matrix, form in (
        ("faces", scores.confusion, "{:,}"),
        ("share of the true class", scores.confusion_rates, "{:.2f}"),
    ):
        cells = [[form.format(value) for value in row] for row in matrix.tolist()]
        columns = [max(len(name), *(len(row[index]) for row in cells)) for index, name in enumerate(scores.classes)]
        lines += ["", f"true \\ predicted, {title}"]
        lines += [
            " " * width + "  " + "  ".join(name.rjust(size) for name, size in zip(scores.classes, columns, strict=True))
        ]
        lines += [
            f"{name:<{width}}  " + "  ".join(cell.rjust(size) for cell, size in zip(row, columns, strict=True))
            for name, row in zip(scores.classes, cells, strict=True)
        ]
    return "\n".join(lines) + "\n"


def _format_absent_classes(scores: Scores) -> list[str]:
    """Return a line about classes without faces. Macro-F1 includes those that are predicted."""
    if not scores.absent_classes:
        return []
    counted = [name for name in scores.absent_classes if scores.confusion[:, scores.classes.index(name)].any()]
    effect = f"counts {', '.join(counted)} as 0" if counted else "leaves them out"
    mean = f"; {scores.macro_f1_of_present:.4f} over the classes with faces" if counted else ""
    return [f"          no faces of {', '.join(scores.absent_classes)}: macro-F1 {effect}{mean}"]


def write_scores(
    folder: Path,
    scores: Scores,
    title: str,
    facts: dict[str, Any],
    answers: tuple[np.ndarray, np.ndarray] | None = None,
    unsure_below: float | None = None,
) -> dict[str, Any]:
    """Write scores.json (``facts`` first, then the scores), scores.txt and confusion.png. Returns the values of the JSON.

    ``answers`` are the probabilities float (N, K) and labels int (N,) that were scored. With them, the files include
    calibration and risk-coverage, and coverage.png is written. ``unsure_below`` is the threshold of the model.
    """
    values, text = facts | scores.to_json(), f"{title}\n\n{format_scores(scores)}"
    if answers is not None:
        uncertainty = measure_uncertainty(*answers, unsure_below)
        values, text = replace_nan(values | uncertainty), f"{text}\n{format_uncertainty(uncertainty)}"
        draw_figure(plot_coverage(risk_coverage(*answers), unsure_below), folder / "coverage.png")
    write_json(folder / "scores.json", values)
    write_text(folder / "scores.txt", text)
    draw_confusion(scores, folder / "confusion.png", title)
    return values


def measure_uncertainty(probabilities: np.ndarray, labels: np.ndarray, unsure_below: float | None) -> dict[str, Any]:
    """Measure the calibration error, the risk-coverage area, and coverage and accuracy at the threshold."""
    values: dict[str, Any] = {
        "expected_calibration_error": measure_reliability(probabilities, labels).calibration_error,
        "risk_coverage_area": risk_coverage(probabilities, labels).area,
        "unsure": None,
    }
    if unsure_below is not None:
        left = measure_threshold(probabilities, labels, unsure_below)
        values["unsure"] = {"below": unsure_below, "answered": left.coverage, "right": left.accuracy}
    return values


def format_uncertainty(values: dict[str, Any]) -> str:
    """Format the values of `measure_uncertainty` as text."""
    lines = [
        f"calibration error   {values['expected_calibration_error']:.2%}  (15 bins)",
        f"risk-coverage area  {values['risk_coverage_area']:.4f}",
    ]
    if values["unsure"]:
        below, answered, right = values["unsure"].values()
        share = "none of the faces" if not answered else f"{answered:.1%} of the faces, {right:.2%} of them right"
        lines.append(f"sure from {below:.3f} on   {share}")
    return "\n".join(lines) + "\n"


def write_predictions(faces: FaceSet, probabilities: np.ndarray, labels: tuple[str, ...], path: Path) -> None:
    """Write ``path,label[,truth],p_<class>...`` in input order, with ``truth`` if the label of any face is known.

    probabilities float (N, K) in the order of ``labels``, the classes of the model. The truth is a class of the data.
    """
    known = bool(faces.is_labeled.any())
    with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file)
        writer.writerow(["path", "label", *(["truth"] if known else []), *(f"p_{name}" for name in labels)])
        for name, truth, row in zip(faces.names, faces.labels, probabilities, strict=True):
            truths = [faces.classes[truth] if truth >= 0 else ""] if known else []
            writer.writerow([name, labels[int(row.argmax())], *truths, *(f"{value:.6f}" for value in row)])
