"""`mien report` and `mien compare`: pages that show what a model reads, and where two models differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.options import (
    Data,
    Exclude,
    Json,
    LabelsBy,
    Quiet,
    SkipBad,
    Tta,
    classify_all,
    is_run,
    open_classifier,
    read_data,
    refuse_overwrite,
    require_torch,
    whose_labels,
)
from mien.cli.training import HELD_OUT, Model, by_whom, held_out_caveat, left_aside, of_own_classes, to_score
from mien.core.progress import echo, progress_bar

if TYPE_CHECKING:
    import numpy as np

    from mien.cli.options import AnyClassifier
    from mien.core.types import FaceSet
    from mien.evaluation.reports.galleries import Saliency
    from mien.evaluation.reports.model_report import TrainingRecall

#: Training faces that are read for comparison: enough for a point of accuracy, in a few seconds.
SAMPLE = 2000

Out = Annotated[Path, typer.Option(help="The folder to write to.")]
Split = Annotated[str, typer.Option(help="Measure this split; default: the test split, else the validation split.")]


def report(
    model: Model,
    data: Data,
    out: Out = Path("mien-out"),
    split: Split = "",
    tta: Tta = "none",
    exclude: Exclude = None,
    saliency: Annotated[
        bool, typer.Option(help="Show what the model looked at, beside each face; needs torch.")
    ] = True,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page about a model: its faces, its confusions, all its scores.

    report.html opens without a network and can be mailed. It shows for every class the faces that the model is surest
    of, right and wrong, and least sure of, with what it looked at; the faces behind every cell of the confusion matrix;
    every score with its 95 % interval; curves and calibration; the votes of FER+, where the data has them; and, for a
    run folder, its training. Its figures lie beside it as PNG, its numbers as report.json.
    """
    from mien.analysis.inference.classifier import check_tta
    from mien.evaluation.reports.model_report import Extras, write_report
    from mien.evaluation.reports.page import require_jinja

    check_tta(tta)
    require_jinja()
    refuse_overwrite(out, data)
    still = quiet or as_json
    classifier = open_classifier(model)
    everything = read_data(
        data,
        size=classifier.preprocessing.size,
        skip_bad=skip_bad,
        quiet=still,
        exclude=exclude,
        labels_by=labels_by,
        model=classifier,
    )
    everything = of_own_classes(model, everything, quiet)
    faces, which, trained_on = to_score(everything, split, data, Path(model) if is_run(model) else None)
    warning = f"Note: {which} is what models are trained on; a score on it says little of other faces."
    notes = [warning] if trained_on else []
    _tell(faces, everything, which, notes, asked=bool(split), quiet=still)
    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_all(classifier, faces.images, tta, quiet=still, title="report")
    training = None if trained_on else _on_training(classifier, everything, faces, tta, still)
    shown, method, why = _saliency(model, faces.images, probabilities) if saliency else (None, "", "")
    notes += [f"Without saliency: {why}."] if why else []
    extras = Extras(shown, method, _history(model), training, tuple(notes))
    whose = whose_labels(labels_by, everything, classifier)
    title = f"{model} on {which}{by_whom(whose)}" + (f", {tta}" if tta != "none" else "")
    facts = {"model": model, "data": [str(path) for path in data], "split": which, "tta": tta, "labels_by": whose}
    with progress_bar("draw the page", None, quiet=still):
        values = write_report(out, title, facts, faces, probabilities, extras)
    if as_json:
        echo(json.dumps(values, indent=2))
    elif not quiet:
        echo(f"{title}\n\n{_report_text(values)}\n\nwrote {out / 'report.html'}, report.json and their figures")


def _to_hold_against(
    everything: FaceSet, split: str, data: list[Path], models: tuple[str, str]
) -> tuple[FaceSet, str, list[str]]:
    """(faces, what they are, notes). Each model may be a run that held faces out: what neither has seen is taken, if any."""
    given = [to_score(everything, split, data, Path(model) if is_run(model) else None) for model in models]
    seen = [trained_on for _, _, trained_on in given]
    faces, which, _ = min(given, key=lambda one: len(one[0]))
    common = set.intersection(*(set(one.names.tolist()) for one, _, _ in given))
    if common:
        faces = faces.select_names(common)
    else:  # two runs that held out different faces
        seen = [faces is not one for one, _, _ in given]
    notes = [
        f"Note: {model} may have been trained on these faces." for model, was in zip(models, seen, strict=True) if was
    ]
    runs = [model for model in models if which.startswith(HELD_OUT) and is_run(model)]
    said = [(model, held_out_caveat(Path(model), faces)[0]) for model in runs]
    return faces, which, notes + [f"Note: {model}: {caveat}." for model, caveat in said if caveat]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model's name, an .onnx file, a run folder or a .pt file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to hold against it.")],
    data: Data,
    out: Out = Path("mien-out"),
    split: Split = "",
    tta: Tta = "none",
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Hold two models against each other on the same faces.

    Says whether one is better than chance explains (McNemar's test, paired bootstrap of accuracy and macro-F1), which
    classes gain and lose, and shows the faces on which they differ in compare.html.
    """
    from mien.analysis.inference.classifier import check_tta
    from mien.core.errors import UsageError
    from mien.evaluation.comparison import reorder_columns
    from mien.evaluation.reports.comparison_report import format_comparison, write_comparison
    from mien.evaluation.reports.page import require_jinja

    check_tta(tta)
    require_jinja()
    if a == b:
        raise UsageError(f"{a} and {b}", "are one and the same model", "name two")
    refuse_overwrite(out, data)
    still = quiet or as_json
    one, two = open_classifier(a), open_classifier(b)
    _check_classes(a, one, b, two)
    everything = read_data(
        data,
        size=one.preprocessing.size,
        skip_bad=skip_bad,
        quiet=still,
        exclude=exclude,
        labels_by=labels_by,
        model=one,
    )
    for model in (a, b):
        everything = of_own_classes(model, everything, quiet)
    faces, which, notes = _to_hold_against(everything, split, data, (a, b))
    _tell(faces, everything, which, notes, asked=bool(split), quiet=still)
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
        images = _same_faces(other, faces).images
    of_a = classify_all(one, faces.images, tta, quiet=still, title="A")
    of_b = reorder_columns(classify_all(two, images, tta, quiet=still, title="B"), two.labels, one.labels)
    facts = {"model_a": a, "model_b": b, "data": [str(path) for path in data], "split": which, "tta": tta}
    facts["labels_by"] = whose_labels(labels_by, everything, one)
    with progress_bar("draw the page", None, quiet=still):
        found, values = write_comparison(out, (a, b), facts, faces, (of_a, of_b), notes)
    if as_json:
        echo(json.dumps(values, indent=2))
    elif not quiet:
        echo(f"{format_comparison(found, (a, b))}\n\nwrote {out / 'compare.html'} and compare.json")


def _check_classes(a: str, one: AnyClassifier, b: str, two: AnyClassifier) -> None:
    """ModelError unless both know the same classes, in any order."""
    from mien.core.errors import ModelError

    if set(one.labels) != set(two.labels):
        found = f"knows {', '.join(two.labels)}, and {a} knows {', '.join(one.labels)}"
        raise ModelError(b, found, "compare models of the same classes")


def _tell(faces: FaceSet, everything: FaceSet, which: str, notes: list[str], *, asked: bool, quiet: bool) -> None:
    """On stderr, as `mien evaluate` does: what is left aside, and what the reader must know."""
    if len(faces) < len(everything) and not (asked or quiet):
        echo(left_aside(everything, faces, which), error=True)
    for note in notes if not quiet else ():
        echo(note[:1].lower() + note[1:].rstrip("."), error=True)


def _on_training(
    classifier: AnyClassifier, everything: FaceSet, measured: FaceSet, tta: str, quiet: bool
) -> TrainingRecall | None:
    """How training faces are read, at most SAMPLE of them, drawn by class; None where the data has no training split."""
    import numpy as np

    from mien.data.splits import sample_stratified
    from mien.evaluation.metrics import confusion_matrix
    from mien.evaluation.reports.model_report import TrainingRecall

    if not everything.has_split("train"):
        return None
    part = everything.select_role("train")
    part = part.take(part.is_labeled & ~np.isin(part.names, measured.names))  # but for what a run held out of them
    if not len(part):
        return None
    (rows,) = sample_stratified(part.labels, [min(SAMPLE, len(part))], seed=0)
    sample = part.take(rows).reindex_classes(classifier.labels)
    probabilities = classify_all(classifier, sample.images, tta, quiet=quiet, title="training faces")
    matrix = confusion_matrix(sample.labels, probabilities.argmax(axis=1), len(classifier.labels))
    return TrainingRecall(" and ".join(part.splits), len(sample), len(part), matrix)


def _saliency(model: str, images: np.ndarray, probabilities: np.ndarray) -> tuple[Saliency | None, str, str]:
    """(rows → what the model looked at in these faces; the method in words; why there is none).

    Grad-CAM of the predicted class, or the gradient where a network has no convolutions. Only a network that torch can
    rebuild can be asked: a quantized file or an installation without torch has no saliency.
    """
    import numpy as np

    from mien.core.errors import MienError

    try:
        require_torch()
        from mien.explanation.attribution import explain
        from mien.explanation.figures import overlay
        from mien.training.torch_classifier import open_trained

        trained = open_trained(model)
    except MienError as error:
        return None, "", f"{error.name} {error.problem}"

    def maps(rows: np.ndarray, method: str) -> np.ndarray:
        inputs, targets = trained.preprocessing.to_tensor(images[rows]), probabilities[rows].argmax(axis=1)
        return explain(trained.network, inputs, targets, method)

    method, name = "grad-cam", "Grad-CAM (Selvaraju et al., 2017)"
    try:
        maps(np.array([0]), method)
    except MienError:
        method, name = "gradient", "the size of the gradient (Simonyan et al., 2014)"

    def of_rows(rows: np.ndarray) -> np.ndarray:
        found = maps(rows, method)
        return overlay(_of_size(images[rows], found.shape[1]), found, zoom=2)

    return of_rows, f"what the model looked at, by {name}", ""


def _of_size(faces: np.ndarray, side: int) -> np.ndarray:
    """Faces uint8 (n, H, W) at the side in pixels that the network sees."""
    import numpy as np

    from mien.core.preprocessing import resize

    return faces if faces.shape[1:3] == (side, side) else np.stack([resize(face, side) for face in faces])


def _history(model: str) -> list[dict[str, Any]]:
    """The training log of a run folder; empty for model files."""
    if not (is_run(model) and Path(model).is_dir()):
        return []
    from mien.training.torch_classifier import read_log

    return read_log(Path(model))[1]


def _same_faces(everything: FaceSet, wanted: FaceSet) -> FaceSet:
    """The rows of ``everything`` with the names of ``wanted``, in its order."""
    place = {name: row for row, name in enumerate(everything.names.tolist())}
    return everything.take([place[name] for name in wanted.names.tolist()])


def _report_text(values: dict[str, Any]) -> str:
    """The scores of the whole, a line each."""
    from mien.evaluation.reports.model_report import METRIC_NAMES, format_value

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
