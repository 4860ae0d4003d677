"""Crops → probabilities with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from mien.core.errors import UsageError
from mien.core.preprocess import TEN_CROP, Preprocessing, resize
from mien.run.weights import ModelInfo, find_model, open_session

TTA = Literal["none", "flip", "ten-crop"]
TTA_CHOICES: tuple[TTA, ...] = ("none", "flip", "ten-crop")


def check_tta(tta: str) -> None:
    """UsageError, with the choices, for a way of averaging that is unknown."""
    if tta not in TTA_CHOICES:
        raise UsageError(f"--tta {tta}", "is unknown", f"choose one of {', '.join(TTA_CHOICES)}")


def views(images: np.ndarray, tta: TTA) -> list[np.ndarray]:
    """The versions of uint8 images (N, H, W[, 3]) whose probabilities are averaged, each of any size.

    ``flip``: the picture and its mirror image. ``ten-crop``: four corners and the centre at 44/48 of the side, and
    their mirror images (Krizhevsky et al., 2012).
    """
    if tta == "none":
        return [images]
    if tta == "flip":
        return [images, images[:, :, ::-1]]
    check_tta(tta)
    height, width = images.shape[1:3]
    tall, wide = round(height * TEN_CROP), round(width * TEN_CROP)
    corners = [
        (0, 0),
        (0, width - wide),
        (height - tall, 0),
        (height - tall, width - wide),
        ((height - tall) // 2, (width - wide) // 2),
    ]
    crops = [images[:, top : top + tall, left : left + wide] for top, left in corners]
    return crops + [crop[:, :, ::-1] for crop in crops]


def softmax(logits: np.ndarray) -> np.ndarray:
    """float (..., K) → float32 probabilities that sum to 1 over the last axis."""
    logits = logits.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def averaged(
    classify: Callable[[np.ndarray], np.ndarray], images: np.ndarray, tta: TTA, batch_size: int, num_classes: int
) -> np.ndarray:
    """Probabilities float32 (N, K) of ``classify``, batch by batch, averaged over the views of ``tta``.

    Raises ValueError unless images are uint8 (N, H, W) or (N, H, W, 3).
    """
    images = np.asarray(images)
    one_rgb_crop = images.ndim == 3 and images.shape[2] == 3  # not N grey crops of three columns
    several = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or one_rgb_crop or not several:
        raise ValueError(f"crops must be uint8 (N, H, W) or (N, H, W, 3), not {images.dtype} {images.shape}")
    parts = [np.empty((0, num_classes), np.float32)]
    for start in range(0, len(images), batch_size):
        parts.append(np.mean([classify(view) for view in views(images[start : start + batch_size], tta)], axis=0))
    return np.concatenate(parts)


class Classifier:
    """A model file, loaded and ready.

    Args:
        model: a shipped model's name, or the path of an .onnx file.
        threads: processor threads; 0 lets ONNX Runtime take all cores.
        batch_size: crops that are given to the network at once.

    Raises ModelError for an unknown name and for a file that is damaged or not ours.
    """

    def __init__(self, model: str | Path = "base", *, threads: int = 0, batch_size: int = 64) -> None:
        self.path = find_model(model)
        self.batch_size = batch_size
        self._session = open_session(self.path, threads)
        self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.info.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.info.preprocessing

    def probabilities(self, images: np.ndarray, tta: TTA = "none") -> np.ndarray:
        """Crops uint8 (N, H, W) grey or (N, H, W, 3) RGB of one size → float32 (N, K), each row summing to 1."""
        return averaged(self._once, images, tta, self.batch_size, len(self.labels))

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the last layer decides on: uint8 crops → (features float32 (N, D), probabilities float32 (N, K))."""
        parts = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        found = [
            self._session.run(["features", "logits"], {"images": self.preprocessing.to_tensor(part)}) for part in parts
        ]
        features, logits = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return features, softmax(logits / self.info.temperature)

    def _once(self, images: np.ndarray) -> np.ndarray:
        tensor = self.preprocessing.to_tensor(images)
        (logits,) = self._session.run(["logits"], {"images": tensor})
        return softmax(logits / self.info.temperature)

    def as_input(self, crop: np.ndarray) -> np.ndarray:
        """What the network is given for a crop, as a picture: uint8 (S, S) or (S, S, 3)."""
        return resize(self.preprocessing.as_read(crop), self.preprocessing.size)
