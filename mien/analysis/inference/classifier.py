"""Classify face crops with ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mien.analysis.inference.model_file import SessionPool, choose_model_file, open_session, read_model_info
from mien.core.errors import ModelError, UsageError
from mien.core.preprocessing import TEN_CROP, Preprocessing, resize

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TTA = Literal["none", "flip", "ten-crop"]
TTA_CHOICES: tuple[TTA, ...] = ("none", "flip", "ten-crop")


def check_tta(tta: str) -> None:
    """Raise UsageError for an unknown test-time augmentation."""
    if tta not in TTA_CHOICES:
        raise UsageError(f"`tta={tta}`", "is unknown", f"choose one of {', '.join(TTA_CHOICES)}")


def make_views(images: np.ndarray, tta: TTA) -> list[np.ndarray]:
    """Return the versions of uint8 images (N, H, W[, 3]) whose probabilities are averaged; their sizes may differ.

    "flip": the images and their mirror images. "ten-crop": the four corners and the center at 44/48 of the side, and their
    mirror images (Krizhevsky et al., 2012). Raises UsageError for another ``tta``.
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
    """Convert logits (..., K) to probabilities float32 (..., K) that sum to 1 over the last axis."""
    logits = logits.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def average_views(
    classify: Callable[[np.ndarray], np.ndarray], images: np.ndarray, tta: TTA, batch_size: int, num_classes: int
) -> np.ndarray:
    """Average the outputs of ``classify`` over the views of ``tta``, in batches → float32 (N, num_classes).

    classify   maps uint8 images (B, H, W[, 3]) to float32 (B, num_classes)
    images     uint8 (N, H, W) gray or (N, H, W, 3) RGB

    Raises ValueError for images of another shape or dtype.
    """
    images = np.asarray(images)
    one_rgb_crop = images.ndim == 3 and images.shape[2] == 3  # not N gray crops with three columns
    is_batch = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or one_rgb_crop or not is_batch:
        raise ValueError(f"crops must be uint8 (N, H, W) or (N, H, W, 3), not {images.dtype} {images.shape}")
    parts = [np.empty((0, num_classes), np.float32)]
    for start in range(0, len(images), batch_size):
        parts.append(np.mean([classify(view) for view in make_views(images[start : start + batch_size], tta)], axis=0))
    return np.concatenate(parts)


class Classifier:
    """Classify face crops with a model file.

    Args:
        model: name of a shipped model, or path of an .onnx file.
        threads: threads of ONNX Runtime; 0: all cores.
        batch_size: number of crops per run of the network.
        precision: "int8" or "float" selects the file of a shipped model. "auto" takes the value of the environment variable
            MIEN_PRECISION, else int8 if it is faster on this processor.

    Raises ModelError for an unknown name, a file that is damaged or not from mien, and a file of another precision.
    """

    def __init__(
        self, model: str | Path = "base", *, threads: int = 0, batch_size: int = 64, precision: str = "auto"
    ) -> None:
        self.path = choose_model_file(model, precision)
        self.batch_size = batch_size
        self._sessions = SessionPool(partial(open_session, self.path))
        self._threads = threads
        self.info = read_model_info(self.path, self._session)
        if precision != "auto" and precision != self.precision:
            raise ModelError(self.path, f"is {self.precision}, not {precision}", f"name the {precision} file itself")
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        self._check(outputs)
        self.has_non_face_score = "not_a_face" in outputs

    def _check(self, outputs: dict[str, list[int | str]]) -> None:
        """Raise ModelError if the shapes of inputs and outputs differ from the metadata."""
        info = self.info
        expected_shapes = {
            "images": [info.preprocessing.channels, *[info.preprocessing.size] * 2],
            "logits": [len(info.labels)],
        }
        shapes = {node.name: node.shape for node in self._session.get_inputs()} | outputs
        if absent := [name for name in expected_shapes if name not in shapes]:
            raise ModelError(self.path, f"has no '{absent[0]}'", "export it again")
        for name, stated in expected_shapes.items():
            shape = shapes[name]
            fits = len(shape) == len(stated) + 1 or not shape  # an unknown shape is accepted
            if not fits or any(
                isinstance(is_, int) and is_ != size for is_, size in zip(shape[1:], stated, strict=False)
            ):
                problem = f"has '{name}' of {shape[1:]}, but its metadata state {expected_shapes[name]}"
                raise ModelError(self.path, problem, "export it again")

    @property
    def _session(self) -> InferenceSession:
        return self._sessions.get_session(self._threads)

    def with_threads(self, threads: int) -> Classifier:
        """Return a classifier that runs the same file in ``threads`` threads."""
        twin = copy.copy(self)
        twin._threads = threads
        twin._sessions.get_session(threads)
        return twin

    @property
    def precision(self) -> Literal["float", "int8"]:
        """The precision of the file that runs."""
        return "int8" if self.info.quantized else "float"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the probabilities."""
        return self.info.labels

    @property
    def labels_by(self) -> str:
        """The source of the training labels: "given", or "annotators" of FER+."""
        return self.info.labels_by

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the network's input."""
        return self.info.preprocessing

    def probabilities(self, images: np.ndarray, tta: TTA = "none") -> np.ndarray:
        """Return probabilities float32 (N, K) of crops uint8 (N, H, W) gray or (N, H, W, 3) RGB."""
        return average_views(self._predict_batch, images, tta, self.batch_size, len(self.labels))

    def predict(self, images: np.ndarray, tta: TTA = "none") -> tuple[np.ndarray, np.ndarray | None]:
        """Return (probabilities float32 (N, K), not-a-face scores float32 (N,) in 0..1) of crops.

        Crops as for ``probabilities``. The scores are None if the model has none.
        """
        if not self.has_non_face_score:
            return self.probabilities(images, tta), None
        both = average_views(self._predict_batch_with_non_face, images, tta, self.batch_size, len(self.labels) + 1)
        return np.ascontiguousarray(both[:, :-1]), both[:, -1]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits float32 (N, K) of uint8 crops, before temperature and softmax."""
        parts = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        logits = [self.tensor_logits(self.preprocessing.to_tensor(part)) for part in parts]
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *logits])

    def tensor_logits(self, tensor: np.ndarray) -> np.ndarray:
        """Return the logits float32 (N, K) of preprocessed inputs float32 (N, channels, size, size)."""
        return self._run(["logits"], tensor)[0]

    def _run(self, outputs: list[str], tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network. Raises ModelError for outputs of a wrong shape, and for NaN or infinity."""
        try:
            answers = self._session.run(outputs, {"images": tensor})
        except Exception as error:  # ONNX Runtime raises a dozen kinds, whose messages hold paths of its own source
            if "alloc" in str(error):
                raise MemoryError(f"{self.path.name} needs more memory than there is") from error
            raise ModelError(self.path, "cannot be run; it may be damaged", "export or download it again") from error
        for name, answer in zip(outputs, answers, strict=True):
            expected = (len(tensor), *([len(self.labels)] if name == "logits" else answer.shape[1:]))
            if answer.shape != expected:
                problem = (
                    f"answers '{name}' of {list(answer.shape)} for {len(tensor)} crops and {len(self.labels)} labels"
                )
                raise ModelError(self.path, problem, "export it again")
        if not all(np.isfinite(answer).all() for answer in answers):
            problem = "answers with NaN or infinity: its weights are damaged, or its training diverged"
            raise ModelError(self.path, problem, "export it again from a good checkpoint, or choose another model")
        return answers

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (features float32 (N, D) of the last layer, probabilities float32 (N, K)) of uint8 crops."""
        parts = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        outputs = [self._run(["features", "logits"], self.preprocessing.to_tensor(part)) for part in parts]
        features, logits = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
        return features, softmax(logits / self.info.temperature)

    def _predict_batch(self, images: np.ndarray) -> np.ndarray:
        return softmax(self.tensor_logits(self.preprocessing.to_tensor(images)) / self.info.temperature)

    def _predict_batch_with_non_face(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, K + 1): the probabilities and, in the last column, the not-a-face score."""
        tensor = self.preprocessing.to_tensor(images)
        logits, score = self._run(["logits", "not_a_face"], tensor)
        return np.concatenate([softmax(logits / self.info.temperature), score[:, None]], axis=1)

    def network_input(self, crop: np.ndarray) -> np.ndarray:
        """Return the network's input for a crop as a picture, uint8 (S, S) or (S, S, 3)."""
        return resize(self.preprocessing.convert_color(crop), self.preprocessing.size)

    def resolve_threshold(self, name: Literal["unsure", "not_a_face"], asked: str | float) -> float | None:
        """Return the threshold for "auto" (the model's own, None without one), "off" (None), or a number in 0..1.

        Raises UsageError for another value, and for "not_a_face" if the model has no such score.
        """
        parameter = {"unsure": "unsure", "not_a_face": "drop_non_faces"}[name]
        if asked == "off":
            return None
        if asked == "auto":
            return self.info.thresholds.get(name)
        try:
            value = float(asked)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UsageError(
                f"`{parameter}={asked}`", "is neither auto, off nor a number from 0 to 1", f"as in `{parameter}=0.6`"
            )
        if name == "not_a_face" and not self.has_non_face_score:
            raise UsageError(
                f"`{parameter}={asked}`",
                f"needs a score that {self.path.name} does not give",
                "make one with 'mien finish'",
            )
        return value
