"""`mien audit`: what is wrong with a data set, as a gallery to look at and CSVs to leave rows out by."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.cli.loaders import classify_images, open_classifier, print_skipped, refuse_overwrite
from mien.cli.options import Json, Quiet, SkipBad
from mien.core.errors import DataError, UsageError
from mien.core.files import find_file_problem, make_folder, write_json, write_text
from mien.core.progress import echo
from mien.core.types import FaceSet
from mien.data import load_faces
from mien.data.duplicates import Duplicates, connected_components, find_duplicates
from mien.data.splits import filter_classes
from mien.evaluation.audit.findings import TABLES, Findings, collect_findings, write_tables
from mien.evaluation.audit.label_errors import find_label_errors, read_probabilities, select_columns
from mien.evaluation.audit.non_faces import score_non_faces
from mien.evaluation.reports.audit_page import render_audit_page
from mien.evaluation.reports.page import require_jinja
from mien.evaluation.tables import write_predictions

#: Of fewer faces, what is an ordinary one cannot be learned: real ones would be taken for none.
LEAST_FACES = 1_000


def audit(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="A CSV or Parquet file, or a folder of pictures; several are audited as one."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for audit.html, audit.json and the CSVs.")] = Path("mien-out"),
    ferplus: Annotated[
        Path | None, typer.Option(help="FER+'s CSV of votes, whose raters know what is no face.")
    ] = None,
    near: Annotated[bool, typer.Option(help="Look for near duplicates too, not for exact ones alone.")] = True,
    nonfaces: Annotated[bool, typer.Option(help="Look for pictures that are no faces.")] = True,
    labels: Annotated[bool, typer.Option(help="Look for wrong labels.")] = True,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            help="A CSV of 'mien predict' from a model that did not train on these faces; nothing is trained."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Judge labels by this model; weaker where it trained on these faces.")
    ] = "",
    folds: Annotated[
        int, typer.Option(min=2, help="Networks that are trained, each judging the faces it is not shown.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="How long each is trained.")] = 8,
    share: Annotated[
        float,
        typer.Option(min=0, max=1, help="At most this share of the labels, the most suspicious, go into audit.csv."),
    ] = 0.05,
    size: Annotated[
        int, typer.Option(min=24, help="Side in pixels that pictures of files and folders are scaled to.")
    ] = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find duplicates, pictures that are no faces, and wrong labels.

    audit.html shows what was found. audit.csv names every row with its reasons, duplicates.csv, leaked.csv, nonfaces.csv
    and labels.csv those of one kind; all go into --exclude of train, evaluate and others. Of each group of duplicates one stays,
    a test face before its training twin. Wrong labels are told by small networks that are trained here, each on the faces
    that the others judge: on two cores that takes half an hour for FER2013. They are kept, so that an audit that was
    interrupted goes on; --probabilities or --model spares them, and --no-labels leaves labels out.
    """  # fmt: skip

    require_jinja()
    _check(labels, probabilities, model)
    refuse_overwrite(out, [*paths, *(path for path in (ferplus, probabilities) if path)], writes=TABLES)
    silent = quiet or as_json
    faces = _read(paths, ferplus, size, skip_bad, silent)
    make_folder(out)
    duplicates = find_duplicates(faces.images, near=near, quiet=silent)
    enough = len(faces) >= LEAST_FACES
    score = score_non_faces(faces.images, quiet=silent) if nonfaces and enough else None
    few = f"non-faces (fewer than {LEAST_FACES:,} faces, too few to learn from what faces look like)"
    skipped = [
        *([] if near else ["near duplicates (--no-near)"]),
        *([] if nonfaces else ["non-faces (--no-nonfaces)"]),
        *([few] if nonfaces and not enough else []),
    ]
    judged, why = None, "labels (--no-labels)"
    if labels:
        judged, why = _judge(faces, duplicates, out, probabilities, model, folds, epochs, silent)
    label_errors = None
    if judged is None:
        skipped.append(why)
    else:
        label_errors = find_label_errors(judged, faces.labels)
    findings = collect_findings(
        faces, duplicates, nonface_score=score, label_errors=label_errors, share=share, skipped_checks=tuple(skipped)
    )
    values = findings.counts()
    write_tables(findings, out)
    write_json(out / "audit.json", values)
    write_text(out / "audit.html", render_audit_page(findings, ", ".join(path.name for path in paths)))
    if as_json:
        echo(json.dumps(values, indent=2))
    elif not quiet:
        echo(f"{_summary(findings, values)}\nwrote {out / 'audit.html'}, audit.json, audit.csv and a CSV for each kind")


def _check(labels: bool, probabilities: Path | None, model: str) -> None:

    if probabilities is not None and model:
        raise UsageError("--probabilities", "was given with --model", "give one of them")
    if not labels and (probabilities is not None or model):
        given = "--model" if model else "--probabilities"
        raise UsageError("--no-labels", f"contradicts {given}", "leave one of them out")
    if probabilities is not None and (fault := find_file_problem(probabilities, "a CSV of predictions")):
        raise DataError(probabilities, *fault)


def _read(paths: list[Path], ferplus: Path | None, size: int, skip_bad: bool, silent: bool) -> FaceSet:

    faces = load_faces(paths, ferplus=ferplus, size=size, skip_bad=skip_bad)
    print_skipped(faces, quiet=silent)
    return faces


def _judge(
    faces: FaceSet,
    duplicates: Duplicates,
    out: Path,
    probabilities: Path | None,
    model: str,
    folds: int,
    epochs: int,
    silent: bool,
) -> tuple[np.ndarray | None, str]:
    """(probabilities float32 (N, K) over the data's classes, "") or (None, why there are none)."""

    if not faces.is_labeled.any():
        return None, "labels (there are none)"
    if probabilities is not None:
        return read_probabilities(probabilities, faces), ""
    if model:
        return _by_model(faces, model, silent), ""
    if importlib.util.find_spec("torch") is None:
        reason = "labels (torch is not installed: pip install 'mien[train]', or give --probabilities or --model)"
        if not silent:
            echo(f"note: not checked: {reason}", error=True)
        return None, reason
    counts = faces.class_counts()
    if (counts > 0).sum() < 2 or counts[counts > 0].min() < 2 * folds:
        return None, f"labels (a class has fewer than {2 * folds} faces, too few for {folds} folds)"
    return _out_of_fold(faces, duplicates, out, folds, epochs, silent), ""


def _by_model(faces: FaceSet, model: str, silent: bool) -> np.ndarray:

    classifier = open_classifier(model)
    if classifier.preprocessing.size != faces.images.shape[1] and not silent:
        echo(f"note: {model} reads faces of {classifier.preprocessing.size} pixels", error=True)
    absent = [name for name in faces.classes if name not in classifier.labels]
    if absent:
        found = f"knows {', '.join(classifier.labels)}, the data has {', '.join(absent)} too"
        raise DataError(f"--model {model}", found, "name another model, or leave --model out")
    if not silent:
        echo(f"note: where {model} was trained on these faces it tends to confirm their labels", error=True)
    found = classify_images(classifier, faces.images, "none", quiet=silent, title="labels")
    return select_columns(faces.classes, classifier.labels, found)


def _out_of_fold(
    faces: FaceSet, duplicates: Duplicates, out: Path, folds: int, epochs: int, silent: bool
) -> np.ndarray:

    from mien.training.folds import assign_folds, predict_out_of_fold

    rows = np.flatnonzero(faces.is_labeled)
    place = np.full(len(faces), -1)
    place[rows] = np.arange(len(rows))
    inside = np.isin(duplicates.pairs, rows).all(axis=1)
    groups = connected_components(len(rows), place[duplicates.pairs[inside]])
    part = faces.take(rows)
    chosen = assign_folds(part.labels, groups, folds)
    quietly = (lambda text: None) if silent else echo
    present = np.flatnonzero(part.class_counts())  # FER2013's numbers name classes of which there may be no face
    known = filter_classes(part, [part.classes[label] for label in present])
    judged = np.zeros((len(part), len(part.classes)), np.float32)
    judged[:, present] = predict_out_of_fold(known, chosen, out / "folds", epochs=epochs, quiet=silent, echo=quietly)
    write_predictions(part, judged, faces.classes, out / "probabilities.csv")
    everything = np.full((len(faces), len(faces.classes)), 1 / len(faces.classes), np.float32)
    everything[rows] = judged
    return everything


def _summary(findings: Findings, values: dict[str, Any]) -> str:
    groups, exact = values["groups"], values["exact_groups"]
    lines = [
        f"{values['faces']:,} faces: " + ", ".join(f"{name} {count:,}" for name, count in values["splits"].items()),
        "classes: " + ", ".join(f"{name} {count:,}" for name, count in values["classes"].items()),
        f"duplicates: {groups['groups']:,} groups of {groups['rows']:,} faces; {exact['groups']:,} groups are exact",
        f"  {groups['within_one_split']:,} within one split, {groups['across_splits']:,} across splits, "
        f"{groups['contradictory']:,} with contradicting labels",
        f"  {values['duplicate']:,} duplicates to exclude; "
        f"{sum(values['leaked'].values()):,} validation and test faces have a duplicate in the training split",
        f"blank {values['blank']:,}, probably no face {values['not-a-face']:,}, unusual lighting {values['outlier']:,}",
    ]
    if findings.label_errors is not None:
        lines.append(f"labels: {values['labels_flagged']:,} probably wrong, {values['label-error']:,} in audit.csv")
    return "\n".join(lines + [f"not checked: {what}" for what in findings.skipped_checks])
