"""What a run is given: its rows, the normalisation of its input, and both as tensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mien.core.errors import DataError, RecipeError
from mien.core.preprocess import Preprocessing
from mien.core.types import FaceSet, split_role
from mien.data.splits import hold_out, only_classes
from mien.learn.hardware import Hardware
from mien.learn.recipe import Recipe


def choose_rows(recipe: Recipe, faces: FaceSet, say: Callable[[str], None]) -> tuple[FaceSet, FaceSet]:
    """(training, validation) rows: the recipe's splits; where the data has no validation split, a part held out."""
    settings = recipe.data
    if not faces.labelled.any():
        raise DataError(
            "data", "holds no labels", "training needs a column 'emotion' or 'label', or a folder for each class"
        )
    if settings.classes:
        faces = only_classes(faces, settings.classes)
    faces = faces.take(faces.labelled)
    training = faces if faces.splits == ("",) else _in_role(faces, settings.train)
    if settings.validation and faces.has_split(settings.validation):
        validation = _in_role(faces, settings.validation)
        aside = len(faces) - len(training) - len(validation)
    else:
        aside = len(faces) - len(training)
        training, validation = hold_out(training, settings.holdout, recipe.run.seed)
        say(f"the data has no validation split: {len(validation):,} of the training faces are held out to watch")
    if aside:
        say(f"{aside:,} faces of other splits than {settings.train} and {settings.validation} are left aside")
    if len(training.classes) < 2:
        found = ", ".join(training.classes)
        raise DataError("data", f"has one class alone ({found})", "lay the pictures in one folder for each expression")
    counts = dict(zip(training.classes, training.counts(), strict=True))
    present, absent = [name for name in counts if counts[name]], [name for name in counts if not counts[name]]
    if absent:
        raise DataError(
            "data",
            f"has no training face of {', '.join(absent)}",
            f"add some, or train the others alone with --set 'data.classes={json.dumps(present)}'",
        )
    return training, validation


def _in_role(faces: FaceSet, split: str) -> FaceSet:
    """The faces of every split that plays the part of this one: Training and train are trained on together."""
    alike = [name for name in faces.splits if split_role(name) == split_role(split)]
    return faces.take(np.isin(faces.split, alike)) if alike else faces.in_split(split)


def input_of(recipe: Recipe, training: FaceSet) -> Preprocessing:
    """The network's input: normalised by the training pictures' mean and deviation, by .5/.5, or not at all."""
    if training.images.shape[1:] != (recipe.input.size, recipe.input.size):
        raise RecipeError(
            "input.size",
            f"is {recipe.input.size}, the pictures are {training.images.shape[1:]}",
            "load the pictures with that size",
        )
    if recipe.input.normalise == "training":
        counts = np.bincount(training.images.ravel(), minlength=256)
        levels = np.arange(256) / 255
        mean = float((counts * levels).sum() / counts.sum())
        std = float(np.sqrt((counts * (levels - mean) ** 2).sum() / counts.sum()))
        return Preprocessing(recipe.input.size, 1, (mean,), (max(std, 1e-3),))
    mean, std = (0.5, 0.5) if recipe.input.normalise == "half" else (0.0, 1.0)
    return Preprocessing(recipe.input.size, 1, (mean,), (std,))


def to_device(faces: FaceSet, hardware: Hardware) -> tuple[Tensor, Tensor]:
    """All pictures as one uint8 tensor (N, 1, H, W) and the labels int64 (N,), moved once."""
    images = torch.from_numpy(np.array(faces.images))[:, None]
    return images.to(hardware.device), torch.from_numpy(faces.labels).to(hardware.device)


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """float (B, C, H, W) in 0..1 → what the network is given."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (images - mean.to(images.device, non_blocking=True)) / std.to(images.device, non_blocking=True)


def fingerprint(training: FaceSet, validation: FaceSet) -> str:
    """Tells one pair of sets from another, so that a run is not resumed with other faces."""
    check = zlib.crc32(",".join(training.classes).encode())
    for faces in (training, validation):
        check = zlib.crc32(faces.labels.tobytes(), zlib.crc32(faces.images.tobytes(), check))
    return f"{len(training)} + {len(validation)} faces, {check:08x}"
