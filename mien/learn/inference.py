"""Crops → probabilities with torch: the twin of run.classify.Classifier, for runs that are not exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mien.core.errors import ModelError
from mien.core.preprocess import Preprocessing
from mien.learn.checkpoint import Trained, load_trained
from mien.run.classify import TTA, averaged, softmax


class TorchClassifier:
    """A trained network on the CPU in float32, with the same ``labels`` and ``probabilities`` as a model file has."""

    def __init__(self, trained: Trained, batch_size: int = 256) -> None:
        self.trained, self.batch_size = trained, batch_size

    @property
    def labels(self) -> tuple[str, ...]:
        return self.trained.classes

    @property
    def preprocessing(self) -> Preprocessing:
        return self.trained.preprocessing

    def probabilities(self, images: np.ndarray, tta: TTA = "none") -> np.ndarray:
        """Crops uint8 (N, H, W) or (N, H, W, 3) of one size → float32 (N, K), each row summing to 1."""
        return averaged(self._once, images, tta, self.batch_size, len(self.labels))

    @torch.no_grad()
    def _once(self, images: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(self.preprocessing.to_tensor(images)).contiguous(memory_format=torch.channels_last)
        return softmax(self.trained.network.eval()(tensor).numpy())


def load_run(path: Path) -> Trained:
    """The network of a run folder (the epoch that its recipe keeps) or of one .pt file."""
    if not path.exists():
        raise ModelError(path, "does not exist", "check the path of the run folder or .pt file")
    if path.suffix.lower() == ".onnx":
        raise ModelError(path, "is a model file already", "name the run folder or the .pt file that it came from")
    if path.is_file():
        return load_trained(path)
    if not (path / "last.pt").is_file():
        raise ModelError(
            path, "holds no trained network", "name a run folder with last.pt in it, a .pt or an .onnx file"
        )
    return load_trained(path / f"{_kept(path)}.pt")


def _kept(folder: Path) -> str:
    """ "best" or "last", as the run's own recipe says."""
    from mien.learn.recipe import load_recipe

    return load_recipe(folder / "recipe.toml").run.keep
