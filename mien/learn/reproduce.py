"""Runs a study: every training on its own split, scored on faces that neither trained nor chose anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.errors import TrainingDiverged
from mien.core.files import write_json
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.evaluate.metrics import score
from mien.learn.inference import TorchClassifier, load_run
from mien.learn.recipe import load_recipe
from mien.learn.studies import SPLITS, Run, Study
from mien.learn.train import train


def reproduce(
    study: Study,
    faces: FaceSet,
    folder: Path,
    *,
    short: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train and score what is not yet there; returns the result of every run, and writes each as result.json.

    Run folders are ``folder/STUDY/RUN``. A run that was interrupted goes on; one that is done is left as it is.
    """
    results = []
    for run in study.runs:
        place = folder / study.name / run.name
        if (place / "result.json").is_file():
            results.append(json.loads((place / "result.json").read_text(encoding="utf-8")))
            continue
        say(f"{study.name}, {run.name}: {study.title}")
        results.append(result_of(study, run, faces, place, short=short, quiet=quiet, say=say))
        write_json(place / "result.json", results[-1])
    return results


def result_of(
    study: Study, run: Run, faces: FaceSet, place: Path, *, short: bool, quiet: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train one run and score it on its test faces; a loss that becomes NaN is a result too."""
    epochs = run.short if short else run.epochs
    recipe = load_recipe(run.recipe, [*run.settings, f"schedule.epochs={epochs}"])
    if epochs < run.epochs and recipe.schedule.milestones:
        scaled = [round(epoch * epochs / run.epochs) for epoch in recipe.schedule.milestones]
        recipe = load_recipe(run.recipe, [*run.settings, f"schedule.epochs={epochs}", f"schedule.milestones={scaled}"])
    divided = SPLITS[run.split](faces)
    diverged = ""
    try:
        train(recipe, divided, place, resume=(place / "last.pt").is_file(), quiet=quiet, say=say)
    except TrainingDiverged as error:
        diverged = error.found
        say(f"{study.name}, {run.name}: {diverged}")
    header, history = _log(place)
    result = {
        "study": study.name,
        "run": run.name,
        "recipe": recipe.model_dump(),
        "split": {name: int((divided.split == name).sum()) for name in divided.splits},
        "epochs": len(history),
        "full_epochs": run.epochs,
        "diverged": diverged,
        "header": {key: value for key, value in header.items() if key != "recipe"},
        "history": history,
        "scores": {},
    }
    if history:
        classifier = TorchClassifier(load_run(place))
        test = _tested(divided, classifier.labels)
        for tta in ("none", *run.tta):
            probabilities = _probabilities(classifier, test.images, tta, f"{study.name}, {run.name}: {tta}", quiet)
            np.savez_compressed(place / f"test-{tta}.npz", probabilities=probabilities, labels=test.labels)
            result["scores"][tta] = score(probabilities, test.labels, classifier.labels).to_json()
    return result


def _tested(divided: FaceSet, labels: tuple[str, ...]) -> FaceSet:
    """The test faces, in the classes that the network knows."""
    from mien.data.splits import one_against_all

    test = divided.in_split("test")
    return one_against_all(test, labels[1]) if labels[0] == "other" else test.as_classes(labels)


def _probabilities(classifier: TorchClassifier, images: np.ndarray, tta: str, title: str, quiet: bool) -> np.ndarray:
    parts = []
    with progress_bar(title, len(images), quiet=quiet) as bar:
        for start in range(0, len(images), 256):
            parts.append(classifier.probabilities(images[start : start + 256], tta))
            bar.advance(len(parts[-1]), "")
    return np.concatenate(parts)


def _log(place: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(header, a row an epoch) of a run's log; empty where not one epoch was finished."""
    path = place / "log.jsonl"
    if not path.is_file():
        return {}, []
    header, *history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return header, history
