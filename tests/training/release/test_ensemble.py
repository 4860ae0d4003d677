from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.inference.classifier import Classifier
from mien.core.errors import ModelError, UsageError
from mien.core.preprocessing import Preprocessing
from mien.models import build_network, load
from mien.training.release.ensemble import (
    WEIGHTINGS,
    choose_equal_weights,
    cross_fit_probabilities,
    fit_weights,
    join_models,
    mix_probabilities,
    score_weightings,
    search_weights,
)
from mien.training.release.export import export_model
from mien.training.runs.checkpoint import TrainedModel
from mien.training.torch_classifier import TorchClassifier, load_run, open_trained_model
from tests.conftest import patterns

pytestmark = pytest.mark.usefixtures("quick_export")


def answers(sharpness: float, seed: int, labels: np.ndarray) -> np.ndarray:
    """Probabilities (N, 3) of a classifier that knows the truth as well as ``sharpness`` says."""
    logits = np.random.default_rng(seed).normal(0, 1, (len(labels), 3))
    logits[np.arange(len(labels)), labels] += sharpness
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture
def members() -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (3, 900, 3), labels (900,)): a good classifier, a middling one, and one that only guesses."""
    labels = np.arange(900) % 3
    return np.stack([answers(s, seed, labels) for seed, s in enumerate((2.0, 1.8, 0.0))]), labels


def log_likelihood(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.log(mix_probabilities(weights, probabilities)[np.arange(len(labels)), labels]).mean())


def test_every_way_gives_weights_on_the_simplex(members: tuple[np.ndarray, np.ndarray]) -> None:
    for way, choose in WEIGHTINGS.items():
        weights = choose(*members)
        assert weights.min() >= 0, way
        assert weights.sum() == pytest.approx(1), way
    assert choose_equal_weights(*members).tolist() == [1 / 3] * 3


def test_the_grid_is_the_best_of_all_tenths(members: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = members
    best = max(
        (mix_probabilities(np.array([a, b, 10 - a - b]) / 10, probabilities).argmax(axis=1) == labels).mean()
        for a in range(11)
        for b in range(11 - a)
    )
    chosen = search_weights(probabilities, labels)
    assert (mix_probabilities(chosen, probabilities).argmax(axis=1) == labels).mean() == best
    assert np.allclose(chosen * 10, np.round(chosen * 10))
    with pytest.raises(UsageError, match=r"has 10,015,005 points for 10 members"):
        search_weights(np.repeat(probabilities[:1], 10, axis=0), labels, parts=20)


def test_the_likelihoods_weights_are_its_highest_point(members: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = members
    weights = fit_weights(probabilities, labels)
    reached = log_likelihood(weights, probabilities, labels)
    for a in np.linspace(0, 1, 41):  # a finer grid than R5's finds nothing higher
        for b in np.linspace(0, 1 - a, 41):
            assert log_likelihood(np.array([a, b, 1 - a - b]), probabilities, labels) <= reached + 1e-6
    assert weights[0] > weights[1] > 0.1
    assert weights[2] < 0.05


def test_cross_fitting_never_scores_faces_with_weights_that_they_chose(members: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = members
    chosen_on: list[np.ndarray] = []

    def choose(given: np.ndarray, truths: np.ndarray) -> np.ndarray:
        chosen_on.append(given)
        return np.array([1.0, 0, 0]) if len(chosen_on) == 1 else np.array([0, 1.0, 0])

    result = cross_fit_probabilities(probabilities, labels, choose)
    assert [part.shape for part in chosen_on] == [(3, 450, 3)] * 2
    for weights_of, scored_by in ((0, 0), (1, 1)):
        chose = {row.tobytes() for row in chosen_on[weights_of][0]}
        with_these = (result == probabilities[scored_by]).all(axis=1)
        assert with_these.sum() == 450
        assert not any(row.tobytes() in chose for row in probabilities[0][with_these])


def tiny(
    name: str, seed: int, channels: int = 1, size: int = 48, classes: tuple[str, ...] = ("a", "b", "c")
) -> TrainedModel:
    import torch

    torch.manual_seed(seed)
    arguments = {"num_classes": len(classes), "channels": channels, "widths": [8], "blocks": 1}
    preprocessing = Preprocessing(size, channels, (0.4 + seed / 10,) * channels, (0.3,) * channels)
    return TrainedModel(
        build_network("residual", **arguments).eval(), name, "residual", arguments, classes, preprocessing, 1, 1 + seed
    )


def test_the_joined_file_is_the_weighted_mean_of_its_members(tmp_path: Path) -> None:
    parts = [tiny("one", 0), tiny("two", 1, channels=3), tiny("none", 2)]
    joined = join_models(parts, [0.25, 0.75, 0.0], "both")
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
    expected = 0.25 * TorchClassifier(parts[0]).probabilities(images) + 0.75 * TorchClassifier(parts[1]).probabilities(
        images
    )
    np.testing.assert_allclose(TorchClassifier(joined).probabilities(images), expected, atol=1e-5)

    path = tmp_path / "both.onnx"
    assert export_model(joined, path) < 1e-4
    np.testing.assert_allclose(Classifier(path).probabilities(images), expected, atol=1e-4)
    assert Classifier(path).probabilities(images, "ten-crop").sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert len(Classifier(path).info.network["arguments"]["members"]) == 2  # what has no weight is left out
    again = open_trained_model(path)  # and it can be joined again
    np.testing.assert_allclose(TorchClassifier(again).probabilities(images), expected, atol=1e-5)
    twice = join_models([again, parts[2]], [0.5, 0.5], "twice")
    np.testing.assert_allclose(
        TorchClassifier(twice).probabilities(images),
        0.5 * expected + 0.5 * TorchClassifier(parts[2]).probabilities(images),
        atol=1e-5,
    )
    assert load(path).head(load(path).features(_tensor(joined, images))).shape == (20, 3)


def _tensor(trained: TrainedModel, images: np.ndarray):
    import torch

    return torch.from_numpy(trained.preprocessing.to_tensor(images))


def test_color_pictures_are_read_as_the_members_read_them() -> None:
    parts = [tiny("one", 0), tiny("two", 1, channels=3)]
    joined = join_models(parts, [0.5, 0.5], "both")
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    expected = np.mean([TorchClassifier(part).probabilities(images) for part in parts], axis=0)
    np.testing.assert_allclose(TorchClassifier(joined).probabilities(images), expected, atol=1e-5)


def test_members_that_do_not_fit_are_named() -> None:
    with pytest.raises(ModelError, match=r"two: has the classes x, y; one has a, b, c"):
        join_models([tiny("one", 0), tiny("two", 1, classes=("x", "y"))], [0.5, 0.5], "n")
    with pytest.raises(ModelError, match="two: takes 32 pixels, one 48"):
        join_models([tiny("one", 0), tiny("two", 1, size=32)], [0.5, 0.5], "n")


def test_the_table_says_what_each_scores(members: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = members
    table = score_weightings(["x", "y", "z"], probabilities, labels)
    assert [row["model"] for row in table["members"]] == ["x", "y", "z"]
    assert table["members"][1]["accuracy"] == (probabilities[1].argmax(axis=1) == labels).mean()
    grid = table["ensembles"]["grid"]
    assert grid["accuracy"] >= max(row["accuracy"] for row in table["members"])
    assert grid["cross_fitted_accuracy"] <= grid["accuracy"] + 0.01
    json.dumps(table)


def test_a_run_and_a_file_open_alike(run_folder: Path, model_file: Path) -> None:
    images = patterns(14, seed=4).images
    from_file, from_run = open_trained_model(model_file), load_run(run_folder)
    np.testing.assert_allclose(
        TorchClassifier(from_file).probabilities(images), TorchClassifier(from_run).probabilities(images), atol=1e-5
    )
