"""Starting from trained weights, freezing layers, class weights in a run, early stopping, and the TensorBoard log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.core.errors import MissingExtra, ModelError, RecipeError
from mien.evaluation.metrics import confusion_matrix
from mien.models import build_network
from mien.training.losses import compute_recall_weights
from mien.training.preparation import load_start_weights
from mien.training.recipe import StartSettings
from mien.training.runs.checkpoint import read_checkpoint
from mien.training.torch_classifier import TorchClassifier, load_run, read_log
from mien.training.train import train
from tests.conftest import patterns, small_recipe
from tests.training.interruption import silent


def continued(run_folder: Path, **sections):
    start = {"model": str(run_folder)} | sections.pop("start", {})
    return small_recipe(start=start, **sections)


def test_frozen_layers_stay_as_they_were_running_statistics_too(run_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    recipe = continued(run_folder, start={"freeze": ["stem", "stages.0"]}, schedule={"epochs": 1}, run={"ema": 0.0})
    train(recipe, patterns(140), tmp_path, quiet=True, echo=said.append)
    before = load_run(run_folder).network.state_dict()
    after = load_run(tmp_path).network.state_dict()
    frozen = [name for name in after if name.startswith(("stem", "stages.0"))]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["stages.1.0.conv1.weight"], after["stages.1.0.conv1.weight"])
    assert not torch.equal(before["stages.1.0.norm1.running_mean"], after["stages.1.0.norm1.running_mean"])
    (line,) = [text for text in said if text.startswith("starts with")]
    assert line.endswith("; 9 are frozen")


def test_a_run_begins_where_the_other_ended(run_folder: Path, model_file: Path, tmp_path: Path) -> None:
    for model, folder in ((run_folder, tmp_path / "a"), (model_file, tmp_path / "b")):
        recipe = continued(model, optimizer={"lr": 1e-9}, schedule={"epochs": 1}, run={"ema": 0.0})
        train(recipe, patterns(140), folder, quiet=True, echo=silent)
        fresh = patterns(70, seed=8).images
        before, after = (TorchClassifier(load_run(path)).probabilities(fresh) for path in (run_folder, folder))
        assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.95


def test_a_deeper_network_begins_as_the_shallow_one(run_folder: Path) -> None:
    shallow = load_run(run_folder)
    arguments = shallow.network_arguments | {"blocks": shallow.network_arguments["blocks"] + 2}
    images = torch.rand(5, 1, 48, 48)
    answers = {}
    for zero_init in (True, False):
        deep = build_network("residual", **arguments, zero_init=zero_init).eval()
        said = load_start_weights(deep, StartSettings(model=str(run_folder)), shallow.classes)
        assert "(new: stages." in said
        answers[zero_init] = deep(images)
    expected = shallow.network.eval()(images)
    assert torch.allclose(answers[True], expected, atol=1e-5)
    assert not torch.allclose(answers[False], expected, atol=1e-2)


def test_other_classes_get_a_fresh_last_layer(run_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    five = ["angry", "happy", "neutral", "sad", "surprise"]
    recipe = continued(run_folder, data={"classes": five}, schedule={"epochs": 1})
    train(recipe, patterns(140), tmp_path, quiet=True, echo=said.append)
    assert load_run(tmp_path).classes == tuple(five)
    assert any("(new: head.weight, head.bias)" in text for text in said)


def test_what_cannot_be_started_from_is_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'nose' matches no parameter; their names start with stem, stages, head"):
        train(continued(run_folder, start={"freeze": ["nose"]}), patterns(70), tmp_path / "a", quiet=True, echo=silent)
    lenet = continued(run_folder, network={"name": "r1-lenet", "arguments": {}}, data={"classes": ["angry", "sad"]})
    with pytest.raises(ModelError, match="shares no weights with this network"):
        train(lenet, patterns(70), tmp_path / "b", quiet=True, echo=silent)
    for sections, message in (
        ({"loss": {"class_weights": "validation"}}, "needs start.model"),
        ({"start": {"freeze": ["stem"]}}, "would freeze random weights"),
        ({"data": {"classes": ["sad"], "against": "sad"}}, "exclude each other"),
    ):
        with pytest.raises(RecipeError, match=message):
            small_recipe(**sections)


def test_alpha_comes_from_the_validation_confusions_of_the_weights_begun_with(run_folder: Path, tmp_path: Path) -> None:
    faces = patterns(280, seed=3)
    # a network that mistakes some: noise on its input
    noisy = faces.images.astype(int) + np.random.default_rng(0).normal(0, 90, faces.images.shape)
    faces = type(faces)(np.clip(noisy, 0, 255).astype(np.uint8), faces.labels, faces.classes, faces.names, faces.split)
    recipe = continued(run_folder, loss={"name": "adaptive", "class_weights": "validation"}, schedule={"epochs": 1})
    train(recipe, faces, tmp_path, quiet=True, echo=silent)
    from mien.data.splits import read_names

    watched = faces.select_names(read_names(tmp_path / "validation.csv"))
    # the network is begun with, but the input is normalized as the new run does
    given = load_run(tmp_path).preprocessing
    trained = load_run(run_folder)
    predicted = TorchClassifier(type(trained)(**{**vars(trained), "preprocessing": given})).probabilities(
        watched.images
    )
    expected = compute_recall_weights(confusion_matrix(watched.labels, predicted.argmax(axis=1), 7))
    header, _ = read_log(tmp_path)
    assert header["alpha"] == pytest.approx(expected)
    assert min(expected) == pytest.approx(0.4)
    assert read_checkpoint(tmp_path / "last.pt")["alpha"] == header["alpha"]


def test_class_weights_of_the_recipe_reach_the_log(tmp_path: Path) -> None:
    recipe = small_recipe(loss={"class_weights": "inverse"}, schedule={"epochs": 1})
    train(recipe, patterns(140), tmp_path / "a", quiet=True, echo=silent)
    assert read_log(tmp_path / "a")[0]["alpha"] == pytest.approx([1.0] * 7)
    given = small_recipe(loss={"class_weights": [1, 2]}, schedule={"epochs": 1})
    with pytest.raises(RecipeError, match="has 2 weights for the 7 classes"):
        train(given, patterns(140), tmp_path / "b", quiet=True, echo=silent)


def test_one_class_against_the_rest(tmp_path: Path) -> None:
    recipe = small_recipe(data={"against": "disgust", "oversample": 0.75}, schedule={"epochs": 4})
    train(recipe, patterns(280), tmp_path, quiet=True, echo=silent)
    classifier = TorchClassifier(load_run(tmp_path))
    assert classifier.labels == ("other", "disgust")
    fresh = patterns(140, seed=9)
    assert ((classifier.probabilities(fresh.images)[:, 1] > 0.5) == (fresh.labels == 1)).mean() > 0.9


def test_early_stopping_ends_the_run_and_the_best_weights_stand(tmp_path: Path) -> None:
    recipe = small_recipe(
        schedule={"name": "constant", "epochs": 40, "early_stop": 2, "warmup_epochs": 0},
        optimizer={"lr": 1e-12},  # nothing moves but the running statistics, so no epoch stays good for long
        run={"keep": "best", "ema": 0.0},
    )
    said: list[str] = []
    history = train(recipe, patterns(70), tmp_path, quiet=True, echo=said.append)
    assert len(history) < 40
    assert "stopped early: 2 bad epochs in a row" in said
    best = max(history, key=lambda row: row["validation_accuracy"])
    assert load_run(tmp_path).epoch == best["epoch"]
    again = train(recipe, patterns(70), tmp_path, resume=True, quiet=True, echo=silent)
    assert again == history  # it does not go on by being resumed


def test_clipping_keeps_a_wild_rate_from_diverging(tmp_path: Path) -> None:
    wild = {"optimizer": {"lr": 3.0, "clip_norm": 0.01}, "schedule": {"epochs": 1, "warmup_epochs": 0}}
    (row,) = train(small_recipe(**wild), patterns(140), tmp_path, quiet=True, echo=silent)
    assert np.isfinite(row["loss"])


def test_upside_down_faces_are_warned_of(tmp_path: Path) -> None:
    said: list[str] = []
    recipe = small_recipe(augment={"vertical_flip": 0.5, "cutmix": 1.0}, schedule={"epochs": 1})
    train(recipe, patterns(70), tmp_path, quiet=True, echo=said.append)
    assert any("augment.vertical_flip trains on upside-down faces" in text for text in said)


def test_the_console_says_what_trains_where(tmp_path: Path) -> None:
    said: list[str] = []
    train(small_recipe(schedule={"epochs": 1}), patterns(70), tmp_path, quiet=True, echo=said.append)
    header, _ = read_log(tmp_path)
    (line,) = [text for text in said if text.startswith("residual, ")]
    assert f"{header['parameters']:,} parameters, 63 training faces, 7 validation faces" in line
    assert header["environment"]["started"] in line


def test_the_log_goes_to_tensorboard_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = small_recipe(schedule={"epochs": 2}, run={"tensorboard": True})
    history = train(recipe, patterns(70), tmp_path, quiet=True, echo=silent)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    drawn = [(event.step, event.value) for event in events.Scalars("validation/accuracy")]
    assert drawn == [(row["epoch"], pytest.approx(row["validation_accuracy"])) for row in history]


def test_without_tensorboard_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mien\[tensorboard\]'"):
        train(small_recipe(run={"tensorboard": True}), patterns(70), tmp_path, quiet=True, echo=silent)
