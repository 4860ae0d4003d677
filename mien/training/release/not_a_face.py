"""The not-a-face score: a second head on the same features that detects pictures without a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mien.analysis.inference.classifier import Classifier
from mien.core.errors import DataError
from mien.core.labels import FERPLUS_VOTES
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.evaluation.ranking import roc_auc
from mien.training.release.negatives import (
    GROUPS,
    MAX_FALSE_DETECTIONS,
    SQUARES_PER_PHOTOGRAPH,
    crop_false_detections,
    crop_squares,
    distort_images,
    draw_textures,
    load_photographs,
    scramble_faces,
)

#: Share of real faces above the threshold.
MAX_LOST_SHARE = 0.005

#: Number of pictures of each kind; ``no faces`` are FER+'s, each used about ten times.
REAL, REAL_MOVED, NO_FACES, SCRAMBLED, TEXTURES, MOVED = 6000, 6000, 1500, 3000, 2000, 1500

_HIDDEN, _STEPS, _BATCH, _RATE, _DECAY = 32, 1500, 1024, 3e-3, 0.05
_VOTE = FERPLUS_VOTES.index("not_a_face")

#: The head's weights in a model file.
NAMES = ("not_a_face.0.weight", "not_a_face.0.bias", "not_a_face.2.weight", "not_a_face.2.bias")


@dataclass(frozen=True)
class Head:
    """score = sigmoid(output_weight · relu(hidden_weight · features + hidden_bias) + output_bias).

    All float32: hidden_weight (H, D), hidden_bias (H,), output_weight (1, H), output_bias (1,).
    """

    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray
    output_bias: np.ndarray

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """Return the log odds (N,) of features (N, D)."""
        return (
            np.maximum(features @ self.hidden_weight.T + self.hidden_bias, 0) @ self.output_weight.T + self.output_bias
        )[:, 0]


def find_faces_by_votes(faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks, bool (N,): no face by the majority of FER+'s annotators, and no face by none of them."""
    if faces.votes is None:
        return np.zeros(len(faces), bool), np.ones(len(faces), bool)
    votes = faces.votes[:, _VOTE]
    return votes > faces.votes[:, :_VOTE].max(axis=1), votes == 0


def fit_head(
    classifier: Classifier, training: FaceSet, validation: FaceSet, *, seed: int = 0, quiet: bool = False
) -> tuple[Head, float, dict[str, Any]]:
    """Return the head, the threshold on its score, and figures on pictures that did not train it.

    The negatives are FER+'s pictures without a face, crops and false detections of photographs without people, scrambled
    faces, and textures. The threshold marks one real ``validation`` face in 200. False detections are scored by a head
    that was not trained on their photographs.
    """
    rng = np.random.default_rng(seed)
    features = _compute_features(classifier, _collect_pictures(training, rng), quiet)
    none, some = find_faces_by_votes(validation)
    if not some.any():
        raise DataError("validation faces", "are missing", "check `data` and `split`")
    of_validation, _ = classifier.features(validation.images)

    head = _fit_weights(features, ("finds0", "finds1", "squares0", "squares1"), seed)
    real = head.log_odds(of_validation[some])
    limit = float(np.quantile(real, 1 - MAX_LOST_SHARE))
    values: dict[str, Any] = {"faces": int(some.sum()), "lost": _measure_lost_share(real, rng)}
    if none.any():
        values["ferplus"] = _measure_detection(real, head.log_odds(of_validation[none]), limit)
    others = [_fit_weights(features, (f"finds{group}", f"squares{group}"), seed) for group in range(len(GROUPS))]
    for name in ("finds", "squares"):
        parts = []
        for mine, other in ((0, others[1]), (1, others[0])):
            # Each head has its own bias: false detections are compared with real faces by the same head.
            against, rows = other.log_odds(of_validation[some]), other.log_odds(features[f"{name}{mine}"])
            parts.append(_measure_detection(against, rows, float(np.quantile(against, 1 - MAX_LOST_SHARE))))
        total = sum(part["count"] for part in parts)
        values[name] = {"count": total} | {
            key: sum(part["count"] * part[key] for part in parts) / total for key in parts[0] if key != "count"
        }
    return head, float(1 / (1 + np.exp(-limit))), values


def _measure_lost_share(real: np.ndarray, rng: np.random.Generator) -> float:
    """Return the share of real faces above the threshold, cross-validated on two halves."""
    a, b = np.array_split(rng.permutation(real), 2)
    return float(
        np.concatenate([mine > np.quantile(other, 1 - MAX_LOST_SHARE) for mine, other in ((a, b), (b, a))]).mean()
    )


def _measure_detection(real: np.ndarray, none: np.ndarray, limit: float) -> dict[str, Any]:
    """Return ROC AUC, recall at 1 % false positives and recall at the limit, from log odds of faces and non-faces."""
    odds, positive = np.concatenate([real, none]), np.repeat([False, True], [len(real), len(none)])
    return {
        "count": len(none),
        "roc_auc": float(roc_auc(odds, positive)),
        "recall_at_1_percent": float((none > np.quantile(real, 0.99)).mean()),
        "recall_at_threshold": float((none > limit).mean()),
    }


def _collect_pictures(training: FaceSet, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the training pictures: kind → uint8 (n, S, S)."""
    none, some = find_faces_by_votes(training)
    faces, size = training.images[some], training.images.shape[1]
    if not len(faces):
        raise DataError("training faces", "are missing", "check `data` and `train_split`")
    kinds = {
        "real": faces[rng.permutation(len(faces))[:REAL]],
        "real moved": distort_images(faces, REAL_MOVED, rng),
        "scrambled": scramble_faces(faces, SCRAMBLED, rng),
        "textures": draw_textures(TEXTURES, size, rng),
    }
    # Distort these as the faces are distorted, so that distortion does not separate the classes.
    kinds |= {f"{name} moved": distort_images(kinds[name], MOVED, rng) for name in ("scrambled", "textures")}
    if none.any():
        kinds["no faces"] = distort_images(training.images[none], NO_FACES, rng)
    for group in range(len(GROUPS)):
        pictures = load_photographs(group)
        kinds[f"squares{group}"] = np.concatenate(
            [crop_squares(picture, size, SQUARES_PER_PHOTOGRAPH, rng) for picture in pictures]
        )
        kinds[f"finds{group}"] = np.concatenate(
            [crop_false_detections(picture, size, MAX_FALSE_DETECTIONS, rng) for picture in pictures]
        )
    return kinds


def _compute_features(classifier: Classifier, kinds: dict[str, np.ndarray], quiet: bool) -> dict[str, np.ndarray]:
    """Return the features (n, D) of each kind."""
    features: dict[str, np.ndarray] = {}
    with progress_bar("not a face", sum(map(len, kinds.values())), quiet=quiet) as bar:
        for name, images in kinds.items():
            parts = [images[start : start + 512] for start in range(0, len(images), 512)]
            rows = []
            for part in parts:
                rows.append(classifier.features(part)[0])
                bar.advance(len(part))
            features[name] = np.concatenate(rows)
    return features


def _fit_weights(features: dict[str, np.ndarray], photographs: tuple[str, ...], seed: int) -> Head:
    """Fit the head with logistic loss and AdamW on the features of real faces against all other pictures."""
    some = [name for name in ("real", "real moved") if name in features]
    none = [
        name
        for name in ("no faces", "scrambled", "textures", "scrambled moved", "textures moved", *photographs)
        if name in features
    ]
    rows = torch.from_numpy(np.concatenate([features[name] for name in (*some, *none)]))
    targets = torch.tensor([float(name in none) for name in (*some, *none) for _ in features[name]])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-3
    rows = (rows - mean) / deviation
    generator = torch.Generator().manual_seed(seed)
    into = torch.randn(_HIDDEN, rows.shape[1], generator=generator) * (2 / rows.shape[1]) ** 0.5
    out = torch.randn(1, _HIDDEN, generator=generator) * (2 / _HIDDEN) ** 0.5
    weights = [w.requires_grad_() for w in (into, torch.zeros(_HIDDEN), out, torch.zeros(1))]
    optimizer = torch.optim.AdamW(weights, _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        batch = torch.randint(0, len(rows), (_BATCH,), generator=generator)
        odds = F.linear(F.relu(F.linear(rows[batch], weights[0], weights[1])), weights[2], weights[3])[:, 0]
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(odds, targets[batch]).backward()
        optimizer.step()
        schedule.step()
    # The scaling of the features goes into the first layer: W ((x − m) / s) + b = (W / s) x + (b − W m / s).
    scaled = (weights[0] / deviation).detach()
    bias = (weights[1] - scaled @ mean).detach()
    return Head(*(w.detach().numpy().copy() for w in (scaled, bias, weights[2], weights[3])))


def add_head(model: Any, head: Head) -> None:
    """Add the output ``not_a_face`` (N,), computed from ``features``, to an ONNX model; an existing one is replaced."""
    from onnx import TensorProto, helper, numpy_helper

    remove_head(model)
    graph = model.graph
    for name, value in zip(
        NAMES, (head.hidden_weight, head.hidden_bias, head.output_weight, head.output_bias), strict=True
    ):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
    one_side = np.array([-1], np.int64)
    graph.initializer.append(numpy_helper.from_array(one_side, "not_a_face.shape"))
    into, bias, out, offset = NAMES
    graph.node.extend([
        helper.make_node("Gemm", ["features", into, bias], ["not_a_face.0"], "not_a_face.0", transB=1),
        helper.make_node("Relu", ["not_a_face.0"], ["not_a_face.1"], "not_a_face.1"),
        helper.make_node("Gemm", ["not_a_face.1", out, offset], ["not_a_face.2"], "not_a_face.2", transB=1),
        helper.make_node("Sigmoid", ["not_a_face.2"], ["not_a_face.3"], "not_a_face.3"),
        helper.make_node("Reshape", ["not_a_face.3", "not_a_face.shape"], ["not_a_face"], "not_a_face"),
    ])  # fmt: skip
    graph.output.append(helper.make_tensor_value_info("not_a_face", TensorProto.FLOAT, ["N"]))


def remove_head(model: Any) -> None:
    """Remove the output ``not_a_face``, its nodes and its weights from an ONNX model, if it has them."""
    graph = model.graph
    for parts in (graph.node, graph.initializer, graph.output):
        others = [part for part in parts if not part.name.startswith("not_a_face")]
        del parts[:]
        parts.extend(others)
