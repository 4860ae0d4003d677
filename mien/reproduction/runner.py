"""Run a study: each training on its own split, scored on faces that neither trained nor selected a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mien.analysis.inference.classifier import TTA
from mien.core.errors import DataError, TrainingDiverged, UsageError
from mien.core.files import make_folder, write_json
from mien.core.locks import hold_lock
from mien.core.types import FaceSet
from mien.data.annotators import relabel_faces
from mien.data.splits import make_one_vs_rest
from mien.evaluation.metrics import score
from mien.reproduction.derived import evaluate_ensemble, evaluate_rare_class
from mien.reproduction.studies import ALL, SPLITS, Run, Study
from mien.training.recipe import Recipe, has_same_settings, load_recipe, parse_recipe
from mien.training.runs.checkpoint import read_checkpoint
from mien.training.torch_classifier import TorchClassifier, load_run, read_log
from mien.training.train import train

Echo = Callable[[str], None]

#: What a study makes of its runs, and of other studies' runs, once they are trained.
DERIVED: dict[str, Callable[[Path, FaceSet], dict[str, Any]]] = {
    "rare-class": evaluate_rare_class,
    "ensemble": evaluate_ensemble,
}


def reproduce_study(
    study: Study,
    faces: FaceSet,
    folder: Path,
    *,
    short: bool = False,
    known: Path | None = None,
    only: str = "",
    quiet: bool = False,
    echo: Echo = print,
) -> dict[str, Any]:
    """Train and score what is not yet there; returns the study's result and writes it as ``folder/STUDY.json``.

    Run folders are ``folder/STUDY/RUN``. A run that was interrupted goes on, one that is done is left as it is. With
    ``short`` runs have their shortened schedule; DataError where one that is done was shorter, or another. ``known`` is a folder of STUDY.json files of other machines or earlier
    days: a run of theirs that had the same recipe and is as long or longer is taken from there, but where a study makes
    something of its runs' weights. With ``only`` no other run of the study is trained; the result holds those that are done.
    """
    if only and only not in (names := [run.name for run in study.runs]):
        raise UsageError(f"run '{only}'", f"is unknown in {study.name}", f"choose one of {', '.join(names)}")
    earlier = {} if known is None or study.name in DERIVED else read_runs(known / f"{study.name}.json")
    for name in study.needs:
        reproduce_study(ALL[name], faces, folder, short=short, quiet=quiet, echo=echo)
    for run in study.runs:
        place, recipe = folder / study.name / run.name, make_recipe(run, short, folder)
        if only not in ("", run.name):
            continue
        if (place / "result.json").is_file():
            _check_finished_run(place, recipe)
        elif is_known(earlier.get(run.name), recipe):
            echo(f"{study.name}, {run.name}: known from {known}")
        elif (recipe.targets.votes or recipe.data.labels == "annotators") and faces.votes is None:
            echo(f"{study.name}, {run.name}: left out, since the data holds no FER+ votes")
        else:
            echo(f"{study.name}, {run.name}: {study.title}")
            write_json(place / "result.json", train_run(run, faces, place, short=short, quiet=quiet, echo=echo))
    # Runs of one study may end in several processes at once: who comes last must have read what all others wrote.
    hint = "wait until it has ended, or choose another folder as `out`"
    with hold_lock(make_folder(folder) / f".{study.name}.lock", folder, hint, wait_s=600):
        result: dict[str, Any] = {"study": study.name, "runs": _collect_runs(study, folder, earlier, short)}
        if study.name in DERIVED and len(result["runs"]) == len(study.runs):
            result["derived"] = DERIVED[study.name](folder, faces)
        write_json(folder / f"{study.name}.json", round_numbers(result))
    return result


def train_run(run: Run, faces: FaceSet, place: Path, *, short: bool, quiet: bool, echo: Echo) -> dict[str, Any]:
    """Train one run and score it on its test faces; a diverged run is a result, too."""
    recipe = make_recipe(run, short, place.parent.parent)
    divided = SPLITS[run.split](faces)
    diverged = ""
    try:
        train(recipe, divided, place, resume=_is_resumable(place, recipe), quiet=quiet, echo=echo)
    except TrainingDiverged as error:
        diverged = error.problem
        echo(f"{place.parent.name}, {run.name}: {diverged}")
    header, history = read_log(place)
    result: dict[str, Any] = {
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
        test = relabel_faces(divided, recipe.data.labels).select_split("test")
        test = test.take(test.is_labeled)
        test = make_one_vs_rest(test, run_class) if (run_class := recipe.data.one_vs_rest) else test
        test = test.reindex_classes(classifier.labels)
        views: tuple[TTA, ...] = ("none", *run.tta)
        for tta in views:
            scores = score(classifier.probabilities(test.images, tta), test.labels, classifier.labels)
            result["scores"][tta] = scores.to_json()
            echo(f"{place.parent.name}, {run.name}, {tta}: {scores.accuracy:.2%} of {scores.count:,} test faces")
    return result


def make_recipe(run: Run, short: bool, runs: Path = Path("runs")) -> Recipe:
    """Return the run's recipe at its full or its shortened length. ``runs`` holds all studies.

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


def read_runs(file: Path) -> dict[str, Any]:
    """Return the runs in a study's result file; {} if there is none."""
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else {}


def _collect_runs(study: Study, folder: Path, earlier: dict[str, Any], short: bool) -> dict[str, Any]:
    """Run → result, of the study's runs that are done or known, with at least the requested length."""
    results = {}
    for run in study.runs:
        recipe, file = make_recipe(run, short, folder), folder / study.name / run.name / "result.json"
        result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else earlier.get(run.name)
        if is_known(result, recipe):
            results[run.name] = result
    return results


def _check_finished_run(place: Path, recipe: Recipe) -> None:
    """Raise DataError if the finished run has another recipe or fewer epochs."""
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    if not is_known(result, recipe):
        epochs = result["recipe"]["schedule"]["epochs"]
        problem = f"holds a run of {epochs} epochs instead of {recipe.schedule.epochs}"
        if epochs == recipe.schedule.epochs:
            problem = "holds a run with other settings than this study"
        raise DataError(place, problem, "remove it, or choose another `out`")


def is_known(earlier: dict[str, Any] | None, recipe: Recipe) -> bool:
    """Return whether there is an earlier run of this recipe with at least as many epochs."""
    if earlier is None:
        return False
    before = parse_recipe(earlier["recipe"], "an earlier run")
    same_length = {"schedule": recipe.schedule, "description": recipe.description}
    lengths = ("epochs", "milestones", "warmup_epochs")
    same_schedule = {name: getattr(recipe.schedule, name) for name in lengths}
    return (
        before.model_copy(update=same_length) == recipe
        and before.schedule.model_copy(update=same_schedule) == recipe.schedule
        and before.schedule.epochs >= recipe.schedule.epochs
    )


def _is_resumable(place: Path, recipe: Recipe) -> bool:
    """Return whether the folder holds a run of this recipe that can be resumed. `train` refuses a run of another length."""
    last = place / "last.pt"
    if not last.is_file():
        return False
    return has_same_settings(parse_recipe(json.loads(read_checkpoint(last)["recipe"]), str(place)), recipe)


def round_numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Round all numbers to six significant digits, to keep the file small."""
    return json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.6g}"))
