"""Preview the inputs of a network: faces, and the augmented copies that a recipe makes of them."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mien.core.errors import DataError, UsageError
from mien.core.files import replace_file
from mien.core.preprocessing import Preprocessing
from mien.core.types import FaceSet
from mien.data.annotators import relabel_faces
from mien.training.epoch import make_batch
from mien.training.hardware import Hardware
from mien.training.preparation import (
    BATCH_AUGMENTATIONS,
    draw_epoch_order,
    make_augmentation,
    make_preprocessing,
    select_classes,
    select_run_faces,
)
from mien.training.recipe import Recipe
from mien.training.targets import Teacher, make_targets, make_teacher

#: Sizes in pixels of the drawing: minimal side of a tile, gap, margin, and heights of lines.
_TILE, _GAP, _MARGIN, _LINE, _TITLE_LINE = 144, 8, 16, 17, 19
_DPI = 100
#: Minimal width of a drawing, for the text above it.
_MIN_WIDTH = 760
#: A larger drawing takes minutes and gigabytes.
_MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Preview:
    """Some faces, and the inputs and targets that the network gets for them.

    faces          R faces, sorted by class
    inputs         float32 (copies, R, channels, H, W), normalized, as the first layer gets them
    targets        float32 (copies, R, K), probabilities over faces.classes, before label smoothing
    preprocessing  the normalization that was used
    """

    faces: FaceSet
    inputs: Tensor
    targets: Tensor
    preprocessing: Preprocessing


def make_preview(
    recipe: Recipe, faces: FaceSet, *, split: str = "", rows: int | None = None, copies: int = 8, seed: int = 0
) -> Preview:
    """Return copies of some training faces, made as the training loop makes them.

    Each copy comes from its own batch, filled up to the recipe's batch size with other faces for mixup and cutmix. The
    pictures are normalized by the recipe's training faces, also if another split is shown.

    Args:
        faces: the data to train on.
        split: show faces of this split; default: the recipe's training split.
        rows: number of faces, distributed over the classes; default: one of each class.
        copies: number of copies of each face.

    Raises:
        DataError: if the recipe cannot be trained on this data, or there are fewer faces than ``rows``.
    """
    selected = _select_shown_faces(recipe, faces, split)
    # Without the recipe's training split, the shown faces give mean and standard deviation.
    trained_on = _select_shown_faces(recipe, faces, "") if split and faces.has_split(recipe.data.train) else selected
    preprocessing = make_preprocessing(recipe, trained_on)
    shown = choose_balanced_rows(selected.labels, len(selected.classes) if rows is None else rows, seed)
    generator = torch.Generator().manual_seed(seed)
    face_targets = make_targets(selected, recipe.targets)
    teacher = make_teacher(recipe.targets, selected.classes, preprocessing, Hardware.choose("cpu", "fp32"))
    samples = [
        _make_copy(recipe, selected, face_targets, shown, preprocessing, teacher, generator) for _ in range(copies)
    ]
    inputs, targets = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return Preview(selected.take(shown), inputs, targets, preprocessing)


def choose_balanced_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return ``count`` rows, int64, sorted by class, with equal numbers of each class as far as there are enough.

    labels (N,) int, all known. Raises DataError if there are fewer.
    """
    if count > len(labels):
        raise DataError("`rows`", f"asks for {count:,} of {len(labels):,} faces", "ask for fewer")
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # the first face of its class has 0, the second 1, ...
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    dealt = np.lexsort((labels, turn))[:count]
    return dealt[np.lexsort((turn[dealt], labels[dealt]))]


def _select_shown_faces(recipe: Recipe, faces: FaceSet, split: str) -> FaceSet:
    """Return the training faces of the recipe, or all labeled faces of a split."""
    if split:
        return select_classes(recipe.data, relabel_faces(faces.select_split(split), recipe.data.labels))
    return select_run_faces(recipe, faces, lambda text: None).training


def _make_copy(
    recipe: Recipe,
    faces: FaceSet,
    face_targets: Tensor,
    shown: np.ndarray,
    preprocessing: Preprocessing,
    teacher: Teacher | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the shown faces of one batch: inputs (R, channels, H, W) and targets (R, K)."""
    labels = torch.from_numpy(faces.labels)
    order = draw_epoch_order(labels, recipe.data.oversample, generator).numpy()
    others = order[~np.isin(order, shown)][: max(0, recipe.schedule.batch_size - len(shown))]
    rows = np.concatenate([shown, others])
    images = torch.from_numpy(faces.images[rows])[:, None]  # uint8 (B, 1, H, W)
    inputs, targets = make_batch(recipe, images, face_targets[rows], preprocessing, teacher, generator)
    return inputs[: len(shown)], targets[: len(shown)]


def format_target(target: np.ndarray, classes: tuple[str, ...]) -> str:
    """Format a target (K,), the largest share first: ``"happy .7 sad .3"``, ``"happy 1"``."""
    shares = np.round(target.astype(float), 2)  # shares that round to 0 are left out
    order = [index for index in np.argsort(-target, kind="stable") if shares[index]]
    return " ".join(f"{classes[index]} {shares[index]:g}".replace(" 0.", " .") for index in order)


def make_title(preview: Preview, recipe: Recipe) -> list[str]:
    """Return the lines above the drawing: value range of the inputs, normalization, and augmentation."""
    channels, height, width = preview.inputs.shape[2:]
    values, scale = preview.inputs, preview.preprocessing
    black, white = map(_format_number, _gray_limits(scale))
    made_of = recipe.augment.model_dump() | asdict(make_augmentation(recipe))
    if recipe.semi.method == "fixmatch":
        made_of |= dict.fromkeys(BATCH_AUGMENTATIONS, 0)
    changes = [name if value is True else f"{name} {value:g}" for name, value in made_of.items() if value]
    lines = [
        f"{recipe.name}: float32 {channels} × {height} × {width}"
        + (" (the gray picture three times)" if channels == 3 else "")
        + f", values {_format_number(values.min())} to {_format_number(values.max())}, mean {_format_number(values.mean())}, "
        f"std {_format_number(values.std())}",
        f"value = (pixel / 255 − {scale.mean[0]:.3f}) / {scale.std[0]:.3f}: black is {black}, white is {white}",
        "augmentation, drawn for each copy: " + (", ".join(changes) or "none, so all copies are equal"),
    ]
    if _has_soft_targets(recipe):
        smoothing = recipe.loss.label_smoothing
        origins = {
            "each face is mixed with another face of its batch": _mixes_faces(recipe),
            f"{recipe.targets.votes:.0%} of each target is FER+'s votes": recipe.targets.votes,
            f"{recipe.targets.teacher_share:.0%} of the target is the prediction of {recipe.targets.teacher}": recipe.targets.teacher,
        }
        lines.append(
            "; ".join(text for text, is_used in origins.items() if is_used)
            + "; under each face the shares of the classes in its target"
            + (f", to which the loss adds label smoothing of {smoothing:g}" if smoothing else "")
        )
    return lines


def draw_preview(preview: Preview, recipe: Recipe, path: Path) -> None:
    """Draw a PNG with one row for each face: the picture with its class, then the copies as the network gets them.

    All tiles share one gray scale, from the normalized value of a black pixel to that of a white one. A pixel of a face
    is a whole number of pixels of the drawing.
    """
    black, white = _gray_limits(preview.preprocessing)
    originals = preview.faces.images / 255.0 * (white - black) + black  # (R, H, W)
    # All channels hold the same gray picture.
    tiles = np.concatenate(
        [originals[:, None], preview.inputs[:, :, 0].numpy().swapaxes(0, 1)], axis=1
    )  # (R, 1 + copies, H, W)
    classes, targets = preview.faces.classes, preview.targets.numpy().swapaxes(0, 1)  # (R, copies, K)
    captions = [
        [classes[label], *(format_target(target, classes) if _has_soft_targets(recipe) else "" for target in of_face)]
        for label, of_face in zip(preview.faces.labels, targets, strict=True)
    ]
    _draw_tiles(tiles, captions, (black, white), make_title(preview, recipe), path)


def _draw_tiles(
    tiles: np.ndarray, captions: list[list[str]], limits: tuple[float, float], title: list[str], path: Path
) -> None:
    """Draw tiles float (R, C, H, W) with a caption under each and the title above; the first column is set apart."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a display and keep the figure open

    rows, columns, height, width = tiles.shape
    zoom = math.ceil(_TILE / max(height, width))
    tall, wide = height * zoom, width * zoom
    captions = [[textwrap.fill(text, wide // 6) for text in row] for row in captions]
    lines = [1 + max(text.count("\n") for text in row) for row in captions]  # of the captions of each row
    total = max(_MIN_WIDTH, 2 * _MARGIN + columns * (wide + _GAP))
    title = [line for text in title for line in textwrap.wrap(text, int(total / 7.2))]
    first = _MARGIN + (len(title) + 1) * _TITLE_LINE + _GAP
    uppers = np.cumsum([first, *(tall + count * _LINE + _GAP for count in lines)])
    lefts = _MARGIN + np.arange(columns) * (wide + _GAP) + _GAP * (np.arange(columns) > 0)
    if total * uppers[-1] > _MAX_PIXELS:
        raise UsageError("`rows` and `copies`", f"give a drawing of {total:,} x {uppers[-1]:,} pixels", "ask for fewer")
    canvas = np.full((uppers[-1] + _GAP, total), limits[1], np.float32)

    figure = Figure(figsize=(canvas.shape[1] / _DPI, canvas.shape[0] / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # one pixel of the canvas is one of the drawing
    axes.axis("off")
    for row, column in np.ndindex(rows, columns):
        upper, left = uppers[row], lefts[column]
        zoomed = tiles[row, column].repeat(zoom, axis=0).repeat(zoom, axis=1)
        canvas[upper : upper + tall, left : left + wide] = zoomed
        text = captions[row][column]
        axes.text(left + wide / 2, upper + tall + 2, text, ha="center", va="top", size=8, parse_math=False)
    axes.imshow(canvas, "gray", vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="auto")
    for number, line in enumerate(title):
        size = 10 if number else 11
        axes.text(_MARGIN, _MARGIN + number * _TITLE_LINE, line, va="top", size=size, parse_math=False)
    for left, head in zip(lefts, ("original", "as the network gets it"), strict=False):
        axes.text(left, first - 4, head, va="bottom", size=9, style="italic")
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _mixes_faces(recipe: Recipe) -> bool:
    """Return whether mixup or cutmix is used; FixMatch does not use them."""
    return bool(recipe.augment.mixup or recipe.augment.cutmix) and recipe.semi.method != "fixmatch"


def _has_soft_targets(recipe: Recipe) -> bool:
    """Return whether targets are distributions over several classes."""
    return _mixes_faces(recipe) or bool(recipe.targets.votes or recipe.targets.teacher)


def _gray_limits(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the normalized values of a black and of a white pixel."""
    mean, std = preprocessing.mean[0], preprocessing.std[0]
    return (0 - mean) / std, (1 - mean) / std


def _format_number(value: float | Tensor) -> str:
    return f"{float(value):.2f}".replace("-", "−")
