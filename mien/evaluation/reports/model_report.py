"""A model's report: one HTML file with the faces first and the numbers beside them, its figures as PNG, all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import make_folder, write_json, write_text
from mien.core.types import FaceSet
from mien.evaluation.measures import Measures, compute_measures, replace_nan
from mien.evaluation.rater_agreement import AGREEMENT_THRESHOLD, RaterAgreement, compare_with_raters
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

#: What the page calls each score, and in one line what it is.
METRIC_NAMES = {
    "accuracy": ("accuracy", "share of the faces that are read right"),
    "balanced_accuracy": ("balanced accuracy", "mean recall of the classes, each counting alike"),
    "macro_f1": ("macro-F1", "mean F1 of the classes that occur as truth or as answer"),
    "weighted_f1": ("weighted F1", "mean F1 of the classes, each counting by its faces"),
    "cohen_kappa": ("Cohen's kappa", "agreement beyond chance: 0 none, 1 full"),
    "matthews_correlation": ("Matthews correlation", "correlation of truth and answer: 0 none, 1 full"),
    "hamming_distance": ("Hamming distance", "share of the faces that are read wrong"),
    "log_loss": ("log loss", "mean −ln of the probability given to the truth, in nats"),
    "top_2_accuracy": ("top-2 accuracy", "share with the truth among the two most probable"),
    "expected_calibration_error": ("expected calibration error", "mean gap of confidence and accuracy, 15 bins"),
}

#: Scores that are shares, shown in percent.
_PERCENT_METRICS = {"accuracy", "balanced_accuracy", "top_2_accuracy", "hamming_distance"}

_UNDEFINED_NOTE = "A ratio with nothing below the line is 0 as in scikit-learn; — stands where a score is not defined."


@dataclass(frozen=True)
class TrainingRecall:
    """How well the faces that the model was trained on are read, to hold against the measured ones.

    split    their split's name
    count    how many were read; ``of`` how many there are
    matrix   their confusion matrix (K, K)
    """

    split: str
    count: int
    total: int
    matrix: np.ndarray


@dataclass(frozen=True)
class Extras:
    """What a report shows where it is known.

    saliency   rows of the faces → pictures of what the model looked at, uint8 (n, H', W', 3)
    method     what the saliency is, in words
    history    rows of the training log, one an epoch
    training   recall on training faces
    notes      what the reader must know, a sentence each
    """

    saliency: Saliency | None = None
    method: str = ""
    history: Sequence[dict[str, Any]] = ()
    training: TrainingRecall | None = None
    notes: tuple[str, ...] = field(default=())


def write_report(
    folder: Path, title: str, facts: dict[str, Any], faces: FaceSet, probabilities: np.ndarray, extras: Extras
) -> dict[str, Any]:
    """report.html, report.json and the figures as PNG in ``folder``; returns what the JSON holds.

    faces: all labeled, classes as the model knows them; probabilities float (N, K) in that order. ``facts`` (model,
    data, split, ...) come first in the JSON.
    """
    make_folder(folder)
    found = compute_measures(probabilities, faces.labels, faces.classes)
    raters = (
        None if faces.votes is None else compare_with_raters(probabilities, faces.votes, faces.labels, faces.classes)
    )
    draw_confusion(found.scores, folder / "confusion.png", title)
    sections = [
        _summary_section(folder, found),
        _faces_section(faces, probabilities, extras),
        _confusions_section(faces, probabilities, found),
        _scores_section(found),
        _curves_section(folder, faces, probabilities, found),
        _confidence_section(folder, found),
        *([_raters_section(folder, raters, faces.classes)] if raters else []),
        *_training_section(folder, found, extras),
        Section("How this was measured", _method_html(facts, extras)),
    ]
    values = facts | found.to_json()
    values["notes"] = list(extras.notes)
    values["rater_agreement"] = raters.to_json() if raters else None
    values["training"] = _training_json(extras)
    values = replace_nan(values)
    write_text(
        folder / "report.html", page.render_page(title, _lead_text(found, extras), sections, footer=_footer_text())
    )
    write_json(folder / "report.json", values)
    return values


def format_value(name: str, value: float, between: tuple[float, float]) -> tuple[str, str]:
    """("71.2 %", "69.7 to 72.6 %"), as a page shows a score."""
    if not np.isfinite(value):
        return "—", ""
    if name in _PERCENT_METRICS:
        return f"{100 * value:.1f} %", f"{100 * between[0]:.1f} to {100 * between[1]:.1f} %"
    return f"{value:.3f}", f"{between[0]:.3f} to {between[1]:.3f}"


def _lead_text(found: Measures, extras: Extras) -> str:
    """What the numbers say, in three sentences."""
    scores = found.scores
    recalls = {row["class"]: row["recall"] for row in scores.per_class() if row["support"]}
    best, worst = max(recalls, key=recalls.__getitem__), min(recalls, key=recalls.__getitem__)
    text = f"{scores.accuracy:.1%} of {scores.count:,} faces are read right."
    if len(recalls) > 1:
        text += f" Read best: {best} ({recalls[best]:.0%}); worst: {worst} ({recalls[worst]:.0%})."
    mixed = scores.confusion_rates * (1 - np.eye(len(scores.classes)))
    truth, answer = np.unravel_index(mixed.argmax(), mixed.shape)
    if mixed.max() > 0:
        text += (
            f" Most often mixed up: {scores.classes[truth]} is taken for {scores.classes[answer]} ({mixed.max():.0%})."
        )
    return "\n".join([text.replace("%", " %"), *extras.notes])


def _summary_section(folder: Path, found: Measures) -> Section:
    recalls = {"recall": _class_recalls(found.scores.confusion)}
    figure = draw_figure(curves.plot_class_bars(found.scores.classes, recalls, "Faces of each class that are found"),
                   folder / "recall.png")  # fmt: skip
    facts = [(METRIC_NAMES[name][0], *format_value(name, *found.overall[name])) for name in METRIC_NAMES]
    return Section(
        "In short",
        page.render_columns([_figure_html(figure), page.render_cards(facts)]),
        "Below each score: its 95 % interval.",
    )


def _faces_section(faces: FaceSet, probabilities: np.ndarray, extras: Extras) -> Section:
    """Three strips of faces for every class."""
    count = faces_per_group(len(faces.classes))
    present = np.unique(faces.labels).tolist()
    links = " · ".join(page.render_link(faces.classes[k], f"#faces-{k}") for k in present)
    parts = [f"<p>{links}</p>"]
    for k, picks in enumerate(pick_faces(probabilities, faces.labels, count)):
        if k not in present:
            continue
        parts.append(f'<h3 id="faces-{k}">{page.escape_text(faces.classes[k])}</h3>')
        for what, rows in (("Surest and right", picks.right), ("Surest and wrong", picks.wrong),
                           ("Least sure", _exclude_rows(picks.unsure, picks.wrong))):  # fmt: skip
            parts.append(f"<h4>{what}</h4>{render_faces(faces, probabilities, rows, extras.saliency)}")
    note = f"Of every class: the {count} that the model is surest of and right, surest of and wrong, and least sure of."
    if extras.saliency:
        note += f" Beside each face: {extras.method}, for the expression that the model named."
    return Section("Faces", "\n".join(parts), note)


def _exclude_rows(rows: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The rows, in their order, that are not shown already."""
    return rows[~np.isin(rows, shown)]


def _confusions_section(faces: FaceSet, probabilities: np.ndarray, found: Measures) -> Section:
    """The confusion matrix, whose cells open the faces behind them."""
    matrix, many = found.scores.confusion, faces_per_cell(len(faces.classes))
    opened = {}
    for i, j in zip(*np.nonzero(matrix), strict=True):
        rows = find_confused(probabilities, faces.labels, i, j, many)
        note = f"<p>The {len(rows)} that the model is surest of.</p>" if len(rows) < matrix[i, j] else ""
        opened[int(i), int(j)] = note + render_faces(faces, probabilities, rows)
    body = page.render_confusion(
        faces.classes, matrix, found.scores.confusion_rates, opened, caption="Faces, and their share of the label"
    )
    return Section("Confusions", body, "Choose a cell to see the faces behind it.")


def _scores_section(found: Measures) -> Section:
    overall = [
        [title, *format_value(name, *found.overall[name]), meaning] for name, (title, meaning) in METRIC_NAMES.items()
    ]
    columns = ["precision", "recall", "specificity", "f1", "accuracy", "roc_auc", "average_precision"]
    heads = ["class", "faces", "precision", "recall", "specificity", "F1", "accuracy", "ROC AUC", "average precision"]
    rows = [
        [row["class"], f"{row['support']:,}", *(_format_cell(row[name], row[f"{name}_interval"]) for name in columns)]
        for row in found.per_class()
    ]
    return Section(
        "Scores",
        page.render_table(["score", "value", "95 % interval", "what it is"], overall)
        + page.render_table(heads, rows, caption="Each class against the rest, with 95 % intervals"),
        _UNDEFINED_NOTE,
    )


def _curves_section(folder: Path, faces: FaceSet, probabilities: np.ndarray, found: Measures) -> Section:
    areas, averages = found.by_class["roc_auc"][0], found.by_class["average_precision"][0]
    figures = [
        draw_figure(curves.plot_roc(probabilities, faces.labels, faces.classes, areas), folder / "roc.png"),
        draw_figure(curves.plot_precision_recall(probabilities, faces.labels, faces.classes, averages),
              folder / "precision_recall.png"),
    ]  # fmt: skip
    return Section("ROC and precision-recall", page.render_columns([_figure_html(figure) for figure in figures]))


def _confidence_section(folder: Path, found: Measures) -> Section:
    figures = [
        draw_figure(curves.plot_reliability(found.reliability), folder / "reliability.png"),
        draw_figure(curves.plot_confidence(found.confidence), folder / "confidence.png"),
    ]
    rows = [
        [f"{row['threshold']:.2f}", f"{100 * row['coverage']:.1f} %", _format_percent(row["accuracy"])]
        for row in found.confidence[::2]
    ]
    table = page.render_table(["confidence at least", "faces answered", "accuracy"], rows)
    body = page.render_columns([_figure_html(figure) for figure in figures])
    return Section(
        "Confidence",
        f"{body}<details><summary>The same as a table</summary>{table}</details>",
        "A model that says 0.8 should be right eight times in ten: bars above the dotted line are too modest, bars below "
        "it too sure. To leave out answers below a confidence raises accuracy and leaves faces unread.",
    )


def _raters_section(folder: Path, found: RaterAgreement, classes: Sequence[str]) -> Section:
    figure = draw_figure(curves.plot_rater_agreement(found), folder / "rater_agreement.png")
    facts = [
        (f"accuracy where raters agree (at least {100 * AGREEMENT_THRESHOLD:.0f} %)", *_format_accuracy(found.agreed)),
        ("accuracy where they do not", *_format_accuracy(found.disputed)),
        ("the model names the raters' favorite", _format_percent(found.majority_accuracy), "where they have one"),
        ("the label is the raters' favorite", _format_percent(found.label_agreement), "where they have one"),
        ("divergence from the raters", f"{found.divergence:.3f}", "Kullback-Leibler, nats"),
        ("correlation with the votes", f"{found.correlation:.3f}", "Pearson, over faces and classes"),
    ]
    correlations = [f"{value:.3f}" if np.isfinite(value) else "—" for value in found.class_correlation]
    return Section(
        "Agreement with the annotators",
        page.render_columns([_figure_html(figure), page.render_cards(facts)])
        + page.render_table(
            [*classes], [correlations], caption="Correlation of votes and probabilities, class by class"
        ),
        f"FER+ asked ten people about each face; {found.count:,} of these have votes for the classes. Where people differ, "
        "no model can be right for all of them. Numbers in the bars: faces.",
    )


def _training_section(folder: Path, found: Measures, extras: Extras) -> list[Section]:
    parts = []
    if extras.history:
        parts.append(page.render_columns([
            _figure_html(draw_figure(curves.plot_training(extras.history, what), folder / f"training_{what}.png"))
            for what in ("loss", "accuracy")
        ]))  # fmt: skip
    note = ""
    if extras.training is not None:
        part, classes = extras.training, found.scores.classes
        ours, theirs = _class_recalls(part.matrix), _class_recalls(found.scores.confusion)
        names = {part.split: ours, "measured here": theirs}
        figure = draw_figure(
            curves.plot_class_bars(classes, names, "Training faces against the measured ones"),
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
                [*theirs, found.scores.accuracy],
                strict=True,
            )
        ]
        parts.append(
            page.render_columns([_figure_html(figure), page.render_table(["class", *names, "difference"], rows)])
        )
        read = (
            f"{part.count:,} of {part.total:,} faces, drawn by class"
            if part.count < part.total
            else f"{part.total:,} faces"
        )
        note = f"{part.split}: {read}, not augmented. A large difference means that the model knows its training faces by heart."
    return [Section("Training", "\n".join(parts), note)] if parts else []


def _class_recalls(matrix: np.ndarray) -> np.ndarray:
    """float (K,), NaN for a class without faces: a bar of height 0 would say that all were missed."""
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
    said = [
        "Accuracy, precision, recall, specificity, F1, kappa, Matthews correlation, log loss, ROC AUC and average precision "
        "are those of scikit-learn. " + _UNDEFINED_NOTE,
        "Intervals are bootstrap percentiles (Efron, 1979): faces are drawn anew with replacement, 1,000 times, 2,000 for "
        "accuracy and macro-F1, with a fixed seed. The calibration error of few faces is too large by chance; "
        "redrawing adds as much again, which its interval is corrected for.",
        *([f"Saliency: {extras.method}."] if extras.method else []),
        "An expression is not an inner state: this says what faces show, not what people feel.",
    ]
    return page.render_table(["what", "value"], rows) + "".join(f"<p>{page.escape_text(each)}</p>" for each in said)


def _footer_text() -> str:
    from mien import __version__

    return f"Written by mien {__version__}. The numbers are in report.json, the figures beside it."


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
    """A score with its interval below it, for a cell."""
    if not np.isfinite(value):
        return "—"
    return page.render_cell(f"{value:.3f}", f"{between[0]:.2f}–{between[1]:.2f}" if np.isfinite(between[0]) else "")
