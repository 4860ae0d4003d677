"""What the face detector shall answer for each cell of a scene, and the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.analysis.detection.face_net import MAX_FACE_PX, MIN_FACE_PX, REFERENCE_FACE_PX, STRIDE_PX
from mien.training.detection.scenes import SCENE_PX, Scene

#: Cells whose center is nearer to the center of a face than this are faces, in sides of the face; up to IGNORED_SIDES they
#: are neither face nor background.
FACE_SIDES, IGNORED_SIDES = 0.24, 0.45

#: Faces down to and up to these factors of the answered sizes are neither face nor background. Smaller and larger ones are
#: background: they are found at another scale, or too small to be found.
IGNORED_BELOW, IGNORED_ABOVE = 0.75, 1.3

#: Focal loss (Lin et al., 2017): weight of faces against background, and the exponent.
ALPHA, GAMMA = 0.4, 2.0

#: Weight of place and size against the score, and the error in sides of a face at which the loss becomes linear.
BOX_WEIGHT, BOX_BETA = 1.5, 0.05


def make_targets(scenes: Sequence[Scene]) -> np.ndarray:
    """Return float32 (N, 5, C, C) with C cells a side.

    Channel 0 is 1 for a face, 0 for background and -1 where neither counts. Channels 1 to 3 are the offset of the face's
    center in cells, right and down, and the logarithm of its side over REFERENCE_FACE_PX. Channel 4 is the side in cells.
    """
    cells = SCENE_PX // STRIDE_PX
    targets = np.zeros((len(scenes), 5, cells, cells), np.float32)
    centers = (np.arange(cells) + 0.5) * STRIDE_PX
    for target, scene in zip(targets, scenes, strict=True):
        for (x, y, side), is_clear in zip(scene.squares, scene.is_clear, strict=True):
            distance = np.maximum(np.abs(centers[None] - x), np.abs(centers[:, None] - y)) / side
            if not MIN_FACE_PX * IGNORED_BELOW <= side <= MAX_FACE_PX * IGNORED_ABOVE:
                continue
            target[0][(distance < IGNORED_SIDES) & (target[0] == 0)] = -1
            if not is_clear or not MIN_FACE_PX * 0.95 <= side <= MAX_FACE_PX * 1.05:
                continue
            is_face = distance < max(FACE_SIDES, distance.min() + 1e-6)
            target[0][is_face] = 1
            target[1][is_face] = ((x - centers) / STRIDE_PX)[None].repeat(cells, 0)[is_face]
            target[2][is_face] = ((y - centers) / STRIDE_PX)[:, None].repeat(cells, 1)[is_face]
            target[3][is_face] = np.log(side / REFERENCE_FACE_PX)
            target[4][is_face] = side / STRIDE_PX
    return targets


def compute_loss(answers: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of answers (N, 4, C, C) against targets (N, 5, C, C): focal loss of the score, smooth L1 of the box."""
    truth, counts = targets[:, 0], targets[:, 0] >= 0
    is_face = truth == 1
    faces = is_face.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(answers[:, 0], truth.clamp(min=0), reduction="none")
    certainty = torch.exp(-entropy)  # the probability of the truth
    weights = torch.where(is_face, ALPHA, 1 - ALPHA) * (1 - certainty) ** GAMMA
    score_loss = (weights * entropy)[counts].sum() / faces
    side = targets[:, 4][is_face]
    errors = torch.stack(
        [
            (answers[:, 1][is_face] - targets[:, 1][is_face]) / side,
            (answers[:, 2][is_face] - targets[:, 2][is_face]) / side,
            answers[:, 3][is_face] - targets[:, 3][is_face],
        ]
    )
    box_loss = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="sum", beta=BOX_BETA) / faces
    return score_loss + BOX_WEIGHT * box_loss
