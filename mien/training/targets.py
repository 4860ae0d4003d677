"""Training targets: labels, annotators' votes, a teacher's probabilities, or a blend of them."""

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
from mien.training.hardware import Hardware
from mien.training.recipe import TargetSettings, list_teachers
from mien.training.runs.checkpoint import TrainedModel
from mien.training.torch_classifier import TorchClassifier, open_trained_model


def make_targets(faces: FaceSet, settings: TargetSettings, echo: Callable[[str], None] = lambda text: None) -> Tensor:
    """Return the target distribution of each face over ``faces.classes``, before smoothing: float32 (N, K) on the CPU.

    A share ``votes`` of it is FER+'s vote distribution (Barsoum et al., "Training Deep Networks for Facial Expression
    Recognition with Crowd-Sourced Label Distribution", 2016); a face without votes for these classes keeps its label.
    A share ``teacher_share`` of the result is the prediction of ``teacher``: the mean over the face, its mirror image and
    all teachers (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015). If the teacher sees the augmented
    inputs, `Teacher` predicts in each step instead.

    Raises DataError if the recipe uses votes and the faces have none, and RecipeError if FER+ lacks a class, or the
    teacher has other classes.
    """
    targets = np.eye(len(faces.classes), dtype=np.float32)[faces.labels]
    if settings.votes:
        targets = _blend_votes(targets, faces, settings.votes)
    if settings.teacher and settings.teacher_sees == "clean":
        teachers = [TorchClassifier(_open_teacher(name, faces.classes)) for name in list_teachers(settings.teacher)]
        echo(f"{settings.teacher} predicts {len(faces):,} faces")
        taught = np.mean([teacher.probabilities(faces.images, "flip") for teacher in teachers], axis=0)
        targets = targets + settings.teacher_share * (taught - targets)
    return torch.from_numpy(targets)


class Teacher:
    """One or several teachers that predict the same augmented and mixed inputs that the student gets.

    This way the clean faces that the teacher memorized matter less (Beyer et al., "Knowledge distillation: A good teacher
    is patient and consistent", 2022). Several teachers are averaged. A shipped teacher runs in int8 if that is faster on
    the processor, since each step waits for it.

    Raises RecipeError if a teacher has other classes than ``classes`` or other inputs than ``student``.
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
        """Return targets (B, K) blended with the teachers' probabilities for the student's inputs (B, C, H, W)."""
        taught = torch.stack([probabilities_of(inputs) for probabilities_of in self._predictors]).mean(dim=0)
        return targets + self._share * (taught - targets)


def _make_predictor(
    model: str, classes: tuple[str, ...], student: Preprocessing, hardware: Hardware
) -> Callable[[Tensor], Tensor]:
    """Return one teacher as a function from the student's inputs (B, C, H, W) to probabilities (B, K)."""
    trained = _open_teacher(model, classes)
    teacher_input = trained.preprocessing
    if (teacher_input.channels, teacher_input.size) != (student.channels, student.size):
        problem = (
            f"'{model}' takes {teacher_input.channels} x {teacher_input.size} x {teacher_input.size}, the student "
        )
        problem += f"{student.channels} x {student.size} x {student.size}"
        raise RecipeError("`targets.teacher`", problem, "choose another, or set `targets.teacher_sees=clean`")
    logits_of = _make_int8_predictor(model, hardware) or _make_torch_predictor(trained.network, hardware)
    ours_mean, ours_std, mean, std = (
        torch.tensor(values, device=hardware.device).view(1, -1, 1, 1)
        for values in (student.mean, student.std, teacher_input.mean, teacher_input.std)
    )
    scale, shift = ours_std / std, (ours_mean - mean) / std  # from the student's to the teacher's normalization
    return lambda inputs: (logits_of(inputs * scale + shift) / trained.temperature).softmax(dim=1)


def _make_torch_predictor(network: nn.Module, hardware: Hardware) -> Callable[[Tensor], Tensor]:
    network = hardware.move_network(network).eval()

    def logits_of(inputs: Tensor) -> Tensor:
        with hardware.autocast():
            return network(inputs).float()

    return logits_of


def _find_int8_file(model: str, hardware: Hardware) -> Path | None:
    """Return the int8 file of a shipped model if it is the faster one here, else None."""
    shipped = list_shipped_models().get(model)
    if shipped is None or hardware.device.type != "cpu" or choose_model_file(model) != int8_path(shipped):
        return None
    return int8_path(shipped)


def _make_int8_predictor(model: str, hardware: Hardware) -> Callable[[Tensor], Tensor] | None:
    """Return the shipped model's int8 file as a function in ONNX Runtime; None if torch is faster or there is no file."""
    if _find_int8_file(model, hardware) is None:
        return None
    classifier = Classifier(model, threads=torch.get_num_threads(), precision="int8")
    return lambda inputs: torch.from_numpy(classifier.tensor_logits(inputs.contiguous().numpy()))


def make_teacher(
    settings: TargetSettings, classes: tuple[str, ...], student: Preprocessing, hardware: Hardware
) -> Teacher | None:
    """Return the teacher that predicts in each step, None if the recipe has none."""
    is_used = settings.teacher and settings.teacher_sees == "augmented"
    return Teacher(settings, classes, student, hardware) if is_used else None


def _open_teacher(model: str, classes: tuple[str, ...]) -> TrainedModel:
    trained = open_trained_model(model)
    if trained.classes != classes:
        problem = f"'{model}' has the classes {', '.join(trained.classes)}, the faces {', '.join(classes)}"
        raise RecipeError("`targets.teacher`", problem, "choose a teacher with the same classes in the same order")
    return trained


def fingerprint_teachers(settings: TargetSettings, hardware: Hardware) -> str:
    """Return a fingerprint of the teachers, to refuse resuming with others; "" without a teacher."""
    return " and ".join(_fingerprint_teacher(name, settings, hardware) for name in list_teachers(settings.teacher))


def _fingerprint_teacher(model: str, settings: TargetSettings, hardware: Hardware) -> str:
    trained = open_trained_model(model)
    preprocessing = repr(trained.preprocessing).replace("color=", "colour=")  # as in runs that version 0.1 began
    check = zlib.crc32(f"{trained.temperature} {preprocessing}".encode())
    for tensor in trained.network.state_dict().values():
        check = zlib.crc32(tensor.numpy().tobytes(), check)
    in_int8 = settings.teacher_sees == "augmented" and _find_int8_file(model, hardware) is not None
    return f"{model}, {check:08x}{', int8' if in_int8 else ''}"


def _blend_votes(targets: np.ndarray, faces: FaceSet, share: float) -> np.ndarray:
    if faces.votes is None:
        hint = "add FER+'s votes to the data, or set `targets.votes=0`"
        raise DataError("data", "holds no FER+ votes, which `targets.votes` needs", hint)
    unknown = [name for name in faces.classes if name not in FERPLUS]
    if unknown:
        problem = f"is {share:g}, but FER+ has no votes for {', '.join(unknown)}"
        raise RecipeError("`targets.votes`", problem, "set it to 0 for these classes")
    voted = vote_shares(faces.votes, faces.classes)
    known = np.isfinite(voted).all(axis=1, keepdims=True)
    return np.where(known, targets + share * (np.nan_to_num(voted) - targets), targets).astype(np.float32)
