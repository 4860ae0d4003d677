"""Classify crops with torch: the counterpart of `mien.analysis.inference.classifier.Classifier` for runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mien.analysis.inference.classifier import TTA, average_views, softmax
from mien.analysis.inference.model_file import find_model, list_shipped_models, read_model_info
from mien.core.errors import ModelError
from mien.core.preprocessing import Preprocessing
from mien.models import load
from mien.models.feature_network import FeatureNetwork
from mien.training.runs.checkpoint import TrainedModel, load_trained_model


class TorchClassifier:
    """A trained network on the CPU in float32, with the same ``labels`` and ``probabilities`` as a model file."""

    def __init__(self, trained: TrainedModel, batch_size: int = 256) -> None:
        self.trained, self.batch_size = trained, batch_size

    @property
    def labels(self) -> tuple[str, ...]:
        return self.trained.classes

    @property
    def labels_by(self) -> str:
        return self.trained.labels_by

    @property
    def preprocessing(self) -> Preprocessing:
        return self.trained.preprocessing

    def probabilities(self, images: np.ndarray, tta: TTA = "none") -> np.ndarray:
        """Return probabilities float32 (N, K) of crops uint8 (N, H, W) or (N, H, W, 3) of one size; rows sum to 1."""
        return average_views(self._predict_batch, images, tta, self.batch_size, len(self.labels))

    @torch.no_grad()
    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs of the last layer, float32 (N, D), and probabilities, float32 (N, K), of uint8 crops."""
        network, outputs = cast(FeatureNetwork, self.trained.network.eval()), []
        for start in range(0, len(images), self.batch_size):
            tensor = torch.from_numpy(self.preprocessing.to_tensor(images[start : start + self.batch_size]))
            part = network.features(tensor.contiguous(memory_format=torch.channels_last))
            outputs.append((part.numpy(), network.head(part).numpy()))
        features, logits = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
        return features, softmax(logits / self.trained.temperature)

    @torch.no_grad()
    def _predict_batch(self, images: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(self.preprocessing.to_tensor(images)).contiguous(memory_format=torch.channels_last)
        return softmax(self.trained.network.eval()(tensor).numpy() / self.trained.temperature)


def open_trained_model(model: str | Path) -> TrainedModel:
    """Open a shipped model, a float model file, a run folder or a .pt file, in evaluation mode on the CPU."""
    if str(model) not in list_shipped_models() and Path(model).suffix.lower() != ".onnx":
        return load_run(Path(model))
    info, network = read_model_info(find_model(model)), load(model)
    return TrainedModel(
        network,
        info.name,
        info.network["name"],
        info.network["arguments"],
        info.labels,
        info.preprocessing,
        epoch=0,
        temperature=info.temperature,
        labels_by=info.labels_by,
    )


def load_run(path: Path) -> TrainedModel:
    """Load a run folder (the epoch that its recipe keeps) or a .pt file."""
    if not path.exists():
        hint = "check the path of the run folder or .pt file"
        if path.name == str(path) and not path.suffix:  # probably the name of a model
            hint = f"choose one of {', '.join(list_shipped_models())}, or name a run folder, a .pt or an .onnx file"
        raise ModelError(path, "does not exist", hint)
    if path.suffix.lower() == ".onnx":
        raise ModelError(
            path, "is a model file already", "give the run folder or the .pt file that it was exported from"
        )
    if path.is_file():
        return load_trained_model(path)
    if not (path / "last.pt").is_file():
        raise ModelError(
            path, "holds no trained network", "give a run folder with last.pt in it, a .pt or an .onnx file"
        )
    return load_trained_model(path / f"{_read_kept_epoch(path)}.pt")


def _read_kept_epoch(folder: Path) -> str:
    """Return "best" or "last", as the run's recipe says."""
    from mien.training.recipe import load_recipe

    return load_recipe(folder / "recipe.toml").run.keep


def read_log(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the rows (one for each epoch) of a run's log; both empty before the first epoch."""
    path = folder / "log.jsonl"
    if not path.is_file():
        return {}, []
    try:
        header, *history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return dict(header), [dict(row) for row in history]
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(path, f"is a damaged log ({error})", "remove it: the checkpoints do not need it") from error
