"""Out-of-fold probabilities: k-fold cross-validation with small networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.core.errors import DataError, RecipeError
from mien.core.types import FaceSet
from mien.training.recipe import Recipe, parse_recipe
from mien.training.torch_classifier import TorchClassifier, load_run
from mien.training.train import train


def make_fold_recipe(size: int, epochs: int = 8, seed: int = 0) -> Recipe:
    """Return the recipe of one fold: a small residual network and a short schedule."""
    return parse_recipe(
        {
            "name": "fold",
            "description": "One of the networks that predict out-of-fold probabilities",
            "data": {"train": "train", "validation": "validation"},
            "input": {"size": size},
            "network": {"name": "residual", "arguments": {"widths": [32, 64, 128], "blocks": 1}},
            "augment": {"flip": 0.5, "degrees": 10, "scale": 0.1, "shift": 0.08},
            "loss": {"label_smoothing": 0.05},
            "optimizer": {"lr": 0.1},
            "schedule": {"epochs": epochs, "batch_size": 128, "warmup_epochs": 1},
            "run": {"seed": seed, "ema": 0.99, "keep": "last"},
        },
        "mien.training.folds",
    )


def assign_folds(labels: np.ndarray, groups: Sequence[np.ndarray], folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each face, int64 (N,) in 0..folds − 1, stratified by class, with groups kept together.

    Duplicates belong in one fold: a network trained on one of them would confirm the label of the other. A group of
    more than a hundredth of the set (and of 20 rows) is split, since it could leave other folds empty.
    """
    rng = np.random.default_rng(seed)
    chosen = np.empty(len(labels), np.int64)
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        chosen[rows] = np.arange(len(rows)) % folds
    for group in groups:
        if len(group) <= max(20, len(labels) / 100):
            chosen[group] = chosen[group[0]]
    return chosen


def predict_out_of_fold(
    faces: FaceSet,
    fold_indices: np.ndarray,
    folder: Path,
    *,
    epochs: int = 8,
    quiet: bool = False,
    echo: Callable[[str], None] = print,
) -> np.ndarray:
    """Return each face's probabilities, float32 (N, K), from a network that was not trained on it.

    faces: all labeled. fold_indices: int (N,), the fold of each. The networks are stored in ``folder/fold-1``... as run
    folders. Finished ones are used again, and an interrupted one is resumed.

    Raises DataError if the folder holds folds of other faces, or a fold leaves a class without training faces.
    """
    recipe = make_fold_recipe(faces.images.shape[1], epochs)
    probabilities = np.empty((len(faces), len(faces.classes)), np.float32)
    for fold in np.unique(fold_indices):
        held = fold_indices == fold
        part, run = replace(faces, split=np.where(held, "validation", "train")), folder / f"fold-{fold + 1}"
        echo(
            f"fold {fold + 1} of {fold_indices.max() + 1}: {(~held).sum():,} faces train, {held.sum():,} are predicted"
        )
        try:
            train(recipe, part, run, resume=(run / "last.pt").is_file(), quiet=quiet, echo=echo)
        except (DataError, RecipeError) as error:  # the folder belongs to a call with other faces or options
            if error.name != str(run):
                raise
            hint = f"give the same data and options, remove {folder}, or choose another `out`"
            raise DataError(run, error.problem, hint) from error
        probabilities[held] = TorchClassifier(load_run(run)).probabilities(faces.images[held], "flip")
    return probabilities
