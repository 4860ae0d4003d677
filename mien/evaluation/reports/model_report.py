"""The report of a model: one HTML page with faces and scores, figures as PNG, and all numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import make_folder, write_json, write_text
from mien.core.types import FaceSet
from mien.evaluation.measures import Measures, compute_measures, replace_nan
from mien.evaluation.rater_agreement import AGREEMENT_THRESHOLD, RaterAgreement, compare_with_annotators
from mien.evaluation.reports import curves, page
from mien.evaluation.reports.curves import Figure, draw_figure
from mien.evaluation.reports.figures import draw_confusion
from mien.evaluation.reports.galleries import (
    Saliency,
    faces_per_cell,
    faces_per_group,
    find_confused,
    pick_faces,
    render_faces,
)
from mien.evaluation.reports.page import Section

#: The name of each score on the page, and its meaning.
METRIC_NAMES = {
    "accuracy": ("accuracy", "share of correct predictions"),
    "balanced_accuracy": ("balanced accuracy", "mean recall of the classes"),
    "macro_f1": ("macro-F1", "mean F1 of the classes that occur as label or prediction"),
    "weighted_f1": ("weighted F1", "mean F1 of the classes, weighted by their faces"),
    "cohen_kappa": ("Cohen's kappa", "agreement beyond chance: 0 none, 1 full"),
    "matthews_correlation": ("Matthews correlation", "correlation of label and prediction: 0 none, 1 full"),
    "hamming_distance": ("Hamming distance", "share of wrong predictions"),
    "log_loss": ("log loss", "mean −ln of the probability of the label, in nats"),
    "top_2_accuracy": ("top-2 accuracy", "share of labels among the two most probable classes"),
    "expected_calibration_error": ("expected calibration error", "mean difference of confidence and accuracy, 15 bins"),
}

#: Scores that are shares, shown in percent.
_PERCENT_METRICS = {"accuracy", "balanced_accuracy", "top_2_accuracy", "hamming_distance"}

_UNDEFINED_NOTE = "A ratio with the denominator 0 is 0, as in scikit-learn; — marks an undefined score."


@dataclass(frozen=True)
class TrainingRecall:
    """Predictions for training faces, to compare their recall with that of the measured faces.

    split    name of the training split
    count    number of sampled faces
    total    number of training faces
    matrix   confusion matrix of the sampled faces, int (K, K)
    """

    split: str
    count: int
    total: int
    matrix: np.ndarray


@dataclass(frozen=True)
class Extras:
    """Optional content of a report.

    saliency   rows of faces → saliency maps as pictures, uint8 (n, H', W', 3)
    method     the saliency method in words
    history    rows of the training log, one for each epoch
    training   recall on training faces
    notes      notes for the reader, a sentence each
    """

    saliency: Saliency | None = None
    method: str = ""
    history: Sequence[dict[str, Any]] = ()
    training: TrainingRecall | None = None
    notes: tuple[str, ...] = field(default=())


def write_report(
    folder: Path, title: str, facts: dict[str, Any], faces: FaceSet, probabilities: np.ndarray, extras: Extras
) -> dict[str, Any]:
    """Write report.html, report.json and the figures as PNG to ``folder``. Returns the values of the JSON.

    Args:
        folder: is created if necessary.
        title: title of the page.
        facts: model, data, split and so on; the first values of the JSON.
        faces: labeled faces with the classes of the model.
        probabilities: float (N, K) in the order of these classes.
        extras: optional content.
    """
    make_folder(folder)
    measures = compute_measures(probabilities, faces.labels, faces.classes)
    agreement = (
        None
        if faces.votes is None
        else compare_with_annotators(probabilities, faces.votes, faces.labels, faces.classes)
    )
    draw_confusion(measures.scores, folder / "confusion.png", title)
    sections = [
        _summary_section(folder, measures),
        _faces_section(faces, probabilities, extras),
        _confusions_section(faces, probabilities, measures),
        _scores_section(measures),
        _curves_section(folder, faces, probabilities, measures),
        _confidence_section(folder, measures),
        *([_annotators_section(folder, agreement, faces.classes)] if agreement else []),
        *_training_section(folder, measures, extras),
        Section("How this was measured", _method_html(facts, extras)),
    ]
    values = facts | measures.to_json()
    values["notes"] = list(extras.notes)
    values["rater_agreement"] = agreement.to_json() if agreement else None
    values["training"] = _training_json(extras)
    values = replace_nan(values)
    write_text(
        folder / "report.html", page.render_page(title, _lead_text(measures, extras), sections, footer=_footer_text())
    )
    write_json(folder / "report.json", values)
    return values


def format_value(name: str, value: float, between: tuple[float, float]) -> tuple[str, str]:
    """Format a score and its interval: ("71.2 %", "69.7 to 72.6 %")."""
    if not np.isfinite(value):
        return "—", ""
    if name in _PERCENT_METRICS:
        return f"{100 * value:.1f} %", f"{100 * between[0]:.1f} to {100 * between[1]:.1f} %"
    return f"{value:.3f}", f"{between[0]:.3f} to {between[1]:.3f}"


def _lead_text(measures: Measures, extras: Extras) -> str:
    """Summarize the scores in three sentences."""
    scores = measures.scores
    recalls = {row["class"]: row["recall"] for row in scores.per_class() if row["support"]}
    best, worst = max(recalls, key=recalls.__getitem__), min(recalls, key=recalls.__getitem__)
    text = f"Accuracy {scores.accuracy:.1%} ({scores.count:,} faces)."
    if len(recalls) > 1:
        text += f" Highest recall: {best} ({recalls[best]:.0%}); lowest: {worst} ({recalls[worst]:.0%})."
    mixed = scores.confusion_rates * (1 - np.eye(len(scores.classes)))
    truth, answer = np.unravel_index(mixed.argmax(), mixed.shape)
    if mixed.max() > 0:
        text += f" Most frequent confusion: {scores.classes[truth]} predicted as {scores.classes[answer]} ({mixed.max():.0%})."
    return "\n".join([text.replace("%", " %"), *extras.notes])


def _summary_section(folder: Path, measures: Measures) -> Section:
    recalls = {"recall": _class_recalls(measures.scores.confusion)}
    figure = draw_figure(curves.plot_class_bars(measures.scores.classes, recalls, "Recall of each class"),
                   folder / "recall.png")  # fmt: skip
    facts = [(METRIC_NAMES[name][0], *format_value(name, *measures.overall[name])) for name in METRIC_NAMES]
    return Section(
        "Summary",
        page.render_columns([_figure_html(figure), page.render_cards(facts)]),
        "Below each score is its 95 % interval.",
    )


def _faces_section(faces: FaceSet, probabilities: np.ndarray, extras: Extras) -> Section:
    """Three galleries of faces for each class."""
    count = faces_per_group(len(faces.classes))
    present = np.unique(faces.labels).tolist()
    links = " · ".join(page.render_link(faces.classes[k], f"#faces-{k}") for k in present)
    parts = [f"<p>{links}</p>"]
    for k, picks in enumerate(pick_faces(probabilities, faces.labels, count)):
        if k not in present:
            continue
        parts.append(f'<h3 id="faces-{k}">{page.escape_text(faces.classes[k])}</h3>')
        for what, rows in (("Confident and correct", picks.right), ("Confident and wrong", picks.wrong),
                           ("Least confident", _exclude_rows(picks.unsure, picks.wrong))):  # fmt: skip
            parts.append(f"<h4>{what}</h4>{render_faces(faces, probabilities, rows, extras.saliency)}")
    note = f"For each class: {count} faces with confident correct predictions, confident wrong predictions, and low confidence."
    if extras.saliency:
        note += f" Beside each face: {extras.method}, for the predicted expression."
    return Section("Faces", "\n".join(parts), note)


def _exclude_rows(rows: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the rows that are not in ``shown``, in their order."""
    return rows[~np.isin(rows, shown)]


def _confusions_section(faces: FaceSet, probabilities: np.ndarray, measures: Measures) -> Section:
    """The confusion matrix. A click on a cell opens its faces."""
    matrix, many = measures.scores.confusion, faces_per_cell(len(faces.classes))
    opened = {}
    for i, j in zip(*np.nonzero(matrix), strict=True):
        rows = find_confused(probabilities, faces.labels, i, j, many)
        note = f"<p>The {len(rows)} most confident predictions.</p>" if len(rows) < matrix[i, j] else ""
        opened[int(i), int(j)] = note + render_faces(faces, probabilities, rows)
    body = page.render_confusion(
        faces.classes,
        matrix,
        measures.scores.confusion_rates,
        opened,
        caption="Faces, and their share of the true class",
    )
    return Section("Confusions", body, "Select a cell to see its faces.")


def _scores_section(measures: Measures) -> Section:
    overall = [
        [title, *format_value(name, *measures.overall[name]), meaning]
        for name, (title, meaning) in METRIC_NAMES.items()
    ]
    columns = ["precision", "recall", "specificity", "f1", "accuracy", "roc_auc", "average_precision"]
    heads = ["class", "faces", "precision", "recall", "specificity", "F1", "accuracy", "ROC AUC", "average precision"]
    rows = [
        [row["class"], f"{row['support']:,}", *(_format_cell(row[name], row[f"{name}_interval"]) for name in columns)]
        for row in measures.per_class()
    ]
    return Section(
        "Scores",
        page.render_table(["score", "value", "95 % interval", "meaning"], overall)
        + page.render_table(heads, rows, caption="Each class against the rest, with 95 % intervals"),
        _UNDEFINED_NOTE,
    )


def _curves_section(folder: Path, faces: FaceSet, probabilities: np.ndarray, measures: Measures) -> Section:
    areas, averages = measures.by_class["roc_auc"][0], measures.by_class["average_precision"][0]
    figures = [
        draw_figure(curves.plot_roc(probabilities, faces.labels, faces.classes, areas), folder / "roc.png"),
        draw_figure(curves.plot_precision_recall(probabilities, faces.labels, faces.classes, averages),
              folder / "precision_recall.png"),
    ]  # fmt: skip
    return Section("ROC and precision-recall", page.render_columns([_figure_html(figure) for figure in figures]))


def _confidence_section(folder: Path, measures: Measures) -> Section:
    figures = [
        draw_figure(curves.plot_reliability(measures.reliability), folder / "reliability.png"),
        draw_figure(curves.plot_confidence(measures.confidence), folder / "confidence.png"),
    ]
    rows = [
        [f"{row['threshold']:.2f}", f"{100 * row['coverage']:.1f} %", _format_percent(row["accuracy"])]
        for row in measures.confidence[::2]
    ]
    table = page.render_table(["confidence threshold", "coverage", "accuracy"], rows)
    body = page.render_columns([_figure_html(figure) for figure in figures])
    return Section(
        "Confidence",
        f"{body}<details><summary>As a table</summary>{table}</details>",
        "Of predictions with confidence 0.8, 80 % should be correct. Bars above the dotted line mean underconfidence, bars below "
        "it overconfidence. A higher threshold increases the accuracy and decreases the coverage.",
    )


def _annotators_section(folder: Path, agreement: RaterAgreement, classes: Sequence[str]) -> Section:
    figure = draw_figure(curves.plot_rater_agreement(agreement), folder / "rater_agreement.png")
    facts = [
        (
            f"accuracy if the annotators agree (at least {100 * AGREEMENT_THRESHOLD:.0f} %)",
            *_format_accuracy(agreement.agreed),
        ),
        ("accuracy if they disagree", *_format_accuracy(agreement.disputed)),
        ("predictions equal to the most frequent vote", _format_percent(agreement.majority_accuracy), "without ties"),
        ("labels equal to the most frequent vote", _format_percent(agreement.label_agreement), "without ties"),
        ("divergence from the votes", f"{agreement.divergence:.3f}", "Kullback-Leibler, nats"),
        ("correlation with the votes", f"{agreement.correlation:.3f}", "Pearson, over faces and classes"),
    ]
    correlations = [f"{value:.3f}" if np.isfinite(value) else "—" for value in agreement.class_correlation]
    return Section(
        "Agreement with the annotators",
        page.render_columns([_figure_html(figure), page.render_cards(facts)])
        + page.render_table([*classes], [correlations], caption="Correlation of votes and probabilities by class"),
        f"Ten annotators labeled each face of FER+; {agreement.count:,} of these faces have votes for the classes. If annotators "
        "disagree, no model can agree with all of them. The numbers in the bars count faces.",
    )


def _training_section(folder: Path, measures: Measures, extras: Extras) -> list[Section]:
    parts = []
    if extras.history:
        parts.append(page.render_columns([
            _figure_html(draw_figure(curves.plot_training(extras.history, what), folder / f"training_{what}.png"))
            for what in ("loss", "accuracy")
        ]))  # fmt: skip
    note = ""
    if extras.training is not None:
        part, classes = extras.training, measures.scores.classes
        ours, theirs = _class_recalls(part.matrix), _class_recalls(measures.scores.confusion)
        names = {part.split: ours, "measured here": theirs}
        figure = draw_figure(
            curves.plot_class_bars(classes, names, "Recall of training faces and measured faces"),
            folder / "training_recall.png",
        )
        rows = [
            [
                name,
                _format_percent(a),
                _format_percent(b),
                f"{100 * (a - b):+.1f} points" if np.isfinite(a - b) else "—",
            ]
            for name, a, b in zip(
                [*classes, "all"],
                [*ours, np.trace(part.matrix) / part.count],
                [*theirs, measures.scores.accuracy],
                strict=True,
            )
        ]
        parts.append(
            page.render_columns([_figure_html(figure), page.render_table(["class", *names, "difference"], rows)])
        )
        read = (
            f"{part.count:,} of {part.total:,} faces, stratified"
            if part.count < part.total
            else f"{part.total:,} faces"
        )
        note = f"{part.split}: {read}, not augmented. A large difference means overfitting."
    return [Section("Training", "\n".join(parts), note)] if parts else []


def _class_recalls(matrix: np.ndarray) -> np.ndarray:
    """Return the recall of each class, float (K,); NaN for a class without faces, so that no bar is drawn."""
    support = matrix.sum(axis=1)
    return np.divide(np.diag(matrix), support, out=np.full(len(matrix), np.nan), where=support > 0)


def _training_json(extras: Extras) -> dict[str, Any] | None:
    if extras.training is None:
        return None
    part = extras.training
    return {
        "split": part.split,
        "count": part.count,
        "of": part.total,
        "accuracy": float(np.trace(part.matrix) / part.count),
        "recall": _class_recalls(part.matrix).tolist(),
    }


def _method_html(facts: dict[str, Any], extras: Extras) -> str:
    rows = [[name, ", ".join(value) if isinstance(value, list) else str(value or "—")] for name, value in facts.items()]
    paragraphs = [
        "Accuracy, precision, recall, specificity, F1, kappa, Matthews correlation, log loss, ROC AUC and average precision "
        "are defined as in scikit-learn. " + _UNDEFINED_NOTE,
        "Intervals are bootstrap percentiles (Efron, 1979) of 1,000 draws with replacement (2,000 for accuracy and macro-F1), "
        "with a fixed seed. The calibration error of few faces is biased upwards. Its interval is corrected for the bias "
        "of the bootstrap.",
        *([f"Saliency: {extras.method}."] if extras.method else []),
        "An expression is not an emotional state: the scores are about visible expressions, not about feelings.",
    ]
    return page.render_table(["item", "value"], rows) + "".join(
        f"<p>{page.escape_text(each)}</p>" for each in paragraphs
    )


def _footer_text() -> str:
    from mien import __version__

    return f"Written by mien {__version__}. report.json contains all numbers."


def _figure_html(figure: Figure) -> str:
    return page.render_picture(figure.light, figure.alt, dark=figure.dark)


def _format_percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else "—"


def _format_accuracy(part: dict[str, Any]) -> tuple[str, str]:
    """("79.0 %", "77.2 to 80.6 %, 2,049 faces")."""
    if not part["count"]:
        return "—", "no faces"
    low, high = part["accuracy_interval"]
    return _format_percent(part["accuracy"]), f"{100 * low:.1f} to {100 * high:.1f} %, {part['count']:,} faces"


def _format_cell(value: float, between: Sequence[float]) -> Any:
    """Return a score with its interval below it, for a cell of a table."""
    if not np.isfinite(value):
        return "—"
    return page.render_cell(f"{value:.3f}", f"{between[0]:.2f}–{between[1]:.2f}" if np.isfinite(between[0]) else "")
