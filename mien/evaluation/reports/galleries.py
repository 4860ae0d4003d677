"""The faces of a report: confident and correct, confident and wrong, least confident, and those of a confusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mien.core.types import FaceSet
from mien.evaluation.rater_agreement import format_votes
from mien.evaluation.reports.page import render_tiles

#: Maximum side of a picture in pixels, in galleries with saliency and in all others.
LARGE_PX, SMALL_PX = 96, 48

#: Computes saliency maps: rows of faces → pictures uint8 (n, H', W', 3).
Saliency = Callable[[np.ndarray], np.ndarray]


class Picks(NamedTuple):
    """Rows of the faces of one class that are shown, the most informative first."""

    right: np.ndarray
    wrong: np.ndarray
    unsure: np.ndarray


def pick_faces(probabilities: np.ndarray, labels: np.ndarray, count: int) -> list[Picks]:
    """Pick at most ``count`` faces of each kind for each class, from probabilities float (N, K) and labels int (N,)."""
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    surest = np.argsort(-confidence, kind="stable")
    picks = []
    for k in range(probabilities.shape[1]):
        mine = surest[labels[surest] == k]
        hit = predicted[mine] == k
        picks.append(Picks(mine[hit][:count], mine[~hit][:count], mine[::-1][:count]))
    return picks


def find_confused(probabilities: np.ndarray, labels: np.ndarray, truth: int, answer: int, count: int) -> np.ndarray:
    """Return the rows of class ``truth`` that are predicted as ``answer``, the most confident first."""
    rows = np.flatnonzero((labels == truth) & (probabilities.argmax(axis=1) == answer))
    return rows[np.argsort(-probabilities[rows, answer], kind="stable")][:count]


def faces_per_group(num_classes: int) -> int:
    """Return the number of faces of a group: five, or fewer for many classes, to limit the size of the page."""
    return max(2, min(5, 48 // num_classes))


def faces_per_cell(num_classes: int) -> int:
    """Return the number of faces in the gallery of a cell of the confusion matrix."""
    return max(1, min(12, 1200 // num_classes**2))


def render_faces(faces: FaceSet, probabilities: np.ndarray, rows: np.ndarray, saliency: Saliency | None = None) -> str:
    """Return tiles of these faces: label and prediction, votes if known, and the three highest probabilities."""
    if not len(rows):
        return "<p>None.</p>"
    over = None if saliency is None else shrink_pictures(saliency(rows), LARGE_PX)
    return render_tiles(
        shrink_pictures(faces.images[rows], LARGE_PX if saliency else SMALL_PX),
        [format_caption(faces, probabilities, row) for row in rows],
        over=over,
        alts=[
            f"a face labeled {faces.classes[faces.labels[row]]}, predicted as "
            f"{faces.classes[int(probabilities[row].argmax())]}"
            for row in rows
        ],
        bars=[top_probabilities(probabilities[row], faces.classes) for row in rows],
    )


def format_caption(faces: FaceSet, probabilities: np.ndarray, row: int) -> str:
    """Format the label, the prediction, the votes if known, and the name of a face."""
    truth, answer = faces.classes[faces.labels[row]], faces.classes[int(probabilities[row].argmax())]
    text = f"{truth}, correct" if truth == answer else f"{truth}, predicted as {answer}"
    votes = "" if faces.votes is None else format_votes(faces.votes[row])
    return "\n".join([text, *([f"annotators: {votes}"] if votes else []), str(faces.names[row])])


def top_probabilities(probabilities: np.ndarray, classes: Sequence[str], count: int = 3) -> list[tuple[str, float]]:
    """Return the highest probabilities of one face (K,) with their classes."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[k], float(probabilities[k])) for k in order]


def shrink_pictures(images: np.ndarray, side: int) -> np.ndarray:
    """Shrink pictures uint8 (n, H, W[, 3]) to at most ``side`` pixels, to limit the size of the page."""
    if max(images.shape[1:3]) <= side:
        return images
    from PIL import Image

    scale = side / max(images.shape[1:3])
    size = round(images.shape[2] * scale), round(images.shape[1] * scale)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images])
