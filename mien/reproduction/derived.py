"""Combine trained runs: the expert for a rare class, and an ensemble of three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mien.core.types import FaceSet
from mien.evaluation.metrics import score
from mien.reproduction.studies import SPLITS
from mien.training.release.ensemble import WEIGHTINGS, mix_probabilities
from mien.training.torch_classifier import TorchClassifier, load_run

#: The shares of the expert that are tried on the validation faces.
EXPERT_SHARES = np.linspace(0, 1, 21)


def mix_expert(probabilities: np.ndarray, expert: np.ndarray, index: int, share: float) -> np.ndarray:
    """Mix a full classifier (N, K) with a binary expert's probability (N,) of class ``index``; returns (N, K).

    The class gets (1 − share) of the classifier's probability and ``share`` of the expert's; the others keep their
    proportions, so that every row still sums to 1.
    """
    joined = (1 - share) * probabilities[:, index] + share * expert
    others = np.delete(probabilities.astype(np.float64), index, axis=1)
    others[others.sum(axis=1) == 0] = 1  # if the class had probability 1, the others share the rest equally
    others *= ((1 - joined) / others.sum(axis=1))[:, None]
    return np.insert(others, index, joined, axis=1)


def evaluate_rare_class(folder: Path, faces: FaceSet) -> dict[str, Any]:
    """Evaluate the disgust expert mixed with the plain classifier. Its share has the best macro-F1 on the validation
    faces."""
    divided = SPLITS["r5"](faces)
    plain, expert = (TorchClassifier(load_run(folder / "rare-class" / name)) for name in ("plain", "expert"))
    index = plain.labels.index("disgust")
    answers = {}
    for name in ("validation", "test"):
        part = divided.select_split(name).reindex_classes(plain.labels)
        answers[name] = (plain.probabilities(part.images), expert.probabilities(part.images)[:, 1], part.labels)
    p, q, labels = answers["validation"]
    tried = [score(mix_expert(p, q, index, share), labels, plain.labels).macro_f1 for share in EXPERT_SHARES]
    share = float(EXPERT_SHARES[int(np.argmax(tried))])
    p, q, labels = answers["test"]
    return {
        "share": share,
        "validation_macro_f1": dict(zip([f"{s:.2f}" for s in EXPERT_SHARES], np.round(tried, 5).tolist(), strict=True)),
        "scores": score(mix_expert(p, q, index, share), labels, plain.labels).to_json(),
        "expert_alone": score(np.stack([1 - q, q], 1), (labels == index).astype(int), ("other", "disgust")).to_json(),
    }


#: Runs on R5's split, of two architectures and two seeds; those with the adaptive loss have a lower validation accuracy.
MEMBERS = ("adaptive-loss/cross-entropy-1", "adaptive-loss/cross-entropy-2", "rare-class/plain")


def evaluate_ensemble(folder: Path, faces: FaceSet) -> dict[str, Any]:
    """Evaluate MEMBERS as one model, ten-crop: weights from the held-out tenth of Training, scores on PublicTest."""
    divided = SPLITS["r5"](faces)
    members = [TorchClassifier(load_run(folder / name)) for name in MEMBERS]
    answers = {}
    for part in ("validation", "test"):
        rows = divided.select_split(part).reindex_classes(members[0].labels)
        answers[part] = (np.stack([m.probabilities(rows.images, "ten-crop") for m in members]), rows.labels)
    (chosen_on, chosen_labels), (probabilities, labels) = answers["validation"], answers["test"]
    result: dict[str, Any] = {"members": {}, "ensembles": {}}
    for name, each in zip(MEMBERS, probabilities, strict=True):
        result["members"][name] = score(each, labels, members[0].labels).to_json()
    for way, choose in WEIGHTINGS.items():
        weights = choose(chosen_on, chosen_labels)
        scores = score(mix_probabilities(weights, probabilities), labels, members[0].labels).to_json()
        result["ensembles"][way] = {"weights": weights.tolist(), "scores": scores}
    return result
