"""audit.html: the findings of an audit with their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.data.duplicates import has_label_conflict
from mien.evaluation.audit.findings import Findings, get_label_name
from mien.evaluation.reports.page import Section, render_page, render_table, render_tiles

#: Faces that one section shows. The CSV files list all.
MAX_SHOWN = 96


def render_audit_page(findings: Findings, title: str, shown: int = MAX_SHOWN) -> str:
    """Return the page as HTML. Each section shows at most ``shown`` faces, the clearest cases first."""
    sections = [
        _summary_section(findings),
        _balance_section(findings),
        *_duplicate_sections(findings, shown),
        _blank_section(findings),
        _non_faces_section(findings, shown),
        _outliers_section(findings, shown),
        _label_errors_section(findings, shown),
    ]
    lead = (
        f"{title}: {len(findings.faces):,} faces. All findings are suspicions: look at the pictures before you exclude "
        "them. The CSV files beside this page list all rows. Evaluation and training exclude the rows of such a file."
    )
    return render_page("Audit", lead, [section for section in sections if section is not None])


def _summary_section(findings: Findings) -> Section:
    values = findings.counts()
    groups, exact = values["groups"], values["exact_groups"]
    rows = [
        ("groups of duplicates, exact and near", groups["groups"], "the same photograph several times"),
        ("… of exact duplicates alone", exact["groups"], "equal pixel by pixel"),
        ("… within one split", groups["within_one_split"], "their weight is too high"),
        ("… across splits", groups["across_splits"], "they make scores too high"),
        ("… with contradicting labels", groups["contradictory"], "at least one label is wrong"),
        ("duplicates to exclude", values["duplicate"], "duplicates.csv"),
        (
            "validation and test faces with a duplicate in the training split",
            sum(values["leaked"].values()),
            "leaked.csv",
        ),
        ("blank pictures", values["blank"], "nonfaces.csv"),
        ("probably no face", values["not-a-face"], "nonfaces.csv"),
        ("unusual lighting or sharpness", values["outlier"], "audit.csv"),
    ]
    if findings.label_errors is not None:
        rows.append(("probably wrong labels", values["labels_flagged"], "labels.csv, sorted by score"))
        rows.append(("… with the highest scores", values["label-error"], "audit.csv"))
    note = "Not checked: " + "; ".join(findings.skipped_checks) if findings.skipped_checks else ""
    cells = [(finding, f"{count:,}", why) for finding, count, why in rows]
    return Section("Summary", render_table(["finding", "count", "file, or why it matters"], cells), note)


def _balance_section(findings: Findings) -> Section:
    faces = findings.faces
    names = list(faces.splits)
    counts = np.stack([faces.take(faces.split == name).class_counts() for name in names], axis=1)  # (K, splits)
    rows = [
        [name, *(f"{count:,}" for count in counts[k].tolist()), f"{counts[k].sum() / max(counts.sum(), 1):.1%}"]
        for k, name in enumerate(faces.classes)
    ]
    present = counts.sum(axis=1)[counts.sum(axis=1) > 0]
    note = ""
    if len(present) > 1:
        note = f"The largest class has {present.max() / present.min():.1f} times as many faces as the smallest."
    unlabeled = int((~faces.is_labeled).sum())
    if unlabeled:
        note += f" {unlabeled:,} faces have no label."
    return Section("Class balance", render_table(["class", *(name or "faces" for name in names), "share"], rows), note)


def _duplicate_sections(findings: Findings, shown: int) -> list[Section]:
    faces, groups = findings.faces, findings.duplicates.groups
    contradictory = [group for group in groups if has_label_conflict(faces, group)]
    across = [group for group in groups if len(np.unique(faces.split[group])) > 1]
    seen = {int(group[0]) for group in (*contradictory, *across)}
    within = [group for group in groups if int(group[0]) not in seen]
    parts = (
        ("Duplicates with contradicting labels", contradictory, "The same photograph has several labels."),
        ("Duplicates across splits", across, "A model that was trained on one has seen the other. leaked.csv lists the validation and test faces."),
        ("Duplicates within a split", within, "The first picture of each group is kept."),
    )  # fmt: skip
    return [_duplicate_section(findings, title, some, note, shown) for title, some, note in parts]


def _duplicate_section(findings: Findings, title: str, groups: Sequence[np.ndarray], note: str, shown: int) -> Section:
    body, left = [], shown
    for group in groups:
        rows = group[:8]
        if left < len(rows):
            break
        left -= len(rows)
        captions = [_duplicate_caption(findings, int(row)) for row in rows]
        body.append(render_tiles(findings.faces.images[rows], captions, side=72))
    count = f"{len(groups):,} group{'' if len(groups) == 1 else 's'}"
    more = f"; the first {len(body)} are shown" if len(body) < len(groups) else ""
    side_by_side = f'<div style="display:flex;flex-wrap:wrap;gap:0 2rem">{"".join(body)}</div>' if body else ""
    return Section(title, side_by_side, f"{count}{more}. {note}" if groups else "None.")


def _duplicate_caption(findings: Findings, row: int) -> str:
    action = "keep" if findings.duplicate_of[row] < 0 else "exclude"
    return f"{_caption(findings, row)}\n{action}"


def _caption(findings: Findings, row: int) -> str:
    """Return the name, split and label of a row, a line each."""
    faces = findings.faces
    name = str(faces.names[row])
    short = name if len(name) <= 24 else f"…{name[-23:]}"
    return "\n".join(part for part in (short, str(faces.split[row]), get_label_name(faces, row)) if part)


def _gallery_section(
    findings: Findings, title: str, rows: np.ndarray, words: Sequence[str], note: str, shown: int
) -> Section:
    captions = [f"{_caption(findings, int(row))}\n{word}" for row, word in zip(rows[:shown], words, strict=False)]
    more = f"{len(rows):,} pictures" + (f", {shown} of them shown" if len(rows) > shown else "") + ". "
    if not len(rows):
        return Section(title, "", "None.")
    return Section(title, render_tiles(findings.faces.images[rows[:shown]], captions, side=72), more + note)


def _blank_section(findings: Findings) -> Section:
    rows = np.flatnonzero(findings.is_blank)
    return _gallery_section(
        findings, "Blank pictures", rows, [""] * len(rows), "All pixels have nearly the same gray.", 24
    )


def _non_faces_section(findings: Findings, shown: int) -> Section:
    score = findings.nonface_score if findings.nonface_score is not None else np.zeros(len(findings.faces))
    rows = np.flatnonzero(findings.is_not_a_face)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    words = [f"log odds {score[row]:.1f}" for row in rows]
    note = "No face, or a face with unusual framing, rotation or occlusion. Highest score first."
    return _gallery_section(findings, "Probably no face", rows, words, note, shown)


def _outliers_section(findings: Findings, shown: int) -> Section:
    rows = np.flatnonzero(findings.outlier != "")
    note = "Brightness, contrast or sharpness differs strongly from the other pictures."
    return _gallery_section(
        findings, "Unusual lighting or sharpness", rows, findings.outlier[rows].tolist(), note, shown
    )


def _label_errors_section(findings: Findings, shown: int) -> Section | None:
    errors, faces = findings.label_errors, findings.faces
    if errors is None:
        return None
    rows = np.flatnonzero(findings.has_label_error)
    rows = rows[np.argsort(-errors.error_score[rows], kind="stable")]
    words = [f"→ {faces.classes[errors.suggested[row]]} ({errors.error_score[row]:.3f})" for row in rows]
    note = (
        "Networks that were not trained on these faces predict another class with high confidence (confident learning). "
        "The number is one minus the probability of the label. Do not evaluate a model on a set without such faces."
    )
    return _gallery_section(findings, "Probably wrong labels", rows, words, note, shown)
