"""What a network is to answer for each face: its label, the raters' votes, a teacher's probabilities, or a blend of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mien.core.errors import DataError, RecipeError
from mien.core.labels import FERPLUS
from mien.core.types import FaceSet
from mien.evaluate.crowd import vote_shares
from mien.learn.inference import TorchClassifier, open_trained
from mien.learn.recipe import TargetSettings


def targets_of(faces: FaceSet, settings: TargetSettings, say: Callable[[str], None] = lambda text: None) -> Tensor:
    """float32 (N, K) on the CPU: the distribution over ``faces.classes`` that each face is to be given, before smoothing.

    A share ``votes`` of it is FER+'s vote distribution (Barsoum et al., "Training Deep Networks for Facial Expression
    Recognition with Crowd-Sourced Label Distribution", 2016); a face on which nobody voted for one of the classes keeps its label.
    Of what results, ``teacher_share`` gives way to the probabilities of ``teacher``, the mean over the face and its
    mirror image (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015).

    Raises DataError where votes are wanted and the faces have none, RecipeError where FER+ does not know all classes, or the
    teacher knows others.
    """
    targets = np.eye(len(faces.classes), dtype=np.float32)[faces.labels]
    if settings.votes:
        targets = _towards_votes(targets, faces, settings.votes)
    if settings.teacher:
        teacher = TorchClassifier(open_trained(settings.teacher))
        if teacher.labels != faces.classes:
            found = f"'{settings.teacher}' knows {', '.join(teacher.labels)}, the faces {', '.join(faces.classes)}"
            raise RecipeError("targets.teacher", found, "take a teacher of the same classes in the same order")
        say(f"{settings.teacher} is asked about {len(faces):,} faces")
        taught = teacher.probabilities(faces.images, "flip")
        targets = targets + settings.teacher_share * (taught - targets)
    return torch.from_numpy(targets)


def teacher_fingerprint(settings: TargetSettings) -> str:
    """Tells one teacher from another, so that a run is not resumed with another; "" without one."""
    if not settings.teacher:
        return ""
    check = 0
    for tensor in open_trained(settings.teacher).network.state_dict().values():
        check = zlib.crc32(tensor.numpy().tobytes(), check)
    return f"{settings.teacher}, {check:08x}"


def _towards_votes(targets: np.ndarray, faces: FaceSet, share: float) -> np.ndarray:
    if faces.votes is None:
        cure = "join them with 'mien data convert --ferplus', or set targets.votes=0"
        raise DataError("data", "holds no FER+ votes, which targets.votes asks for", cure)
    unknown = [name for name in faces.classes if name not in FERPLUS]
    if unknown:
        found = f"is {share:g}, but FER+ has no votes for {', '.join(unknown)}"
        raise RecipeError("targets.votes", found, "set it to 0 for these classes")
    voted = vote_shares(faces.votes, faces.classes)
    known = np.isfinite(voted).all(axis=1, keepdims=True)
    return np.where(known, targets + share * (np.nan_to_num(voted) - targets), targets).astype(np.float32)
