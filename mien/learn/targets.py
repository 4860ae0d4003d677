"""What a network is to answer for each face: its label, the raters' votes, a teacher's probabilities, or a blend of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mien.core.errors import DataError, RecipeError
from mien.core.types import FaceSet
from mien.evaluate.crowd import vote_shares
from mien.learn.inference import TorchClassifier, open_trained
from mien.learn.recipe import TargetSettings


def targets_of(faces: FaceSet, settings: TargetSettings) -> Tensor:
    """float32 (N, K) on the CPU: the distribution over ``faces.classes`` that each face is to be given, before smoothing.

    A share ``votes`` of it is FER+'s vote distribution (Barsoum et al., "Training Deep Networks for Facial Expression
    Recognition with Crowd-Sourced Label Distribution", 2016); a face on which nobody voted for one of the classes keeps its label.
    Of what results, ``teacher_share`` gives way to the probabilities of ``teacher``, the mean over the face and its
    mirror image (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015).

    Raises DataError where votes are wanted and the faces have none, RecipeError where the teacher knows other classes.
    """
    targets = np.eye(len(faces.classes), dtype=np.float32)[faces.labels]
    if settings.votes:
        targets = _towards_votes(targets, faces, settings.votes)
    if settings.teacher:
        teacher = TorchClassifier(open_trained(settings.teacher))
        if teacher.labels != faces.classes:
            found = f"'{settings.teacher}' knows {', '.join(teacher.labels)}, the faces {', '.join(faces.classes)}"
            raise RecipeError("targets.teacher", found, "take a teacher of the same classes in the same order")
        taught = teacher.probabilities(faces.images, "flip")
        targets = targets + settings.teacher_share * (taught - targets)
    return torch.from_numpy(targets)


def _towards_votes(targets: np.ndarray, faces: FaceSet, share: float) -> np.ndarray:
    if faces.votes is None:
        cure = "join them with 'mien data convert --ferplus', or set targets.votes=0"
        raise DataError("data", "holds no FER+ votes, which targets.votes asks for", cure)
    voted = vote_shares(faces.votes, faces.classes)
    known = np.isfinite(voted).all(axis=1, keepdims=True)
    return np.where(known, targets + share * (np.nan_to_num(voted) - targets), targets).astype(np.float32)
