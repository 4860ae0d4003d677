"""Comparison of two models: as text, and as a page with the faces on which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import make_folder, write_json, write_text
from mien.core.types import FaceSet
from mien.evaluation.comparison import Comparison, compare_models
from mien.evaluation.measures import replace_nan
from mien.evaluation.reports import curves, page
from mien.evaluation.reports.curves import draw_figure
from mien.evaluation.reports.galleries import LARGE_PX, faces_per_group, shrink_pictures
from mien.evaluation.reports.page import Section

#: A difference is significant below this p-value.
SIGNIFICANCE_LEVEL = 0.05

#: Minimum number of faces for a conclusion.
MIN_FACES = 10


def write_comparison(
    folder: Path,
    names: tuple[str, str],
    facts: dict[str, Any],
    faces: FaceSet,
    probabilities: tuple[np.ndarray, np.ndarray],
    notes: Sequence[str] = (),
) -> tuple[Comparison, dict[str, Any]]:
    """Write compare.html, compare.json and compare.png to ``folder``. Returns the comparison and the values of the JSON.

    faces: labeled. probabilities: of A and B, each float (N, K) in the order of faces.classes.
    """
    make_folder(folder)
    comparison = compare_models(*probabilities, faces.labels, faces.classes)
    changed = _list_changed_faces(comparison, faces)
    values = replace_nan(facts | comparison.to_json() | {"notes": list(notes), "changed": changed})
    title = f"Comparison of {names[0]} and {names[1]}"
    sections = [
        _summary_section(folder, comparison, names),
        Section("Classes", _class_table_html(comparison), "Gained: only B is correct. Lost: only A is correct."),
        *_gallery_sections(comparison, faces, probabilities),
        Section("How this was measured", _method_html(facts)),
    ]  # fmt: skip
    lead = "\n".join([_conclusion_text(comparison), f"A: {names[0]}\nB: {names[1]}", *notes])
    write_text(
        folder / "compare.html", page.render_page(title, lead, sections, footer="The numbers are in compare.json.")
    )
    write_json(folder / "compare.json", values)
    return comparison, values


def format_comparison(comparison: Comparison, names: tuple[str, str]) -> str:
    """Format the comparison as text for a terminal."""
    test, lines = comparison.mcnemar, [f"A  {names[0]}", f"B  {names[1]}", "", f"{'':<10}{'A':>9}{'B':>9}{'B − A':>10}"]
    for name, value, form in (("accuracy", "accuracy", "{:.2%}"), ("macro-F1", "macro_f1", "{:.4f}")):
        difference, (low, high) = comparison.differences[value]
        signed = form.replace(":", ":+")
        cells = [form.format(getattr(scores, value)) for scores in (comparison.a, comparison.b)]
        lines.append(
            f"{name:<10}{cells[0]:>9}{cells[1]:>9}{signed.format(difference):>10}"
            f"  (95 % interval {signed.format(low)} to {signed.format(high)})"
        )
    how = "exact binomial" if test.statistic is None else f"chi-square {test.statistic:.2f}, continuity corrected"
    lines += [
        "",
        f"{comparison.a.count:,} faces; only A correct {test.only_a:,}, only B correct {test.only_b:,}",
        f"McNemar p = {_format_p_value(test.p_value)} ({how})",
        _conclusion_text(comparison),
        "",
    ]
    width = max(map(len, comparison.a.classes))
    lines.append(f"{'class':<{width}}  support  recall A  recall B    B − A  gained  lost")
    lines += [
        f"{row['class']:<{width}}  {row['support']:>7,}  {row['recall_a']:>8.3f}  {row['recall_b']:>8.3f}  "
        f"{row['recall_difference']:>+7.3f}  {row['gained']:>6,}  {row['lost']:>4,}"
        for row in comparison.per_class()
    ]
    return "\n".join(lines)


def _conclusion_text(comparison: Comparison) -> str:
    """Return the result of the test in words."""
    difference, (low, high) = comparison.differences["accuracy"]
    if comparison.a.count < MIN_FACES:
        return f"{comparison.a.count:,} face{'' if comparison.a.count == 1 else 's'}: too few for a conclusion."
    if comparison.mcnemar.p_value >= SIGNIFICANCE_LEVEL:
        return (
            f"The difference in accuracy on {comparison.a.count:,} faces is not significant (p = {_format_p_value(comparison.mcnemar.p_value)}): "
            f"B − A is {_format_points(difference)}, 95 % interval {_format_points(low)} to {_format_points(high)}."
        )
    better = "B" if difference > 0 else "A"
    return (
        f"{better} is significantly more accurate on {comparison.a.count:,} faces (p = {_format_p_value(comparison.mcnemar.p_value)}): "
        f"B − A is {_format_points(difference)}, 95 % interval {_format_points(low)} to {_format_points(high)}."
    )


def _summary_section(folder: Path, comparison: Comparison, names: tuple[str, str]) -> Section:
    rows = comparison.per_class()
    series = {side: [row[f"recall_{side.lower()}"] for row in rows] for side in ("A", "B")}
    figure = draw_figure(
        curves.plot_class_bars(comparison.a.classes, series, "Recall of each class"), folder / "compare.png"
    )
    accuracy, macro = comparison.differences["accuracy"], comparison.differences["macro_f1"]
    facts = [
        ("accuracy of A", f"{100 * comparison.a.accuracy:.1f} %", names[0]),
        ("accuracy of B", f"{100 * comparison.b.accuracy:.1f} %", names[1]),
        (
            "accuracy, B − A",
            _format_points(accuracy[0]),
            f"{_format_points(accuracy[1][0])} to {_format_points(accuracy[1][1])}",
        ),
        ("macro-F1, B − A", f"{macro[0]:+.3f}", f"{macro[1][0]:+.3f} to {macro[1][1]:+.3f}"),
        (
            "McNemar's p",
            _format_p_value(comparison.mcnemar.p_value),
            "probability of such a difference for equal models",
        ),
        ("only A correct", f"{comparison.mcnemar.only_a:,}", "lost"),
        ("only B correct", f"{comparison.mcnemar.only_b:,}", "gained"),
        (
            "same prediction",
            f"{100 * (comparison.predicted_a == comparison.predicted_b).mean():.1f} %",
            "correct or wrong",
        ),
    ]
    body = page.render_columns(
        [page.render_picture(figure.light, figure.alt, dark=figure.dark), page.render_cards(facts)]
    )
    return Section("Summary", body)


def _class_table_html(comparison: Comparison) -> str:
    rows = [
        [row["class"], f"{row['support']:,}", f"{100 * row['recall_a']:.1f} %", f"{100 * row['recall_b']:.1f} %",
         _format_points(row["recall_difference"]), f"{row['f1_a']:.3f}", f"{row['f1_b']:.3f}", f"{row['f1_difference']:+.3f}",
         f"{row['gained']:,}", f"{row['lost']:,}"]
        for row in comparison.per_class()
    ]  # fmt: skip
    heads = ["class", "faces", "recall A", "recall B", "B − A", "F1 A", "F1 B", "B − A", "gained", "lost"]
    return page.render_table(heads, rows)


def _gallery_sections(
    comparison: Comparison, faces: FaceSet, probabilities: tuple[np.ndarray, np.ndarray]
) -> list[Section]:
    """The gained and lost faces by class, sorted by the change of the label's probability."""
    right_a, right_b = (predicted == faces.labels for predicted in (comparison.predicted_a, comparison.predicted_b))
    of_truth = [each[np.arange(len(faces)), faces.labels] for each in probabilities]
    moved = of_truth[1] - of_truth[0]
    count = 2 * faces_per_group(len(faces.classes))
    sections = []
    for title, changed in (("Gained", right_b & ~right_a), ("Lost", right_a & ~right_b)):
        order = np.argsort(-np.abs(moved), kind="stable")
        parts = []
        for k, name in enumerate(faces.classes):
            rows = order[changed[order] & (faces.labels[order] == k)]
            if len(rows):
                many = f"{len(rows):,}" if len(rows) <= count else f"{count} of {len(rows):,}"
                parts.append(
                    f"<h3>{page.escape_text(name)}: {many}</h3>{_gallery_html(comparison, faces, of_truth, rows[:count])}"
                )
        note = "only B is correct" if title == "Gained" else "only A is correct"
        note = f"{int(changed.sum()):,} faces, {note}; bars: the probability that each gives to the label."
        sections.append(Section(title, "\n".join(parts) or "<p>None.</p>", note))
    return sections


def _gallery_html(comparison: Comparison, faces: FaceSet, of_truth: Sequence[np.ndarray], rows: np.ndarray) -> str:
    answers = [
        (
            faces.classes[faces.labels[row]],
            faces.classes[comparison.predicted_a[row]],
            faces.classes[comparison.predicted_b[row]],
        )
        for row in rows
    ]
    return page.render_tiles(
        shrink_pictures(faces.images[rows], LARGE_PX),
        [f"A: {a}\nB: {b}\n{faces.names[row]}" for row, (_, a, b) in zip(rows, answers, strict=True)],
        alts=[f"a face labeled {truth}; A predicts {a}, B predicts {b}" for truth, a, b in answers],
        bars=[[("A", float(of_truth[0][row])), ("B", float(of_truth[1][row]))] for row in rows],
    )


def _list_changed_faces(comparison: Comparison, faces: FaceSet) -> list[dict[str, str]]:
    """List the faces on which exactly one model is correct, in the order of the data."""
    right_a, right_b = (predicted == faces.labels for predicted in (comparison.predicted_a, comparison.predicted_b))
    return [
        {
            "path": str(faces.names[row]),
            "truth": faces.classes[faces.labels[row]],
            "a": faces.classes[comparison.predicted_a[row]],
            "b": faces.classes[comparison.predicted_b[row]],
            "change": "gained" if right_b[row] else "lost",
        }
        for row in np.flatnonzero(right_a != right_b)
    ]


def _method_html(facts: dict[str, Any]) -> str:
    rows = [[name, ", ".join(value) if isinstance(value, list) else str(value or "—")] for name, value in facts.items()]
    text = (
        "Intervals: percentiles of the paired bootstrap with 2,000 draws and a fixed seed. McNemar's test (1947) uses the faces "
        "on which exactly one model is correct: the exact binomial test for fewer than 25, otherwise chi-square with Edwards' "
        "continuity correction."
    )
    return page.render_table(["item", "value"], rows) + f"<p>{text}</p>"


def _format_points(value: float) -> str:
    return f"{100 * value:+.1f} points".replace("-", "−")


def _format_p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
