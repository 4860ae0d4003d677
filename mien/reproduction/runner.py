"""Runs a study: every training on its own split, scored on faces that neither trained nor chose anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mien.core.errors import DataError, TrainingDiverged
from mien.core.files import write_json
from mien.core.types import FaceSet
from mien.data.annotators import labelled_by
from mien.data.splits import one_against_all
from mien.evaluation.metrics import score
from mien.reproduction.derived import ensemble_of_three, rare_class
from mien.reproduction.studies import ALL, SPLITS, Run, Study
from mien.training.checkpoint import read_checkpoint
from mien.training.recipe import Recipe, load_recipe, recipe_from
from mien.training.torch_classifier import TorchClassifier, load_run, read_log
from mien.training.train import train

Say = Callable[[str], None]

#: What a study makes of its runs, and of other studies' runs, once they are trained.
DERIVED: dict[str, Callable[[Path, FaceSet], dict[str, Any]]] = {
    "rare-class": rare_class,
    "ensemble": ensemble_of_three,
}


def reproduce(
    study: Study,
    faces: FaceSet,
    folder: Path,
    *,
    short: bool = False,
    known: Path | None = None,
    quiet: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Train and score what is not yet there; returns the study's result and writes it as ``folder/STUDY.json``.

    Run folders are ``folder/STUDY/RUN``. A run that was interrupted goes on, one that is done is left as it is. With
    ``short`` runs have their shortened schedule; DataError where one that is done was shorter, or another. ``known`` is a folder of STUDY.json files of other machines or earlier
    days: a run of theirs that had the same recipe and is as long or longer is taken from there, but where a study makes
    something of its runs' weights.
    """
    earlier = {} if known is None or study.name in DERIVED else _runs_in(known / f"{study.name}.json")
    for name in study.needs:
        reproduce(ALL[name], faces, folder, short=short, quiet=quiet, say=say)
    result: dict[str, Any] = {"study": study.name, "runs": {}}
    for run in study.runs:
        place = folder / study.name / run.name
        recipe = recipe_of(run, short, folder)
        if (place / "result.json").is_file():
            result["runs"][run.name] = _finished(place, recipe)
            continue
        if run.name in earlier and _as_long(earlier[run.name], recipe):
            say(f"{study.name}, {run.name}: known from {known}")
            result["runs"][run.name] = earlier[run.name]
            continue
        if (recipe.targets.votes or recipe.data.labels == "raters") and faces.votes is None:
            say(
                f"{study.name}, {run.name}: left out, since the data holds no FER+ votes ('mien data convert --ferplus')"
            )
            continue
        say(f"{study.name}, {run.name}: {study.title}")
        result["runs"][run.name] = result_of(run, faces, place, short=short, quiet=quiet, say=say)
        write_json(place / "result.json", result["runs"][run.name])
    if study.name in DERIVED:
        result["derived"] = DERIVED[study.name](folder, faces)
    write_json(folder / f"{study.name}.json", slim(result))
    return result


def result_of(run: Run, faces: FaceSet, place: Path, *, short: bool, quiet: bool, say: Say) -> dict[str, Any]:
    """Train one run and score it on its test faces; a loss that becomes NaN is a result too."""
    recipe = recipe_of(run, short, place.parent.parent)
    divided = SPLITS[run.split](faces)
    diverged = ""
    try:
        train(recipe, divided, place, resume=_begun_so(place, recipe), quiet=quiet, say=say)
    except TrainingDiverged as error:
        diverged = error.found
        say(f"{place.parent.name}, {run.name}: {diverged}")
    header, history = read_log(place)
    result = {
        "recipe": recipe.model_dump(),
        "split": {name: int((divided.split == name).sum()) for name in divided.splits},
        "full_epochs": run.epochs,
        "diverged": diverged,
        "header": {key: value for key, value in header.items() if key != "recipe"},
        "history": history,
        "scores": {},
    }
    if history:
        classifier = TorchClassifier(load_run(place))
        test = labelled_by(divided, recipe.data.labels).in_split("test")
        test = test.take(test.labelled)
        test = one_against_all(test, run_class) if (run_class := recipe.data.against) else test
        test = test.as_classes(classifier.labels)
        for tta in ("none", *run.tta):
            scores = score(classifier.probabilities(test.images, tta), test.labels, classifier.labels)
            result["scores"][tta] = scores.to_json()
            say(f"{place.parent.name}, {run.name}, {tta}: {scores.accuracy:.2%} of {scores.count:,} test faces")
    return result


def recipe_of(run: Run, short: bool, runs: Path = Path("runs")) -> Recipe:
    """The run's recipe at its full or its shortened length. ``runs`` holds all studies.

    Milestones shrink with the length, and the warm-up takes no more than two fifths of it.
    """
    epochs = run.short if short else run.epochs
    settings = [setting.replace("RUNS", runs.as_posix()) for setting in run.settings]
    schedule = load_recipe(run.recipe, [*settings, f"schedule.epochs={epochs}"]).schedule
    if epochs < run.epochs:
        milestones = [round(epoch * epochs / run.epochs) for epoch in schedule.milestones]
        warmup = min(schedule.warmup_epochs, 0.4 * epochs)
        settings += [f"schedule.milestones={milestones}", f"schedule.warmup_epochs={warmup}"]
    return load_recipe(run.recipe, [*settings, f"schedule.epochs={epochs}"])


def _runs_in(file: Path) -> dict[str, Any]:
    """A study's result → its runs; {} where it was not made."""
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else {}


def _finished(place: Path, recipe: Recipe) -> dict[str, Any]:
    """The result of a run that is done; DataError where it is not that of this recipe, for as many epochs or more."""
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    if not _as_long(result, recipe):
        epochs = result["recipe"]["schedule"]["epochs"]
        found = f"holds a run of {epochs} epochs, and {recipe.schedule.epochs} are wished"
        if epochs == recipe.schedule.epochs:
            found = "holds a run with other settings than this study has"
        raise DataError(place, found, "remove it, or choose another --out")
    return result


def _as_long(earlier: dict[str, Any], recipe: Recipe) -> bool:
    """Whether an earlier run's recipe was this one, for as many epochs or more."""
    theirs = recipe_from(earlier["recipe"], "an earlier run")
    same_length = {"schedule": recipe.schedule, "description": recipe.description}
    lengths = ("epochs", "milestones", "warmup_epochs")
    same_schedule = {name: getattr(recipe.schedule, name) for name in lengths}
    return (
        theirs.model_copy(update=same_length) == recipe
        and theirs.schedule.model_copy(update=same_schedule) == recipe.schedule
        and theirs.schedule.epochs >= recipe.schedule.epochs
    )


def _begun_so(place: Path, recipe: Recipe) -> bool:
    """Whether the folder holds a run of this very recipe, to go on with; one of another length is refused by train."""
    last = place / "last.pt"
    return last.is_file() and recipe_from(json.loads(read_checkpoint(last)["recipe"]), str(place)) == recipe


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """The same with six significant digits, small enough for a repository."""
    return json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.6g}"))
