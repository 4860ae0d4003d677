"""audit.html: the findings of an audit as a gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.data.duplicates import contradicting
from mien.evaluation.audit.findings import Findings, label_name
from mien.evaluation.reports.page import Section, page, table, tiles

#: Faces that one section shows; the CSVs have them all.
SHOWN = 96


def audit_page(findings: Findings, title: str, shown: int = SHOWN) -> str:
    """The whole page; each section shows ``shown`` faces at most, the worst first."""
    sections = [
        _summary(findings),
        _balance(findings),
        *_twins(findings, shown),
        _blank(findings),
        _nonfaces(findings, shown),
        _odd(findings, shown),
        _labels(findings, shown),
    ]
    lead = (
        f"{title}: {len(findings.faces):,} faces. What is listed here is a suspicion, not a verdict: look before you leave "
        "anything out. The CSVs beside this page have every row and go into --exclude."
    )
    return page("Audit", lead, [section for section in sections if section is not None])


def _summary(findings: Findings) -> Section:
    values = findings.counts()
    groups, exact = values["groups"], values["exact_groups"]
    rows = [
        ("groups of twins, exact and near", groups["groups"], "one photograph more than once"),
        ("… of exact twins alone", exact["groups"], "equal pixel by pixel"),
        ("… within one split", groups["within_one_split"], "they count more than once"),
        ("… across splits", groups["across_splits"], "they make scores too good"),
        ("… with contradicting labels", groups["contradictory"], "one label of them is wrong"),
        ("duplicates that could be left out", values["duplicate"], "duplicates.csv"),
        ("validation and test faces with a training twin", sum(values["leaked"].values()), "leaked.csv"),
        ("blank pictures", values["blank"], "nonfaces.csv"),
        ("probably no face", values["not-a-face"], "nonfaces.csv"),
        ("odd in light or sharpness", values["odd"], "audit.csv"),
    ]
    if findings.suspicion is not None:
        rows.append(("labels taken for wrong", values["labels_flagged"], "labels.csv, the most suspicious first"))
        rows.append(("… the most suspicious of them", values["label"], "audit.csv"))
    note = "Not looked at: " + "; ".join(findings.left_out) if findings.left_out else ""
    cells = [(finding, f"{count:,}", why) for finding, count, why in rows]
    return Section("Summary", table(["finding", "count", "where, and why it matters"], cells), note)


def _balance(findings: Findings) -> Section:
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
    return Section("Class balance", table(["class", *(name or "faces" for name in names), "share"], rows), note)


def _twins(findings: Findings, shown: int) -> list[Section]:
    faces, groups = findings.faces, findings.twins.groups
    contradictory = [group for group in groups if contradicting(faces, group)]
    across = [group for group in groups if len(np.unique(faces.split[group])) > 1]
    seen = {int(group[0]) for group in (*contradictory, *across)}
    within = [group for group in groups if int(group[0]) not in seen]
    parts = (
        ("Twins with contradicting labels", contradictory, "One photograph, several labels."),
        ("Twins across splits", across, "A model that learned the one knows the other: leaked.csv names those to score without."),
        ("Twins within a split", within, "The first of each group would stay."),
    )  # fmt: skip
    return [_group_section(findings, title, some, note, shown) for title, some, note in parts]


def _group_section(findings: Findings, title: str, groups: Sequence[np.ndarray], note: str, shown: int) -> Section:
    body, left = [], shown
    for group in groups:
        rows = group[:8]
        if left < len(rows):
            break
        left -= len(rows)
        captions = [_twin_caption(findings, int(row)) for row in rows]
        body.append(tiles(findings.faces.images[rows], captions, side=72))
    count = f"{len(groups):,} group{'' if len(groups) == 1 else 's'}"
    more = f"; the first {len(body)} are shown" if len(body) < len(groups) else ""
    side_by_side = f'<div style="display:flex;flex-wrap:wrap;gap:0 2rem">{"".join(body)}</div>' if body else ""
    return Section(title, side_by_side, f"{count}{more}. {note}" if groups else "None.")


def _twin_caption(findings: Findings, row: int) -> str:
    fate = "stays" if findings.kept[row] < 0 else "could be left out"
    return f"{_caption(findings, row)}\n{fate}"


def _caption(findings: Findings, row: int) -> str:
    """Name, split and label of a row."""
    faces = findings.faces
    name = str(faces.names[row])
    short = name if len(name) <= 24 else f"…{name[-23:]}"
    return "\n".join(part for part in (short, str(faces.split[row]), label_name(faces, row)) if part)


def _gallery(findings: Findings, title: str, rows: np.ndarray, words: Sequence[str], note: str, shown: int) -> Section:
    captions = [f"{_caption(findings, int(row))}\n{word}" for row, word in zip(rows[:shown], words, strict=False)]
    more = f"{len(rows):,} pictures" + (f", {shown} of them shown" if len(rows) > shown else "") + ". "
    if not len(rows):
        return Section(title, "", "None.")
    return Section(title, tiles(findings.faces.images[rows[:shown]], captions, side=72), more + note)


def _blank(findings: Findings) -> Section:
    rows = np.flatnonzero(findings.blank)
    return _gallery(findings, "Blank pictures", rows, [""] * len(rows), "One gray all over.", 24)


def _nonfaces(findings: Findings, shown: int) -> Section:
    score = findings.nonface_score if findings.nonface_score is not None else np.zeros(len(findings.faces))
    rows = np.flatnonzero(findings.not_a_face)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    words = [f"log odds {score[row]:.1f}" for row in rows]
    note = "No face, or one that is framed, turned or covered like few others; the surest first."
    return _gallery(findings, "Probably no face", rows, words, note, shown)


def _odd(findings: Findings, shown: int) -> Section:
    rows = np.flatnonzero(findings.oddity != "")
    note = "Far from the others in brightness, contrast or sharpness."
    return _gallery(findings, "Odd in light or sharpness", rows, findings.oddity[rows].tolist(), note, shown)


def _labels(findings: Findings, shown: int) -> Section | None:
    found, faces = findings.suspicion, findings.faces
    if found is None:
        return None
    rows = np.flatnonzero(findings.suspicious)
    rows = rows[np.argsort(-found.suspicion[rows], kind="stable")]
    words = [f"→ {faces.classes[found.suggested[row]]} ({found.suspicion[row]:.3f})" for row in rows]
    note = (
        "Networks that did not train on a face are sure of another class (confident learning; the number is one "
        "minus the probability that they give the label). Do not score a model on what is left after such faces were taken out."
    )
    return _gallery(findings, "Suspicious labels", rows, words, note, shown)
