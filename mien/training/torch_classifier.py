"""Crops → probabilities with torch: the twin of run.classify.Classifier, for runs that are not exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.analysis.inference.classifier import TTA, average_views, softmax
from mien.analysis.inference.model_file import find_model, list_shipped_models, read_model_info
from mien.core.errors import ModelError
from mien.core.preprocessing import Preprocessing
from mien.models import load
from mien.training.checkpoint import TrainedModel, load_trained_model


class TorchClassifier:
    """A trained network on the CPU in float32, with the same ``labels`` and ``probabilities`` as a model file has."""

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
        """Crops uint8 (N, H, W) or (N, H, W, 3) of one size → float32 (N, K), each row summing to 1."""
        return average_views(self._predict_batch, images, tta, self.batch_size, len(self.labels))

    @torch.no_grad()
    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the last layer decides on: uint8 crops → (features float32 (N, D), probabilities float32 (N, K))."""
        network, found = self.trained.network.eval(), []
        for start in range(0, len(images), self.batch_size):
            tensor = torch.from_numpy(self.preprocessing.to_tensor(images[start : start + self.batch_size]))
            features = network.features(tensor.contiguous(memory_format=torch.channels_last))
            found.append((features.numpy(), network.head(features).numpy()))
        features, logits = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return features, softmax(logits / self.trained.temperature)

    @torch.no_grad()
    def _predict_batch(self, images: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(self.preprocessing.to_tensor(images)).contiguous(memory_format=torch.channels_last)
        return softmax(self.trained.network.eval()(tensor).numpy() / self.trained.temperature)


def open_trained_model(model: str | Path) -> TrainedModel:
    """The network of a shipped model, a float model file, a run folder or a .pt file, in evaluation mode on the CPU."""
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
    """The network of a run folder (the epoch that its recipe keeps) or of one .pt file."""
    if not path.exists():
        hint = "check the path of the run folder or .pt file"
        if path.name == str(path) and not path.suffix:  # rather the name of a model
            hint = f"choose one of {', '.join(list_shipped_models())}, or name a run folder, a .pt or an .onnx file"
        raise ModelError(path, "does not exist", hint)
    if path.suffix.lower() == ".onnx":
        raise ModelError(path, "is a model file already", "name the run folder or the .pt file that it came from")
    if path.is_file():
        return load_trained_model(path)
    if not (path / "last.pt").is_file():
        raise ModelError(
            path, "holds no trained network", "name a run folder with last.pt in it, a .pt or an .onnx file"
        )
    return load_trained_model(path / f"{_read_kept_epoch(path)}.pt")


def _read_kept_epoch(folder: Path) -> str:
    """ "best" or "last", as the run's own recipe says."""
    from mien.training.recipe import load_recipe

    return load_recipe(folder / "recipe.toml").run.keep


def read_log(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(header, a row an epoch) of a run's log; empty where not one epoch was finished."""
    path = folder / "log.jsonl"
    if not path.is_file():
        return {}, []
    try:
        header, *history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return dict(header), [dict(row) for row in history]
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(path, f"is a damaged log ({error})", "remove it: the checkpoints do without it") from error
