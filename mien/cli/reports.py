"""`mien report` and `mien compare`: pages about one model, and about the list_differences of two."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.analysis.inference.classifier import check_tta
from mien.cli.loaders import read_data, refuse_overwrite
from mien.cli.messages import emit, print_note
from mien.cli.options import Data, Exclude, Json, LabelsBy, Model, OutFolder, Quiet, SkipBad, Tta
from mien.cli.scoring import describe_label_source, print_left_out
from mien.core.errors import MienError, ModelError, UsageError
from mien.core.preprocessing import resize
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.data.splits import sample_stratified
from mien.evaluation.comparison import reorder_columns
from mien.evaluation.metrics import confusion_matrix
from mien.evaluation.reports.comparison_report import format_comparison, write_comparison
from mien.evaluation.reports.galleries import Saliency
from mien.evaluation.reports.model_report import METRIC_NAMES, Extras, TrainingRecall, format_value, write_report
from mien.evaluation.reports.page import require_jinja
from mien.explanation.figures import draw_overlays
from mien.training.scoring.classifiers import (
    AnyClassifier,
    classify_images,
    is_run,
    open_classifier,
    require_torch,
    resolve_labels_by,
)
from mien.training.scoring.scored_faces import HELD_OUT, held_out_caveat, keep_run_classes, select_scored_faces

#: Training faces that are scored for comparison: enough for one point of accuracy, in a few seconds.
SAMPLE = 2000

ScoredSplit = Annotated[
    str, typer.Option("--split", help="Score this split. Default: the test split, else the validation split.")
]


def report(
    model: Model,
    data: Data,
    out: OutFolder = Path("mien-out"),
    split: ScoredSplit = "",
    tta: Tta = "none",
    exclude: Exclude = None,
    saliency: Annotated[bool, typer.Option(help="Show a saliency map beside each face; needs torch.")] = True,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page about a model: its faces, its confusions, all its scores.

    report.html is one file that opens offline. It shows, for every class, the most and the least confident predictions with
    saliency maps; the faces behind every cell of the confusion matrix; every score with its 95 % interval; curves and
    calibration; the votes of FER+, if the data has them; and the training of a run folder. Its figures are written beside it
    as PNG, its numbers as report.json.
    """
    check_tta(tta)
    require_jinja()
    refuse_overwrite(out, data)
    silent = quiet or as_json
    classifier = open_classifier(model)
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
    faces, which, trained_on = select_scored_faces(everything, split, data, Path(model) if is_run(model) else None)
    warning = f"Note: {which} is what models are trained on; a score on it says little of other faces."
    notes = [warning] if trained_on else []
    print_left_out(everything, faces, which, quiet=bool(split) or silent)
    _print_notes(notes, quiet=silent)
    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_images(classifier, faces.images, tta, quiet=silent, title="report")
    training = None if trained_on else _score_training_faces(classifier, everything, faces, tta, silent)
    draw_maps, method, problem = _make_saliency(model, faces.images, probabilities) if saliency else (None, "", "")
    notes += [f"Without saliency: {problem}."] if problem else []
    extras = Extras(draw_maps, method, _read_history(model), training, tuple(notes))
    labels_by = resolve_labels_by(labels_by, everything, classifier)
    title = f"{model} on {which}{describe_label_source(labels_by)}" + (f", {tta}" if tta != "none" else "")
    facts = {"model": model, "data": [str(path) for path in data], "split": which, "tta": tta, "labels_by": labels_by}
    with progress_bar("draw the page", None, quiet=silent):
        values = write_report(out, title, facts, faces, probabilities, extras)
    text = f"{title}\n\n{_report_text(values)}\n\nwrote {out / 'report.html'}, report.json and their figures"
    emit(values, text, as_json=as_json, quiet=quiet)


def select_common_faces(
    everything: FaceSet, split: str, data: list[Path], models: tuple[str, str]
) -> tuple[FaceSet, str, list[str]]:
    """Return (faces, their description, notes). Of runs that held faces out, those that no run was trained on, if any."""
    selections = [
        select_scored_faces(everything, split, data, Path(model) if is_run(model) else None) for model in models
    ]
    seen = [trained_on for _, _, trained_on in selections]
    faces, which, _ = min(selections, key=lambda one: len(one[0]))
    common = set.intersection(*(set(one.names.tolist()) for one, _, _ in selections))
    if common:
        faces = faces.select_names(common)
    else:  # two runs that held out different faces
        seen = [faces is not one for one, _, _ in selections]
    notes = [
        f"Note: {model} may have been trained on these faces." for model, was in zip(models, seen, strict=True) if was
    ]
    runs = [model for model in models if which.startswith(HELD_OUT) and is_run(model)]
    caveats = [(model, held_out_caveat(Path(model), faces)[0]) for model in runs]
    return faces, which, notes + [f"Note: {model}: {caveat}." for model, caveat in caveats if caveat]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model's name, an .onnx file, a run folder or a .pt file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare it with.")],
    data: Data,
    out: OutFolder = Path("mien-out"),
    split: ScoredSplit = "",
    tta: Tta = "none",
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare two models on the same faces.

    Tests whether the difference is significant (McNemar's test, paired bootstrap of accuracy and macro-F1), and lists the
    classes that gain and lose. compare.html shows the faces on which the models differ.
    """
    check_tta(tta)
    require_jinja()
    if a == b:
        raise UsageError(f"{a} and {b}", "are one and the same model", "name two")
    refuse_overwrite(out, data)
    silent = quiet or as_json
    one, two = open_classifier(a), open_classifier(b)
    _check_classes(a, one, b, two)
    everything = read_data(
        data,
        size=one.preprocessing.size,
        skip_bad=skip_bad,
        quiet=silent,
        exclude=exclude,
        labels_by=labels_by,
        model=one,
    )
    for model in (a, b):
        everything = keep_run_classes(model, everything, partial(print_note, quiet=quiet))
    faces, which, notes = select_common_faces(everything, split, data, (a, b))
    print_left_out(everything, faces, which, quiet=bool(split) or silent)
    _print_notes(notes, quiet=silent)
    faces = faces.reindex_classes(one.labels)
    images = faces.images
    if two.preprocessing.size != one.preprocessing.size:  # each model is given the pictures that `evaluate` gives it
        other = read_data(
            data,
            size=two.preprocessing.size,
            skip_bad=skip_bad,
            quiet=True,
            exclude=exclude,
            labels_by=labels_by,
            model=one,
        )
        images = _select_faces(other, faces).images
    of_a = classify_images(one, faces.images, tta, quiet=silent, title="A")
    of_b = reorder_columns(classify_images(two, images, tta, quiet=silent, title="B"), two.labels, one.labels)
    facts = {"model_a": a, "model_b": b, "data": [str(path) for path in data], "split": which, "tta": tta}
    facts["labels_by"] = resolve_labels_by(labels_by, everything, one)
    with progress_bar("draw the page", None, quiet=silent):
        comparison, values = write_comparison(out, (a, b), facts, faces, (of_a, of_b), notes)
    text = f"{format_comparison(comparison, (a, b))}\n\nwrote {out / 'compare.html'} and compare.json"
    emit(values, text, as_json=as_json, quiet=quiet)


def _check_classes(a: str, one: AnyClassifier, b: str, two: AnyClassifier) -> None:
    """Raise ModelError unless both know the same classes, in any order."""
    if set(one.labels) != set(two.labels):
        problem = f"knows {', '.join(two.labels)}, and {a} knows {', '.join(one.labels)}"
        raise ModelError(b, problem, "compare models of the same classes")


def _print_notes(notes: list[str], *, quiet: bool) -> None:
    """Print the notes of a page on stderr, in the form that errors have."""
    for note in notes:
        print_note(note[:1].lower() + note[1:].rstrip("."), quiet=quiet)


def _score_training_faces(
    classifier: AnyClassifier, everything: FaceSet, measured: FaceSet, tta: str, quiet: bool
) -> TrainingRecall | None:
    """Return the recall on training faces, at most SAMPLE of them, drawn by class; None without a training split."""
    if not everything.has_split("train"):
        return None
    part = everything.select_role("train")
    part = part.take(part.is_labeled & ~np.isin(part.names, measured.names))  # but for what a run held out of them
    if not len(part):
        return None
    (rows,) = sample_stratified(part.labels, [min(SAMPLE, len(part))], seed=0)
    sample = part.take(rows).reindex_classes(classifier.labels)
    probabilities = classify_images(classifier, sample.images, tta, quiet=quiet, title="training faces")
    matrix = confusion_matrix(sample.labels, probabilities.argmax(axis=1), len(classifier.labels))
    return TrainingRecall(" and ".join(part.splits), len(sample), len(part), matrix)


def _make_saliency(model: str, images: np.ndarray, probabilities: np.ndarray) -> tuple[Saliency | None, str, str]:
    """Return (a function from rows to drawn saliency maps; the name of the method; why there are no maps).

    Grad-CAM of the predicted class, or the gradient where a network has no convolutions. Only a network that torch can
    rebuild can be asked: a quantized file or an installation without torch has no saliency.
    """
    try:
        require_torch()
        from mien.explanation.attribution import compute_attributions
        from mien.training.torch_classifier import open_trained_model

        trained = open_trained_model(model)
    except MienError as error:
        return None, "", f"{error.name} {error.problem}"

    def maps(rows: np.ndarray, method: str) -> np.ndarray:
        inputs, targets = trained.preprocessing.to_tensor(images[rows]), probabilities[rows].argmax(axis=1)
        return compute_attributions(trained.network, inputs, targets, method)

    method, name = "grad-cam", "Grad-CAM (Selvaraju et al., 2017)"
    try:
        maps(np.array([0]), method)
    except MienError:
        method, name = "gradient", "the size of the gradient (Simonyan et al., 2014)"

    def draw_maps(rows: np.ndarray) -> np.ndarray:
        drawn_maps = maps(rows, method)
        return draw_overlays(_resize_faces(images[rows], drawn_maps.shape[1]), drawn_maps, zoom=2)

    return draw_maps, f"what the model looked at, by {name}", ""


def _resize_faces(faces: np.ndarray, side: int) -> np.ndarray:
    """Return faces uint8 (N, H, W) at the side in pixels of the network's input."""
    return faces if faces.shape[1:3] == (side, side) else np.stack([resize(face, side) for face in faces])


def _read_history(model: str) -> list[dict[str, Any]]:
    """Return the training log of a run folder; empty for model files."""
    if not (is_run(model) and Path(model).is_dir()):
        return []
    from mien.training.torch_classifier import read_log

    return read_log(Path(model))[1]


def _select_faces(everything: FaceSet, chosen: FaceSet) -> FaceSet:
    """Return the rows of ``everything`` with the names of ``wanted``, in its order."""
    place = {name: row for row, name in enumerate(everything.names.tolist())}
    return everything.take([place[name] for name in chosen.names.tolist()])


def _report_text(values: dict[str, Any]) -> str:
    """Return the overall scores, a line each."""
    width = max(len(title) for title, _ in METRIC_NAMES.values())
    lines = [f"{'faces':<{width}}  {values['count']:,}"]
    for name, (title, _) in METRIC_NAMES.items():
        value, between = (values[name], values[f"{name}_interval"])
        if value is None:
            lines.append(f"{title:<{width}}  —")
        else:
            shown, limits = format_value(name, value, between)
            lines.append(f"{title:<{width}}  {shown:>7}  ({limits})")
    return "\n".join(lines)
