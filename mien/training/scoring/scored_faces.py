"""Which faces of a data set a model is scored on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mien.core.errors import DataError
from mien.core.labels import normalize_label
from mien.core.types import FaceSet, split_role
from mien.data.splits import read_names, select_written
from mien.evaluation.metrics import Scores, score
from mien.training.scoring.classifiers import AnyClassifier, classify_images, is_run

#: How a score begins that is of those training faces that a run did not train on.
HELD_OUT = "held out of "


class Selection(NamedTuple):
    """Labeled faces to score a model on, their description, and whether the model may have been trained on them."""

    faces: FaceSet
    description: str
    is_trained_on: bool


def select_scored_faces(faces: FaceSet, split: str, data: list[Path], run: Path | None) -> Selection:
    """Return the labeled faces to score.

    They are those of ``split`` if it is named; else of the test split, else of the validation split, unless the run was trained
    on it; else those that the run held out of its training faces; else all.
    """
    labeled = faces.take(faces.is_labeled)
    trained_roles = {"train"} if run is None else _training_roles(run)
    everything = faces.select_split(split) if split else faces
    if not split and len(labeled.splits) > 1:
        untouched = (role for role in ("test", "validation") if labeled.has_split(role) and role not in trained_roles)
        split = next(untouched, "")
        everything = faces.select_role(split) if split else faces
    faces = everything.take(everything.is_labeled)
    if not len(faces):
        raise DataError(
            ", ".join(map(str, data)) or "`faces`",
            f"has no labels to score against{f' in {split}' if split else ''}",
            "use 'mien predict', or give the file with its labels",
        )
    description = ", ".join(name for name in faces.splits if name) or ", ".join(path.name for path in data)
    is_trained_on = any(split_role(name) in trained_roles for name in faces.splits)
    held_out = None if run is None else _run_folder(run) / "validation.csv"
    if run is None or held_out is None or not held_out.is_file() or not (is_trained_on or "" in faces.splits):
        return Selection(faces, description, is_trained_on or _has_trained(run, faces))
    ours = select_written(everything, held_out)
    if len(ours) and len(ours) == len(read_names(held_out)):
        ours = ours.take(ours.is_labeled)
        caveat, is_known = held_out_caveat(run, ours)
        return Selection(ours, f"{HELD_OUT}{description}{f' ({caveat})' if caveat else ''}", is_known)
    return Selection(faces, description, is_trained_on or len(ours) > 0 or _has_trained(run, faces))


def _has_trained(run: Path | None, faces: FaceSet) -> bool:
    """Return whether most of the faces, under whatever name, are pictures that trained the run."""
    if run is None:
        return False
    from mien.training.runs.lineage import read_lineage

    lineage = read_lineage(run)
    return lineage is not None and lineage.count_seen(faces) > len(faces) / 2


def held_out_caveat(run: Path, held_out: FaceSet) -> tuple[str, bool]:
    """Return what limits a run's score on its held-out faces, and whether they are known to have trained an earlier model."""
    from mien.training.runs.lineage import describe_overlap, read_lineage

    return describe_overlap(read_lineage(run), held_out)


def _run_folder(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _training_roles(run: Path) -> set[str]:
    """Return the roles of the splits that a run's recipe trains on."""
    from mien.training.recipe import load_recipe

    recipe = _run_folder(run) / "recipe.toml"
    trained = load_recipe(recipe).data.train if recipe.is_file() else "train"
    return {split_role(name) for name in trained.split("+")}


def keep_run_classes(model: str, faces: FaceSet, echo: Callable[[str], None]) -> FaceSet:
    """Return the faces of the classes that a run's recipe chose with data.classes; all for other models.

    echo: is told how many others are left out.
    """
    if not is_run(model):
        return faces
    from mien.training.recipe import load_recipe

    recipe = _run_folder(Path(model)) / "recipe.toml"
    if not (chosen := load_recipe(recipe).data.classes if recipe.is_file() else []):
        return faces
    known = {normalize_label(name) for name in chosen}
    others = [label for label, name in enumerate(faces.classes) if name not in known]
    selected = faces.take(~np.isin(faces.labels, others))
    if not selected.is_labeled.any() and faces.is_labeled.any():
        problem = f"has no face of the run's classes ({', '.join(chosen)})"
        raise DataError("data", problem, "give faces of these, or name another model")
    if len(selected) < len(faces):
        names = ", ".join(faces.classes[label] for label in others if (faces.labels == label).any())
        left_out = (
            f"{len(faces) - len(selected):,} faces of classes that the run was not trained on ({names}) are left out"
        )
        echo(left_out)
    return selected


def score_classifier(classifier: AnyClassifier, faces: FaceSet, *, quiet: bool) -> Scores:
    """Classify labeled faces and compare with their labels."""
    faces = faces.reindex_classes(classifier.labels)
    probabilities = classify_images(classifier, faces.images, "none", quiet=quiet, title="evaluate")
    return score(probabilities, faces.labels, classifier.labels)
