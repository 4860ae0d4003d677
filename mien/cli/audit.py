"""`mien audit`: the errors of a data set, as a gallery and as CSVs for --exclude."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.cli.completion import complete_models
from mien.cli.loaders import print_skipped, refuse_overwrite
from mien.cli.messages import emit, print_note
from mien.cli.options import Ferplus, Json, OutFolder, Quiet, SkipBad
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
from mien.training.scoring.classifiers import classify_images, open_classifier

#: Fewer faces are too few to learn what faces look like: real ones would be taken for non-faces.
MIN_FACES = 1_000


Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH", help="CSV or Parquet files, or folders of pictures; several are audited as one."),
]
NearDuplicates = Annotated[bool, typer.Option(help="Find near duplicates, beside exact ones.")]
NonFaces = Annotated[bool, typer.Option(help="Find pictures that are not faces.")]
WrongLabels = Annotated[bool, typer.Option("--labels/--no-labels", help="Find wrong labels.")]
Probabilities = Annotated[
    Path | None,
    typer.Option(
        "--probabilities",
        help="CSV of 'mien predict' from a model that did not train on these faces; nothing is trained then.",
    ),
]
JudgeModel = Annotated[
    str,
    typer.Option(
        "--model",
        autocompletion=complete_models,
        help="Check labels by this model; weaker if it trained on these faces.",
    ),
]
Folds = Annotated[
    int, typer.Option("--folds", min=2, help="Number of networks that check labels, each on other faces.")
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each network.")]
MaxLabelShare = Annotated[
    float, typer.Option("--max-label-share", min=0, max=1, help="Maximum share of the labels in audit.csv.")
]
Size = Annotated[int, typer.Option("--size", min=24, help="Side in pixels to which pictures are scaled.")]


def audit(
    paths: Paths,
    out: OutFolder = Path("mien-out"),
    ferplus: Ferplus = None,
    near_duplicates: NearDuplicates = True,
    non_faces: NonFaces = True,
    labels: WrongLabels = True,
    probabilities: Probabilities = None,
    model: JudgeModel = "",
    folds: Folds = 3,
    epochs: Epochs = 8,
    max_label_share: MaxLabelShare = 0.05,
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find duplicates, pictures that are not faces, and wrong labels.

    audit.html shows the findings. audit.csv lists every row with its reasons; duplicates.csv, leaked.csv, nonfaces.csv and
    labels.csv those of one kind. Each can be given to --exclude of train, evaluate and others. One face of each group of
    duplicates stays; a test face is kept before its duplicate in the training split. Wrong labels are found by small networks
    that are trained here, each on the faces that the others check: on two cores this takes half an hour for FER2013. They are
    stored, so that an interrupted audit continues. --probabilities or --model replaces them; --no-labels leaves labels out.
    """
    require_jinja()
    _check_options(labels, probabilities, model)
    refuse_overwrite(out, [*paths, *(path for path in (ferplus, probabilities) if path)], writes=TABLES)
    silent = quiet or as_json
    faces = load_faces(paths, ferplus=ferplus, size=size, skip_bad=skip_bad)
    print_skipped(faces, quiet=silent)
    make_folder(out)
    duplicates = find_duplicates(faces.images, near=near_duplicates, quiet=silent)
    has_enough = len(faces) >= MIN_FACES
    score = score_non_faces(faces.images, quiet=silent) if non_faces and has_enough else None
    few = f"non-faces (fewer than {MIN_FACES:,} faces, too few to learn what faces look like)"
    skipped = [
        *([] if near_duplicates else ["near duplicates (--no-near-duplicates)"]),
        *([] if non_faces else ["non-faces (--no-non-faces)"]),
        *([few] if non_faces and not has_enough else []),
    ]
    judged, problem = None, "labels (--no-labels)"
    if labels:
        judged, problem = _predict_labels(faces, duplicates, out, probabilities, model, folds, epochs, silent)
    if judged is None:
        skipped.append(problem)
    errors = None if judged is None else find_label_errors(judged, faces.labels)
    findings = collect_findings(
        faces,
        duplicates,
        nonface_score=score,
        label_errors=errors,
        share=max_label_share,
        skipped_checks=tuple(skipped),
    )
    values = findings.counts()
    write_tables(findings, out)
    write_json(out / "audit.json", values)
    write_text(out / "audit.html", render_audit_page(findings, ", ".join(path.name for path in paths)))
    text = f"{_summary(findings, values)}\nwrote {out / 'audit.html'}, audit.json, audit.csv and a CSV for each kind"
    emit(values, text, as_json=as_json, quiet=quiet)


def _check_options(labels: bool, probabilities: Path | None, model: str) -> None:
    if probabilities is not None and model:
        raise UsageError("--probabilities", "was given with --model", "give one of them")
    if not labels and (probabilities is not None or model):
        option = "--model" if model else "--probabilities"
        raise UsageError("--no-labels", f"contradicts {option}", "leave one of them out")
    if probabilities is not None and (fault := find_file_problem(probabilities, "a CSV of predictions")):
        raise DataError(probabilities, *fault)


def _predict_labels(
    faces: FaceSet,
    duplicates: Duplicates,
    out: Path,
    probabilities: Path | None,
    model: str,
    folds: int,
    epochs: int,
    silent: bool,
) -> tuple[np.ndarray | None, str]:
    """Return (probabilities float32 (N, K) over the data's classes, ""), or (None, the reason why there are none)."""
    if not faces.is_labeled.any():
        return None, "labels (there are none)"
    if probabilities is not None:
        return read_probabilities(probabilities, faces), ""
    if model:
        return _predict_by_model(faces, model, silent), ""
    if importlib.util.find_spec("torch") is None:
        reason = "labels (torch is not installed: pip install 'mien[train]', or give --probabilities or --model)"
        print_note(f"note: not checked: {reason}", quiet=silent)
        return None, reason
    counts = faces.class_counts()
    if (counts > 0).sum() < 2 or counts[counts > 0].min() < 2 * folds:
        return None, f"labels (a class has fewer than {2 * folds} faces, too few for {folds} folds)"
    return _predict_out_of_fold(faces, duplicates, out, folds, epochs, silent), ""


def _predict_by_model(faces: FaceSet, model: str, silent: bool) -> np.ndarray:
    classifier = open_classifier(model)
    if classifier.preprocessing.size != faces.images.shape[1]:
        print_note(f"note: {model} takes faces of {classifier.preprocessing.size} pixels", quiet=silent)
    absent = [name for name in faces.classes if name not in classifier.labels]
    if absent:
        problem = f"knows {', '.join(classifier.labels)}, the data has {', '.join(absent)} too"
        raise DataError(f"--model {model}", problem, "name another model, or leave --model out")
    print_note(f"note: where {model} was trained on these faces it tends to confirm their labels", quiet=silent)
    predicted = classify_images(classifier, faces.images, "none", quiet=silent, title="labels")
    return select_columns(faces.classes, classifier.labels, predicted)


def _predict_out_of_fold(
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
    return "\n".join(lines + [f"not checked: {check}" for check in findings.skipped_checks])
