"""Prepare a run: select its faces, compute the normalization of its inputs, and load start weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.core.errors import DataError, ModelError, RecipeError
from mien.core.preprocessing import Preprocessing
from mien.core.types import UNLABELED, FaceSet, concatenate_faces, split_role
from mien.data.annotators import ANNOTATORS, majority_votes, relabel_faces
from mien.data.augmentation import Augmentation
from mien.data.splits import filter_classes, hold_out_faces, make_one_vs_rest
from mien.training.hardware import Hardware
from mien.training.recipe import DataSettings, Recipe, StartSettings, list_teachers
from mien.training.torch_classifier import open_trained_model


@dataclass(frozen=True)
class RunFaces:
    """The faces of a run: for training, for validation, and those without a label."""

    training: FaceSet
    validation: FaceSet
    unlabeled: FaceSet
    held_out: bool = False  # whether the validation faces were taken from the training split


def list_ancestor_models(recipe: dict[str, Any]) -> list[str]:
    """Return the start model and the teachers of a recipe, given as a dictionary."""
    start, teachers = (
        recipe.get("start", {}).get("model"),
        list_teachers(recipe.get("targets", {}).get("teacher") or ""),
    )
    return list(dict.fromkeys(name for name in (start, *teachers) if name))


def select_run_faces(recipe: Recipe, faces: FaceSet, echo: Callable[[str], None]) -> RunFaces:
    """Select the recipe's splits. If the data has no validation split, a part of the training faces is held out.

    Raises DataError if there are no labels, or a class has no training face.
    """
    settings = recipe.data
    faces = relabel_faces(faces, settings.labels)
    if not faces.is_labeled.any():
        raise DataError(
            "data",
            f"holds no labels ({settings.labels})",
            "training needs a column 'emotion' or 'label', a folder for each class, or FER+'s votes (`data.labels`)",
        )
    without_label = faces.take(~faces.is_labeled)
    if settings.labels == ANNOTATORS:
        echo(f"{len(without_label):,} of {len(faces):,} faces have no majority label among their annotators")
        # Faces that the majority labels as none of the classes show no expression, so they are left out.
        assert without_label.votes is not None
        without_label = without_label.take(majority_votes(without_label.votes) == UNLABELED)
    faces = select_classes(settings, faces)
    unknown = _select_unlabeled(without_label, settings.train)
    if len(unknown) and "" not in faces.splits and not any(map(faces.has_split, settings.train.split("+"))):
        raise DataError(
            "data", f"has no label on any face of {settings.train}", "choose another split with `data.train`"
        )
    training = faces if faces.splits == ("",) else _select_role(faces, settings.train)
    _check_classes(training)
    trained_on = {split_role(name) for name in settings.train.split("+")}
    validation_names = settings.validation.split("+")
    if trained_on.isdisjoint(map(split_role, validation_names)) and all(map(faces.has_split, validation_names)):
        validation = _select_role(faces, settings.validation)
        unused = len(faces) - len(training) - len(validation)
        held_out = False
    else:
        unused = len(faces) - len(training)
        training, validation = hold_out_faces(training, settings.holdout, recipe.run.seed)
        splits = "" if faces.splits == ("",) else f" '{settings.validation}' beside {settings.train}"
        echo(
            f"the data has no validation split{splits}: {len(validation):,} of the training faces are held out for validation"
        )
        held_out = True
        _check_classes(training, f"`data.holdout={settings.holdout:g}` took the last one: add some, or lower it")
    if unused:
        used = {*training.splits, *validation.splits}
        others = ", ".join(name or "none" for name in faces.splits if name not in used)
        echo(f"{unused:,} faces of other splits ({others}) are not used")
    unlabeled = unknown.reindex_classes(training.classes)
    if settings.keep_labels < 1:
        dropped, training = hold_out_faces(training, settings.keep_labels, recipe.run.seed)
        unlabeled = concatenate_faces([unlabeled, dropped]) if len(unlabeled) else dropped
        echo(f"{len(training):,} faces keep their label, {len(dropped):,} are used without label")
        _check_classes(training, f"`data.keep_labels={settings.keep_labels:g}` leaves none: raise it")
    if recipe.semi.method == "none" and len(unlabeled) and settings.keep_labels == 1 and settings.labels != ANNOTATORS:
        echo(f"{len(unlabeled):,} faces without a label are not used; semi.method uses them")
    if recipe.semi.method != "none" and not len(unlabeled):
        raise DataError(
            "data", f"has no unlabeled training face for {recipe.semi.method}", "add some, or set `data.keep_labels`"
        )
    return RunFaces(training, validation, unlabeled, held_out)


def select_classes(settings: DataSettings, faces: FaceSet) -> FaceSet:
    """Return the labeled faces of the recipe's classes."""
    faces = faces.take(faces.is_labeled)
    if settings.classes:
        faces = filter_classes(faces, settings.classes)
    return make_one_vs_rest(faces, settings.one_vs_rest) if settings.one_vs_rest else faces


def _select_unlabeled(without_label: FaceSet, train: str) -> FaceSet:
    """Return those faces without a label that are in the training split or in no split."""
    roles = {split_role(part) for part in train.split("+")}
    alike = [name for name in without_label.splits if not name or split_role(name) in roles]
    return without_label.take(np.isin(without_label.split, alike))


def _check_classes(training: FaceSet, hint: str = "") -> None:
    """Raise DataError unless there are at least two classes and every class has a training face."""
    if len(training.classes) < 2:
        classes = ", ".join(training.classes)
        raise DataError(
            "data",
            f"has only one class ({classes})",
            "give faces of at least two classes, each in its own folder or with its own label",
        )
    counts = dict(zip(training.classes, training.class_counts(), strict=True))
    present, absent = [name for name in counts if counts[name]], [name for name in counts if not counts[name]]
    if absent:
        raise DataError(
            "data",
            f"has no training face of {', '.join(absent)}",
            hint or f"add some, or train on the other classes only, with `data.classes={','.join(present)}`",
        )


def _select_role(faces: FaceSet, split: str) -> FaceSet:
    """Return the faces of all splits with this role (Training and train), or with several, ``train+validation``."""
    names = [name for part in split.split("+") for name in faces.select_role(part).splits]  # raises where there is none
    return faces.take(np.isin(faces.split, names))


def make_preprocessing(recipe: Recipe, training: FaceSet) -> Preprocessing:
    """Return the preprocessing: normalized by mean and standard deviation of the training pictures, by .5/.5, or not at all.

    Raises RecipeError if the pictures do not have the recipe's size.
    """
    if training.images.shape[1:] != (recipe.input.size, recipe.input.size):
        raise RecipeError(
            "`input.size`",
            f"is {recipe.input.size}, the pictures are {training.images.shape[1:]}",
            "load the pictures with that size",
        )
    channels = recipe.input.channels
    if recipe.input.normalize == "training":
        counts = np.zeros(256, np.int64)
        for start in range(0, len(training), 1_024):  # bincount needs eight bytes for each pixel
            counts += np.bincount(training.images[start : start + 1_024].ravel(), minlength=256)
        levels = np.arange(256) / 255
        mean = float((counts * levels).sum() / counts.sum())
        std = max(float(np.sqrt((counts * (levels - mean) ** 2).sum() / counts.sum())), 1e-3)
    else:
        mean, std = (0.5, 0.5) if recipe.input.normalize == "half" else (0.0, 1.0)
    return Preprocessing(recipe.input.size, channels, (mean,) * channels, (std,) * channels)


def move_to_device(faces: FaceSet, hardware: Hardware) -> tuple[Tensor, Tensor]:
    """Return all pictures as a uint8 tensor (N, 1, H, W) and the labels int64 (N,), on the device."""
    images = torch.from_numpy(np.array(faces.images))[:, None]
    return images.to(hardware.device), torch.from_numpy(faces.labels).to(hardware.device)


#: FixMatch's weak augmentation: a mirror image and a shift of at most an eighth, as in the paper.
WEAK_AUGMENTATION = Augmentation(flip=0.5, shift=0.125)


#: The settings of `recipe.augment` for whole batches. They do not apply to FixMatch's labeled faces.
BATCH_AUGMENTATIONS = ("noise", "mixup", "cutmix")


def make_augmentation(recipe: Recipe, *, labeled: bool = True) -> Augmentation:
    """Return the recipe's augmentation of single faces, without noise, mixup and cutmix, which come after it.

    FixMatch augments labeled faces weakly, and unlabeled ones strongly, as the recipe says (Sohn et al., 2020).
    """
    if labeled and recipe.semi.method == "fixmatch":
        return WEAK_AUGMENTATION
    return Augmentation(**recipe.augment.model_dump(exclude=set(BATCH_AUGMENTATIONS)))


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalize images float (B, 1, H, W) in 0..1; return inputs (B, channels, H, W), channels last in memory."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    images = (images - mean.to(images.device, non_blocking=True)) / std.to(images.device, non_blocking=True)
    return images.contiguous(memory_format=torch.channels_last)


def draw_epoch_order(labels: Tensor, oversample: float, generator: torch.Generator) -> Tensor:
    """The rows of one epoch, int64 (N,), shuffled.

    labels (N,) on the CPU. With ``oversample`` s rows are drawn with replacement and each class's share of the draws
    is its share of the faces to the power 1 − s: as it is at 0, equal at 1.
    """
    if not oversample:
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels)
    return torch.multinomial(counts.double()[labels] ** -oversample, len(labels), True, generator=generator)


def fingerprint_faces(rows: RunFaces, *, votes: bool = False) -> str:
    """Return a fingerprint of the faces of a run, and of their votes if used, to refuse resuming with other faces."""
    check = zlib.crc32(",".join(rows.training.classes).encode())
    for faces in (rows.training, rows.validation, rows.unlabeled):
        check = zlib.crc32(faces.labels.tobytes(), zlib.crc32(faces.images.tobytes(), check))
    if votes and rows.training.votes is not None:
        check = zlib.crc32(rows.training.votes.tobytes(), check)
    return f"{len(rows.training)} + {len(rows.validation)} faces, {check:08x}"


def load_start_weights(network: nn.Module, settings: StartSettings, classes: tuple[str, ...]) -> str:
    """Load the weights of ``start.model`` into a new network, freeze ``start.freeze``, and return a note about it.

    Tensors of the same name and shape are loaded; a last layer for other classes is not. Raises ModelError if no
    weights fit, and RecipeError if ``start.freeze`` matches no parameter, or all of them.
    """
    start = open_trained_model(settings.model)
    start_state, state = start.network.state_dict(), network.state_dict()
    head = {name for name in state if name.startswith("head.")} if start.classes != classes else set()
    fitting = {name: value for name, value in start_state.items() if name in state and state[name].shape == value.shape}
    fitting = {name: value for name, value in fitting.items() if name not in head}
    trained = [name for name, _ in network.named_parameters()]
    if not any(name in fitting and state[name].ndim > 1 for name in trained):  # a bias alone is no match
        raise ModelError(settings.model, "shares no weights with this network", "start from the same kind of network")
    network.load_state_dict(fitting, strict=False)
    for prefix in settings.freeze:
        named = [p for name, p in network.named_parameters() if name.startswith(prefix)]
        if not named:
            tops = ", ".join(dict.fromkeys(name.split(".")[0] for name in trained))
            raise RecipeError("`start.freeze`", f"'{prefix}' matches no parameter", f"their names start with {tops}")
        for parameter in named:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in network.parameters()):
        raise RecipeError("`start.freeze`", "freezes the whole network", "leave a part trainable, such as 'head'")
    fresh = [name for name in trained if name not in fitting]
    frozen = sum(not p.requires_grad for p in network.parameters())
    return (
        f"starts with {len(trained) - len(fresh)} of {len(trained)} weights of {settings.model}"
        + (f" (new: {', '.join(fresh[:4])})" if fresh else "")
        + (f"; {frozen} are frozen" if frozen else "")
    )
