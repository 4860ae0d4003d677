"""What a network is to answer for each face: its label, the raters' votes, a teacher's probabilities, or a blend of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import choose_model_file, int8_path, list_shipped_models
from mien.core.errors import DataError, RecipeError
from mien.core.labels import FERPLUS
from mien.core.preprocessing import Preprocessing
from mien.core.types import FaceSet
from mien.evaluation.rater_agreement import vote_shares
from mien.training.checkpoint import TrainedModel
from mien.training.hardware import Hardware
from mien.training.recipe import TargetSettings, list_teachers
from mien.training.torch_classifier import TorchClassifier, open_trained_model


def make_targets(faces: FaceSet, settings: TargetSettings, echo: Callable[[str], None] = lambda text: None) -> Tensor:
    """float32 (N, K) on the CPU: the distribution over ``faces.classes`` that each face is to be given, before smoothing.

    A share ``votes`` of it is FER+'s vote distribution (Barsoum et al., "Training Deep Networks for Facial Expression
    Recognition with Crowd-Sourced Label Distribution", 2016); a face on which nobody voted for one of the classes keeps its label.
    Of what results, ``teacher_share`` gives way to the probabilities of ``teacher``, the mean over the face, its mirror
    image and, where there are several, the teachers (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015),
    unless it is to see the augmented inputs: then ``Teacher`` is asked in every step.

    Raises DataError where votes are wanted and the faces have none, RecipeError where FER+ does not know all classes, or the
    teacher knows others.
    """
    targets = np.eye(len(faces.classes), dtype=np.float32)[faces.labels]
    if settings.votes:
        targets = _blend_votes(targets, faces, settings.votes)
    if settings.teacher and settings.teacher_sees == "clean":
        teachers = [TorchClassifier(_open_teacher(name, faces.classes)) for name in list_teachers(settings.teacher)]
        echo(f"{settings.teacher} is asked about {len(faces):,} faces")
        taught = np.mean([teacher.probabilities(faces.images, "flip") for teacher in teachers], axis=0)
        targets = targets + settings.teacher_share * (taught - targets)
    return torch.from_numpy(targets)


class Teacher:
    """A network, or several, asked about the very inputs that the student gets, augmented and blended.

    What it has learned by heart of the clean faces then counts for little (Beyer et al., "Knowledge distillation: A good
    teacher is patient and consistent", 2022). Of several the mean counts. A shipped teacher answers in int8 where the
    processor gains by it, since training waits for every answer.

    Raises RecipeError where it knows other classes than ``classes`` or takes other inputs than ``student`` makes.
    """

    def __init__(
        self, settings: TargetSettings, classes: tuple[str, ...], student: Preprocessing, hardware: Hardware
    ) -> None:
        self._share = settings.teacher_share
        self._predictors = [
            _make_predictor(name, classes, student, hardware) for name in list_teachers(settings.teacher)
        ]

    @torch.no_grad()
    def blend_targets(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The student's inputs (B, C, H, W) and their targets (B, K) → targets (B, K) with the teacher's share in them."""
        taught = torch.stack([probabilities_of(inputs) for probabilities_of in self._predictors]).mean(dim=0)
        return targets + self._share * (taught - targets)


def _make_predictor(
    model: str, classes: tuple[str, ...], student: Preprocessing, hardware: Hardware
) -> Callable[[Tensor], Tensor]:
    """One teacher: the student's inputs (B, C, H, W) → its probabilities (B, K)."""
    trained = _open_teacher(model, classes)
    theirs = trained.preprocessing
    if (theirs.channels, theirs.size) != (student.channels, student.size):
        found = f"'{model}' takes {theirs.channels} x {theirs.size} x {theirs.size}, the student "
        found += f"{student.channels} x {student.size} x {student.size}"
        raise RecipeError("targets.teacher", found, "take another, or set targets.teacher_sees=clean")
    logits_of = _make_int8_predictor(model, hardware) or _make_torch_predictor(trained.network, hardware)
    ours_mean, ours_std, mean, std = (
        torch.tensor(values, device=hardware.device).view(1, -1, 1, 1)
        for values in (student.mean, student.std, theirs.mean, theirs.std)
    )
    scale, shift = ours_std / std, (ours_mean - mean) / std  # the student's numbers → the teacher's
    return lambda inputs: (logits_of(inputs * scale + shift) / trained.temperature).softmax(dim=1)


def _make_torch_predictor(network: nn.Module, hardware: Hardware) -> Callable[[Tensor], Tensor]:
    network = network.to(hardware.device, memory_format=torch.channels_last).eval()

    def logits_of(inputs: Tensor) -> Tensor:
        with hardware.autocast():
            return network(inputs).float()

    return logits_of


def _find_int8_file(model: str, hardware: Hardware) -> Path | None:
    """The int8 file that answers for a shipped model here, if one does."""
    shipped = list_shipped_models().get(model)
    if shipped is None or hardware.device.type != "cpu" or choose_model_file(model) != int8_path(shipped):
        return None
    return int8_path(shipped)


def _make_int8_predictor(model: str, hardware: Hardware) -> Callable[[Tensor], Tensor] | None:
    """The shipped model's int8 file in ONNX Runtime; None where there is none, or torch has something faster."""
    if _find_int8_file(model, hardware) is None:
        return None
    classifier = Classifier(model, threads=torch.get_num_threads(), precision="int8")
    return lambda inputs: torch.from_numpy(classifier.tensor_logits(inputs.contiguous().numpy()))


def make_teacher(
    settings: TargetSettings, classes: tuple[str, ...], student: Preprocessing, hardware: Hardware
) -> Teacher | None:
    """Whom to ask in every step, if anybody."""
    asked = settings.teacher and settings.teacher_sees == "augmented"
    return Teacher(settings, classes, student, hardware) if asked else None


def _open_teacher(model: str, classes: tuple[str, ...]) -> TrainedModel:
    trained = open_trained_model(model)
    if trained.classes != classes:
        found = f"'{model}' knows {', '.join(trained.classes)}, the faces {', '.join(classes)}"
        raise RecipeError("targets.teacher", found, "take a teacher of the same classes in the same order")
    return trained


def fingerprint_teachers(settings: TargetSettings, hardware: Hardware) -> str:
    """Tells one teacher from another, so that a run is not resumed with another; "" without one."""
    return " and ".join(_fingerprint_teacher(name, settings, hardware) for name in list_teachers(settings.teacher))


def _fingerprint_teacher(model: str, settings: TargetSettings, hardware: Hardware) -> str:
    trained = open_trained_model(model)
    check = zlib.crc32(f"{trained.temperature} {trained.preprocessing}".encode())
    for tensor in trained.network.state_dict().values():
        check = zlib.crc32(tensor.numpy().tobytes(), check)
    in_int8 = settings.teacher_sees == "augmented" and _find_int8_file(model, hardware) is not None
    return f"{model}, {check:08x}{', int8' if in_int8 else ''}"


def _blend_votes(targets: np.ndarray, faces: FaceSet, share: float) -> np.ndarray:
    if faces.votes is None:
        hint = "join them with 'mien data convert --ferplus', or set targets.votes=0"
        raise DataError("data", "holds no FER+ votes, which targets.votes asks for", hint)
    unknown = [name for name in faces.classes if name not in FERPLUS]
    if unknown:
        found = f"is {share:g}, but FER+ has no votes for {', '.join(unknown)}"
        raise RecipeError("targets.votes", found, "set it to 0 for these classes")
    voted = vote_shares(faces.votes, faces.classes)
    known = np.isfinite(voted).all(axis=1, keepdims=True)
    return np.where(known, targets + share * (np.nan_to_num(voted) - targets), targets).astype(np.float32)
