"""A shipped model, a model file, a run folder or a checkpoint → a classifier of crops; torch only for runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import list_shipped_models
from mien.core.errors import MissingExtra, UsageError
from mien.core.preprocessing import Preprocessing
from mien.core.progress import progress_bar
from mien.core.types import FaceSet

#: Faces that are classified at once.
BATCH = 256


class LabelInfo(Protocol):
    """What a model knows of its labels: their names, and whether the file or the annotators gave those that it learned."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def labels_by(self) -> str: ...


class AnyClassifier(LabelInfo, Protocol):
    """A model file or a run: both know their labels and classify crops."""

    @property
    def preprocessing(self) -> Preprocessing: ...
    def probabilities(self, images: np.ndarray, tta: Any = "none") -> np.ndarray: ...


def require_torch() -> None:
    """Raise MissingExtra with the line that installs torch, where it is absent."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "train", "for training, runs and checkpoints")


def is_run(model: str) -> bool:
    """Return whether MODEL is a run folder or a .pt file, not a model file; a shipped model's name comes first."""
    return model not in list_shipped_models() and (Path(model).is_dir() or Path(model).suffix == ".pt")


def open_classifier(model: str, precision: str = "auto") -> AnyClassifier:
    """Open a shipped model by name, an .onnx file, a run folder or a .pt file; runs are always float."""
    if is_run(model):
        if precision == "int8":
            raise UsageError("`precision=int8`", f"does not go with the run {model}", "export it, then 'mien finish'")
        require_torch()
        from mien.training.torch_classifier import TorchClassifier, load_run

        return TorchClassifier(load_run(Path(model)))
    return Classifier(model, precision=precision)


def resolve_labels_by(source: str, faces: FaceSet, model: LabelInfo | None) -> str:
    """Return ``given`` or ``annotators``; "auto" is what the model learned, if the faces have votes.

    Raises UsageError for anything else.
    """
    if source not in ("auto", "given", "annotators"):
        raise UsageError(f"`labels_by={source}`", "is unknown", "choose from auto, given, annotators")
    if source != "auto":
        return source
    return model.labels_by if model is not None and faces.votes is not None else "given"


def classify_images(classifier: AnyClassifier, images: np.ndarray, tta: str, *, quiet: bool, title: str) -> np.ndarray:
    """Return the probabilities, float32 (N, K), of crops uint8 (N, H, W) or (N, H, W, 3); show a progress bar."""
    parts = []
    with progress_bar(title, len(images), quiet=quiet) as bar:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            parts.append(classifier.probabilities(batch, tta))
            bar.advance(len(batch), f"{start + len(batch):,} of {len(images):,} faces")
    return np.concatenate(parts)
