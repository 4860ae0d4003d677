"""`mien train`, `evaluate`, `predict` and `export`: from a data set to a model file and its scores."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.options import (
    Data,
    Exclude,
    Json,
    LabelsBy,
    Precision,
    Quiet,
    Set,
    SkipBad,
    Tta,
    classify_all,
    is_run,
    keep_notes,
    open_classifier,
    read_data,
    refuse_overwrite,
    require_torch,
    whose_labels,
)
from mien.core.progress import echo

if TYPE_CHECKING:
    from mien.cli.options import AnyClassifier
    from mien.core.types import FaceSet
    from mien.evaluation.metrics import Scores

#: How it is said that a run was scored on a share of its training faces that did not train it.
HELD_OUT = "held out of "

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's name, an .onnx file, a run folder or a .pt file.")
]


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or a .toml file.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="The run folder; default: runs/RECIPE.")] = None,
    set: Set = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network as a recipe says.

    The run folder gets the resolved recipe, the hardware and versions, a log, curves, the best and the last checkpoint
    after every epoch, and the scores at the end. Ctrl-C or a crash loses at most one epoch: --resume goes on exactly.
    """
    require_torch()
    from mien.core.errors import RecipeError
    from mien.training.recipe import load_recipe
    from mien.training.resume import differences
    from mien.training.train import train as run

    quiet = quiet or as_json
    settings = load_recipe(recipe, set)
    folder = out or Path("runs") / settings.name
    if resume and not set and (folder / "recipe.toml").is_file():
        begun = load_recipe(folder / "recipe.toml")  # with its own --set, which need not be said again
        if begun.name != settings.name:
            raise RecipeError(
                folder, f"is a run of '{begun.name}', not of '{settings.name}'", "name its recipe or another --out"
            )
        if (changed := differences(begun, settings)) and not quiet:
            echo(f"note: the run goes on as it was begun, though in the recipe {'; '.join(changed)}", error=True)
        settings = begun
    given = [*data, *([exclude] if exclude else []), *([] if resume else [Path(recipe)])]
    refuse_overwrite(folder, given, writes=("recipe.toml", "validation.csv"))
    faces = read_data(data, size=settings.input.size, skip_bad=skip_bad, quiet=quiet, exclude=exclude)
    run(settings, faces, folder, resume=resume, quiet=quiet, say=(lambda text: None) if quiet else echo)
    if as_json:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        echo(json.dumps({"run": str(folder), "scores": scores}, indent=2))
    elif not quiet:
        named = shlex.quote(str(folder))
        echo(f"the run is in {folder}; next: mien evaluate {named} --data ..., mien export {named} --out model.onnx")


def evaluate(
    model: Model,
    data: Data,
    split: Annotated[
        str,
        typer.Option(help="Score this split; default: test, else validation, else what a run held out, else all."),
    ] = "",
    tta: Tta = "none",
    precision: Precision = "auto",
    out: Annotated[
        Path,
        typer.Option(help="Folder for scores.json, scores.txt, confusion.png and coverage.png."),
    ] = Path("mien-out"),
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a model on labeled faces.

    Accuracy and macro-F1 with 95 % bootstrap intervals; precision, recall, F1 and support of every class; the confusion
    matrix in counts and rates; how far confidences can be relied on: calibration error and risk-coverage curve.
    """
    from mien.analysis.inference.classifier import check_tta
    from mien.core.files import make_folder
    from mien.core.types import split_role
    from mien.evaluation.metrics import score
    from mien.evaluation.tables import format_scores, format_uncertainty, write_scores

    check_tta(tta)
    refuse_overwrite(out, data)
    classifier = open_classifier(model, precision)
    faces = read_data(
        data,
        size=classifier.preprocessing.size,
        skip_bad=skip_bad,
        quiet=quiet or as_json,
        exclude=exclude,
        labels_by=labels_by,
        model=classifier,
    )
    faces = of_own_classes(model, faces, quiet)
    everything, whose = faces, whose_labels(labels_by, faces, classifier)
    faces, which, trained_on = to_score(faces, split, data, Path(model) if is_run(model) else None)
    if not (split or quiet or as_json) and len(faces) < len(everything):
        echo(left_aside(everything, faces, which), error=True)
    info = getattr(classifier, "info", None)  # a run has none
    named = {split_role(name) for name in info.training.get("splits", ())} if info else set()
    trained_on = trained_on or any(name and split_role(name) in named for name in faces.splits)
    if trained_on and not quiet:
        echo(f"note: {which} is what models are trained on; a score on it says little of other faces", error=True)
    if info and "" in faces.splits and str(info.scores.get("data", "")).startswith(HELD_OUT) and not quiet:
        echo(f"note: the model's own score is of faces {info.scores['data']}; the others trained it", error=True)
    make_folder(out)
    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_all(classifier, faces.images, tta, quiet=quiet or as_json, title="evaluate")
    scores = score(probabilities, faces.labels, classifier.labels)
    on = (which or ", ".join(path.name for path in data)) + by_whom(whose)
    title = f"{model} on {on}" + (f", {tta}" if tta != "none" else "")
    facts = {"model": model, "data": [str(path) for path in data], "split": which, "tta": tta}
    facts |= {"labels_by": whose, "precision": getattr(classifier, "precision", "float")}
    unsure_below = info.thresholds.get("unsure") if info else None
    values = write_scores(out, scores, title, facts, (probabilities, faces.labels), unsure_below)
    if as_json:
        echo(json.dumps(values, indent=2))
    elif not quiet:
        echo(
            f"{title}, {facts['precision']}\n\n{format_scores(scores)}\n{format_uncertainty(values)}\n"
            f"wrote {out / 'scores.json'}, scores.txt, confusion.png and coverage.png"
        )


def predict(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    split: Annotated[str, typer.Option(help="Predict this split only; default: every row.")] = "",
    tta: Tta = "none",
    precision: Precision = "auto",
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a model's probabilities for every face of a data set: each picture is one, and is not searched for others.

    One CSV row a face, labeled or not, in the order of the data: path, label, truth where it is known, probabilities.
    """
    import numpy as np

    from mien.analysis.inference.classifier import check_tta
    from mien.core.errors import UsageError
    from mien.core.files import is_standard_stream
    from mien.evaluation.tables import write_predictions

    check_tta(tta)
    refuse_overwrite(out, data)
    if out.suffix.lower() not in ("", ".csv", ".txt"):
        raise UsageError(f"--out {out}", "is to hold CSV", f"as in --out {out.with_suffix('.csv')}")
    quiet = quiet or as_json
    classifier = open_classifier(model, precision)
    faces = read_data(
        data, size=classifier.preprocessing.size, skip_bad=skip_bad, quiet=quiet, labels_by=labels_by, model=classifier
    )
    faces = faces.select_split(split) if split else faces
    probabilities = classify_all(classifier, faces.images, tta, quiet=quiet, title="predict")
    write_predictions(faces, probabilities, classifier.labels, out)
    if as_json:
        found = np.bincount(probabilities.argmax(axis=1), minlength=len(classifier.labels)).tolist()
        facts = {"model": model, "file": str(out), "faces": len(faces), "tta": tta}
        echo(json.dumps(facts | {"labels": dict(zip(classifier.labels, found, strict=True))}, indent=2))
    elif not quiet:
        echo(f"wrote {len(faces):,} rows to {out}", error=is_standard_stream(out))


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or a .pt file.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write; its model card is written beside it as .md.")],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data", help="Faces on which torch and ONNX must agree; if labeled, the scores go into file and card."
        ),
    ] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="Use this split of the data.")] = "",
    name: Annotated[str, typer.Option(help="The model's name; default: the recipe's.")] = "",
    license: Annotated[
        str, typer.Option(help="The license of the weights, written into file and card.")
    ] = "not stated",
    half: Annotated[
        bool, typer.Option("--half", help="Store the weights in 16 bits: half the size, run in 32 bits as before.")
    ] = False,
    labels_by: LabelsBy = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a trained network as one ONNX file.

    Its labels and preprocessing are inside, its model card beside it. The file is kept only if torch and ONNX Runtime
    agree to 0.001 in every probability.
    """
    require_torch()
    from dataclasses import replace

    from mien.analysis.inference.model_file import int8_file
    from mien.core.errors import UsageError
    from mien.core.files import write_text
    from mien.training.release.card import model_card
    from mien.training.release.export import export as write
    from mien.training.release.export import halved, training_of
    from mien.training.torch_classifier import TorchClassifier, load_run

    quiet = quiet or as_json
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out {out}", "does not end in .onnx", f"as in --out {out.with_suffix('.onnx')}")
    keep_notes(out)
    trained = load_run(run)
    if name:
        trained = replace(trained, name=name)
    if half:
        trained = halved(trained)
    faces, which, whose, scores = None, "", "given", None
    classifier = TorchClassifier(trained)
    if data:
        faces = read_data(data, size=trained.preprocessing.size, quiet=quiet, labels_by=labels_by, model=classifier)
        faces = of_own_classes(str(run), faces.select_split(split) if split else faces, quiet)
        if faces.is_labeled.any():
            measured, which, trained_on = to_score(faces, split, data, run)
            if trained_on and not quiet:
                echo(f"note: {which} is what the run was trained on: no scores are written", error=True)
            if not trained_on:
                scores = _score(classifier, measured, "none", quiet)
                whose = whose_labels(labels_by, faces, classifier)
    values = {"data": which, "labels_by": whose, **scores.to_json()} if scores else {}
    difference = write(trained, out, faces, scores=values, license=license, half=half, training=training_of(run))
    stale = int8_file(out)
    if stale.is_file():
        stale.unlink()
        if not quiet:
            echo(f"removed {stale.name}, which had other weights", error=True)
    write_text(
        out.with_suffix(".md"), model_card(run, trained, out, scores, which + by_whom(whose), difference, license, half)
    )
    if as_json:
        facts = {"file": str(out), "bytes": out.stat().st_size, "card": str(out.with_suffix(".md"))}
        echo(json.dumps(facts | {"difference": difference, "scores": values}, indent=2))
    elif not quiet:
        checked = f"{len(faces):,} faces" if faces is not None else "noise; give --data for a check on faces"
        echo(
            f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.md').name}\n"
            f"torch and ONNX differ by at most {difference:.1e} in probability, on {checked}"
        )


def left_aside(everything: FaceSet, measured: FaceSet, which: str) -> str:
    """A line about the faces that are not measured."""
    count = len(everything) - len(measured)
    if count == (~everything.is_labeled).sum():
        return f"{count:,} faces without a label are left aside"
    unlabeled = "" if everything.is_labeled.all() else ", or have no label,"
    return f"{count:,} faces that are not {which}{unlabeled} are left aside; --split names others"


def of_own_classes(model: str, faces: FaceSet, quiet: bool) -> FaceSet:
    """The faces of the classes that a run's recipe chose with data.classes; says how many are left out. All for other models."""
    if not is_run(model):
        return faces
    import numpy as np

    from mien.core.errors import DataError
    from mien.core.labels import normalize_label
    from mien.training.recipe import load_recipe

    recipe = _folder_of(Path(model)) / "recipe.toml"
    if not (chosen := load_recipe(recipe).data.classes if recipe.is_file() else []):
        return faces
    known = {normalize_label(name) for name in chosen}
    others = [label for label, name in enumerate(faces.classes) if name not in known]
    kept = faces.take(~np.isin(faces.labels, others))
    if not kept.is_labeled.any() and faces.is_labeled.any():
        found = f"has no face of the run's classes ({', '.join(chosen)})"
        raise DataError("data", found, "give faces of these, or name another model")
    if len(kept) < len(faces) and not quiet:
        names = ", ".join(faces.classes[label] for label in others if (faces.labels == label).any())
        echo(
            f"{len(faces) - len(kept):,} faces of classes that the run was not trained on ({names}) are left out",
            error=True,
        )
    return kept


def by_whom(whose: str) -> str:
    """What is added to the words for some faces where their labels are not the file's own."""
    return " by FER+'s raters" if whose == "raters" else ""


def to_score(faces: FaceSet, split: str, data: list[Path], run: Path | None) -> tuple[FaceSet, str, bool]:
    """(labeled faces to score, what they are, whether the model may have been trained on them).

    They are those of the split asked for; else of the test split, else of the validation split, unless the run was trained
    on it; else what the run held out of its training faces; else all.
    """
    from mien.core.errors import DataError
    from mien.core.types import split_role
    from mien.data.splits import read_names, select_written

    labeled = faces.take(faces.is_labeled)
    trained = {"train"} if run is None else _roles_trained_on(run)
    everything = faces.select_split(split) if split else faces
    if not split and len(labeled.splits) > 1:
        untouched = (role for role in ("test", "validation") if labeled.has_split(role) and role not in trained)
        split = next(untouched, "")
        everything = faces.select_role(split) if split else faces
    faces = everything.take(everything.is_labeled)
    if not len(faces):
        raise DataError(
            ", ".join(map(str, data)),
            f"has no labels to score against{f' in {split}' if split else ''}",
            "use 'mien predict', or give the file with its labels",
        )
    which = ", ".join(name for name in faces.splits if name) or ", ".join(path.name for path in data)
    trained_on = any(split_role(name) in trained for name in faces.splits)
    held_out = None if run is None else _folder_of(run) / "validation.csv"
    if held_out is None or not held_out.is_file() or not (trained_on or "" in faces.splits):
        return faces, which, trained_on or _trained_by(run, faces)
    ours = select_written(everything, held_out)
    if len(ours) and len(ours) == len(read_names(held_out)):
        ours = ours.take(ours.is_labeled)
        said, is_known = held_out_caveat(run, ours)
        return ours, f"{HELD_OUT}{which}{f' ({said})' if said else ''}", is_known
    return faces, which, trained_on or len(ours) > 0 or _trained_by(run, faces)


def _trained_by(run: Path | None, faces: FaceSet) -> bool:
    """Whether most of the faces, under whatever name, are pictures that trained the run."""
    from mien.training.lineage import lineage_of

    found = None if run is None else lineage_of(run)
    return found is not None and found.seen(faces) > len(faces) / 2


def held_out_caveat(run: Path, held_out: FaceSet) -> tuple[str, bool]:
    """What to say of a run's score on its held-out faces, and whether it is none: an earlier model learned from them."""
    from mien.training.lineage import caveat, lineage_of

    return caveat(lineage_of(run), held_out)


def _folder_of(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _roles_trained_on(run: Path) -> set[str]:
    """The roles of the splits that a run's recipe trains on."""
    from mien.core.types import split_role
    from mien.training.recipe import load_recipe

    recipe = _folder_of(run) / "recipe.toml"
    trained = load_recipe(recipe).data.train if recipe.is_file() else "train"
    return {split_role(name) for name in trained.split("+")}


def _score(classifier: AnyClassifier, faces: FaceSet, tta: str, quiet: bool) -> Scores:
    from mien.evaluation.metrics import score

    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_all(classifier, faces.images, tta, quiet=quiet, title="evaluate")
    return score(probabilities, faces.labels, classifier.labels)
