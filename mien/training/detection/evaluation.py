"""Recall and false detections of face squares against squares with known truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mien.analysis.detection.detectors import Detections
from mien.analysis.tracking.tracker import pairwise_iou
from mien.training.detection.scenes import Scene

#: A detection is right if it overlaps a face by at least this IoU.
RIGHT_IOU = 0.4

#: Finds the faces of a gray uint8 (H, W) picture.
DetectGray = Callable[[np.ndarray], Detections]


def match_detections(found: Detections, squares: np.ndarray, is_clear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to faces, the highest score first.

    squares    float32 (N, 3): center x, center y and side of each face
    is_clear   bool (N,): faces that count; detections on the others count neither as right nor as false

    Returns the score of the detection of each clear face, float32 (n,), 0 where it was missed, and the scores of the false
    detections, float32 (m,).
    """
    half = squares[:, 2:] / 2
    boxes = np.concatenate([squares[:, :2] - half, squares[:, :2] + half], axis=1)
    overlap = pairwise_iou(found.boxes_xyxy, boxes)  # (detections, faces)
    scores, false = np.zeros(len(squares), np.float32), []
    for index in np.argsort(-found.scores, kind="stable"):
        free = np.where(scores == 0, overlap[index], 0) if len(squares) else np.zeros(0)
        if len(free) and free.max() >= RIGHT_IOU:
            scores[int(free.argmax())] = found.scores[index]
        elif not len(free) or overlap[index].max() < RIGHT_IOU:
            false.append(found.scores[index])
    return scores[is_clear], np.array(false, np.float32)


def collect_scores(
    detect: DetectGray, scenes: Sequence[Scene], photographs: Sequence[np.ndarray], smallest_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of the faces of scenes, 0 where missed, and of the false detections in scenes and photographs.

    Faces with a side below ``smallest_px`` count neither way.
    """
    right, false = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for scene in scenes:
        counted = scene.is_clear & (scene.squares[:, 2] >= smallest_px)
        found, wrong = match_detections(detect(scene.image), scene.squares, counted)
        right.append(found)
        false.append(wrong)
    false += [detect(photograph).scores for photograph in photographs]
    return np.concatenate(right), np.concatenate(false)


def choose_threshold(false_scores: np.ndarray, pictures: int, false_per_picture: float) -> float:
    """Return the score above which there are at most ``false_per_picture`` false detections a picture."""
    allowed = int(pictures * false_per_picture)
    ordered = np.sort(false_scores)[::-1]
    return float(ordered[allowed]) if len(ordered) > allowed else 0.0
