"""Saliency maps of faces. This is the only part of the service that needs torch; it is imported on the first request."""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mien.core.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from mien.training.runs.checkpoint import TrainedModel

#: Methods that answer within a second or two; LIME takes longer, and another package.
METHODS = (
    "gradient", "normalized-gradient", "smoothgrad", "integrated-gradients", "grad-cam", "guided-backprop", "occlusion",
)  # fmt: skip

#: One pixel of the crop is drawn as so many.
ZOOM = 6

#: A network's hooks and mode are changed while it is explained: one at a time.
_LOCK = threading.Lock()


def is_available() -> bool:
    return find_spec("torch") is not None


def check_method(method: str) -> None:
    """Raise UsageError for a method that is not offered, MissingExtra (501) without torch."""
    if method not in METHODS:
        raise UsageError(
            f"method '{method}'", "is not offered here", f"choose from {', '.join(METHODS)}", code="unknown_method"
        )
    if not is_available():
        raise MissingExtra("torch", "train", "for saliency")


@lru_cache(maxsize=4)
def _load_network(path: Path) -> TrainedModel:
    from mien.training.torch_classifier import open_trained_model

    return open_trained_model(str(path))


def draw_saliency(path: Path, crop: np.ndarray, method: str) -> np.ndarray:
    """Draw the saliency map of the most probable expression over one crop uint8 (S, S, 3), enlarged; returns RGB
    uint8."""
    from mien.explanation.attribution import compute_attributions
    from mien.explanation.figures import draw_overlays
    from mien.training.torch_classifier import TorchClassifier

    with _LOCK:
        trained = _load_network(path)
        crops = crop[None]
        target = TorchClassifier(trained).probabilities(crops).argmax(axis=1)
        maps = compute_attributions(trained.network, trained.preprocessing.to_tensor(crops), target, method)
        return draw_overlays(trained.preprocessing.convert_color(crops), maps, zoom=ZOOM)[0]
