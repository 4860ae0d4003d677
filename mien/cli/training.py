"""`mien train`, `evaluate`, `predict` and `export`: from a data set to a model file and its scores."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.analysis.inference.classifier import check_tta
from mien.analysis.inference.model_file import int8_path
from mien.cli.loaders import check_onnx_path, read_data, refuse_overwrite
from mien.cli.messages import emit, print_note
from mien.cli.options import (
    Data,
    Exclude,
    Json,
    LabelsBy,
    License,
    Model,
    OutFolder,
    Precision,
    Quiet,
    Recipe,
    Set,
    SkipBad,
    Split,
    Tta,
)
from mien.cli.scoring import describe_label_source, print_left_out
from mien.core.errors import UsageError
from mien.core.files import is_standard_stream, make_folder, write_text
from mien.core.progress import echo
from mien.core.types import FaceSet, split_role
from mien.evaluation.metrics import Scores, score
from mien.evaluation.tables import format_scores, format_uncertainty, write_predictions, write_scores
from mien.training.scoring.classifiers import (
    AnyClassifier,
    classify_images,
    is_run,
    open_classifier,
    require_torch,
    resolve_labels_by,
)
from mien.training.scoring.scored_faces import HELD_OUT, keep_run_classes, score_classifier, select_scored_faces


def train(
    recipe: Recipe,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: runs/RECIPE.")] = None,
    set: Set = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network by a recipe.

    The run folder gets the resolved recipe, the hardware and versions, a log, curves, the best and the last checkpoint
    after every epoch, and the scores at the end. Ctrl-C or a crash loses at most one epoch: --resume continues exactly.
    """
    require_torch()
    from mien.training.recipe import load_recipe
    from mien.training.runs.resume import load_begun_recipe
    from mien.training.train import train as run_training

    quiet = quiet or as_json
    settings = load_recipe(recipe, set)
    folder = out or Path("runs") / settings.name
    if resume and not set and (folder / "recipe.toml").is_file():
        settings = load_begun_recipe(folder, settings, partial(print_note, quiet=quiet))
    inputs = [*data, *([exclude] if exclude else []), *([] if resume else [Path(recipe)])]
    refuse_overwrite(folder, inputs, writes=("recipe.toml", "validation.csv"))
    faces = read_data(data, size=settings.input.size, skip_bad=skip_bad, quiet=quiet, exclude=exclude)
    run_training(settings, faces, folder, resume=resume, quiet=quiet, echo=(lambda text: None) if quiet else echo)
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    path = shlex.quote(str(folder))
    text = f"the run is in {folder}; next: mien evaluate {path} --data ..., mien export {path} --out model.onnx"
    emit({"run": str(folder), "scores": scores}, text, as_json=as_json, quiet=quiet)


def evaluate(
    model: Model,
    data: Data,
    split: Annotated[
        str,
        typer.Option(help="Score this split. Default: test, else validation, else what a run held out, else all."),
    ] = "",
    tta: Tta = "none",
    precision: Precision = "auto",
    out: OutFolder = Path("mien-out"),
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a model on labeled faces.

    Prints accuracy and macro-F1 with 95 % bootstrap intervals; precision, recall, F1 and support of every class; the confusion
    matrix in counts and rates; the calibration error and the risk-coverage curve. Writes scores.json, scores.txt,
    confusion.png and coverage.png.
    """
    check_tta(tta)
    refuse_overwrite(out, data)
    classifier = open_classifier(model, precision)
    silent = quiet or as_json
    everything = read_data(
        data,
        size=classifier.preprocessing.size,
        skip_bad=skip_bad,
        quiet=silent,
        exclude=exclude,
        labels_by=labels_by,
        model=classifier,
    )
    everything = keep_run_classes(model, everything, partial(print_note, quiet=quiet))
    labels_by = resolve_labels_by(labels_by, everything, classifier)
    faces, which, is_trained_on = select_scored_faces(everything, split, data, Path(model) if is_run(model) else None)
    print_left_out(everything, faces, which, quiet=bool(split) or silent)
    _print_caveats(classifier, faces, which, is_trained_on, quiet=quiet)
    make_folder(out)
    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_images(classifier, faces.images, tta, quiet=silent, title="evaluate")
    scores = score(probabilities, faces.labels, classifier.labels)
    described = (which or ", ".join(path.name for path in data)) + describe_label_source(labels_by)
    title = f"{model} on {described}" + (f", {tta}" if tta != "none" else "")
    facts = {"model": model, "data": [str(path) for path in data], "split": which, "tta": tta}
    facts |= {"labels_by": labels_by, "precision": getattr(classifier, "precision", "float")}
    info = getattr(classifier, "info", None)  # a run has none
    unsure_below = info.thresholds.get("unsure") if info else None
    values = write_scores(out, scores, title, facts, (probabilities, faces.labels), unsure_below)
    text = (
        f"{title}, {facts['precision']}\n\n{format_scores(scores)}\n{format_uncertainty(values)}\n"
        f"wrote {out / 'scores.json'}, scores.txt, confusion.png and coverage.png"
    )
    emit(values, text, as_json=as_json, quiet=quiet)


def _print_caveats(
    classifier: AnyClassifier, faces: FaceSet, description: str, is_trained_on: bool, *, quiet: bool
) -> None:
    """Print why a score says little: the faces trained the model, or may have."""
    info = getattr(classifier, "info", None)  # a run has none
    trained_roles = {split_role(name) for name in info.training.get("splits", ())} if info else set()
    if is_trained_on or any(name and split_role(name) in trained_roles for name in faces.splits):
        note = f"note: {description} is what models are trained on; a score on it says little of other faces"
        print_note(note, quiet=quiet)
    if info and "" in faces.splits and str(info.scores.get("data", "")).startswith(HELD_OUT):
        note = f"note: the model's own score is of faces {info.scores['data']}; the others trained it"
        print_note(note, quiet=quiet)


def predict(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    split: Split = "",
    tta: Tta = "none",
    precision: Precision = "auto",
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a model's probabilities for every face of a data set.

    Each picture is one face; faces are not detected. The CSV has a row for each, labeled or not, in the order of the data: path,
    label, truth where it is known, probabilities.
    """
    check_tta(tta)
    refuse_overwrite(out, data)
    if out.suffix.lower() not in ("", ".csv", ".txt"):
        raise UsageError(f"--out {out}", "is to hold CSV", f"as in --out {out.with_suffix('.csv')}")
    silent = quiet or as_json
    classifier = open_classifier(model, precision)
    faces = read_data(
        data, size=classifier.preprocessing.size, skip_bad=skip_bad, quiet=silent, labels_by=labels_by, model=classifier
    )
    faces = faces.select_split(split) if split else faces
    probabilities = classify_images(classifier, faces.images, tta, quiet=silent, title="predict")
    write_predictions(faces, probabilities, classifier.labels, out)
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(classifier.labels)).tolist()
    facts = {"model": model, "file": str(out), "faces": len(faces), "tta": tta}
    facts["labels"] = dict(zip(classifier.labels, counts, strict=True))
    text = f"wrote {len(faces):,} rows to {out}"
    if is_standard_stream(out):
        print_note(text, quiet=silent)
        text = ""
    emit(facts, text, as_json=as_json, quiet=quiet)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or a .pt file.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write; its model card is written beside it as .md.")],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data", help="Faces on which torch and ONNX must agree; if labeled, the scores go into file and card."
        ),
    ] = [],  # noqa: B006
    split: Split = "",
    name: Annotated[str, typer.Option(help="The model's name. Default: the recipe's.")] = "",
    license: License = "not stated",
    half: Annotated[
        bool, typer.Option("--half", help="Store the weights as float16: half the size; they are run as float32.")
    ] = False,
    labels_by: LabelsBy = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export a trained network to one ONNX file.

    The file holds labels and preprocessing; the model card is written beside it. The file is kept only if torch and ONNX
    Runtime differ by at most 0.001 in every probability.
    """
    require_torch()
    from mien.training.release.card import make_model_card
    from mien.training.release.export import describe_training_faces, export_model, round_weights
    from mien.training.torch_classifier import TorchClassifier, load_run

    silent = quiet or as_json
    check_onnx_path(out)
    trained = load_run(run)
    if name:
        trained = replace(trained, name=name)
    if half:
        trained = round_weights(trained)
    faces, measured = None, _Measured()
    classifier = TorchClassifier(trained)
    if data:
        faces = read_data(data, size=trained.preprocessing.size, quiet=silent, labels_by=labels_by, model=classifier)
        faces = keep_run_classes(
            str(run), faces.select_split(split) if split else faces, partial(print_note, quiet=silent)
        )
        measured = _measure(classifier, faces, split, data, run, labels_by, quiet=silent)
    scores = measured.scores
    values = {"data": measured.data, "labels_by": measured.labels_by, **scores.to_json()} if scores else {}
    difference = export_model(
        trained, out, faces, scores=values, license=license, half=half, training=describe_training_faces(run)
    )
    _remove_stale_int8(out, quiet=silent)
    scored_on = measured.data + describe_label_source(measured.labels_by)
    card = out.with_suffix(".md")
    write_text(card, make_model_card(run, trained, out, scores, scored_on, difference, license, half))
    facts = {
        "file": str(out),
        "bytes": out.stat().st_size,
        "card": str(card),
        "difference": difference,
        "scores": values,
    }
    checked = f"{len(faces):,} faces" if faces is not None else "noise; give --data for a check on faces"
    text = (
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {card.name}\n"
        f"torch and ONNX differ by at most {difference:.1e} in probability, on {checked}"
    )
    emit(facts, text, as_json=as_json, quiet=quiet)


@dataclass(frozen=True)
class _Measured:
    """The scores of a run for its file and card; None where it was trained on the faces, or they have no labels."""

    data: str = ""
    labels_by: str = "given"
    scores: Scores | None = None


def _measure(
    classifier: Any, faces: FaceSet, split: str, data: list[Path], run: Path, labels_by: str, *, quiet: bool
) -> _Measured:
    if not faces.is_labeled.any():
        return _Measured()
    scored, description, is_trained_on = select_scored_faces(faces, split, data, run)
    if is_trained_on:
        print_note(f"note: {description} is what the run was trained on: no scores are written", quiet=quiet)
        return _Measured(description)
    scores = score_classifier(classifier, scored, quiet=quiet)
    return _Measured(description, resolve_labels_by(labels_by, faces, classifier), scores)


def _remove_stale_int8(out: Path, *, quiet: bool) -> None:
    """Remove the int8 file of the weights that a new file replaces."""
    stale = int8_path(out)
    if stale.is_file():
        stale.unlink()
        print_note(f"removed {stale.name}, which had other weights", quiet=quiet)
