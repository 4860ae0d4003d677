"""Training and scoring from Python give what the commands give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.cli.main import main
from mien.core.errors import DataError, RecipeError, UsageError
from mien.core.types import concatenate_faces
from mien.data.readers import save_faces
from tests.conftest import patterns, small_recipe

#: Settings of a small network that learns made-up faces at once.
SETTINGS = json.loads(small_recipe(schedule={"epochs": 1}).model_dump_json())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "faces.csv"
    save_faces(concatenate_faces([patterns(70), patterns(35, seed=1, split="PublicTest")]), path)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> mien.TrainingRun:
    out = tmp_path_factory.mktemp("runs") / "mine"
    return mien.train(SETTINGS, data, out, settings={"schedule.epochs": 2, "run.keep": "last"}, progress=False)


def test_a_training_returns_its_log_and_scores(run: mien.TrainingRun, data: Path) -> None:
    assert [row["epoch"] for row in run.log] == [1, 2]
    assert run.scores == json.loads((run.folder / "scores.json").read_text())
    scores = mien.evaluate(run.folder, data, progress=False)
    assert scores.count == 35 and scores.accuracy == pytest.approx(run.scores["accuracy"])


def test_an_open_classifier_is_scored_like_its_file(data: Path) -> None:
    recognizer = mien.Recognizer("nano", detector="none")
    faces = mien.load_faces(data).select_split("validation")
    scores = mien.evaluate(recognizer.classifier, faces, progress=False)
    assert scores.accuracy == mien.score(recognizer.classify(faces.images), faces.labels).accuracy
    assert scores.to_json() == mien.evaluate("nano", faces, progress=False).to_json()


@pytest.mark.slow
def test_a_run_is_exported(run: mien.TrainingRun, data: Path, tmp_path: Path) -> None:
    path = run.export(tmp_path / "mine.onnx")
    exported, trained = (mien.evaluate(model, data, progress=False) for model in (path, run.folder))
    assert exported.accuracy == pytest.approx(trained.accuracy)


@pytest.mark.parametrize("split", ["", "train"])
def test_scores_are_those_of_the_command(run: mien.TrainingRun, data: Path, tmp_path: Path, split: str) -> None:
    chosen = ["--split", split] if split else []
    assert main(["evaluate", str(run.folder), "--data", str(data), *chosen, "--out", str(tmp_path), "--quiet"]) == 0
    said = json.loads((tmp_path / "scores.json").read_text())
    scores = mien.evaluate(run.folder, mien.load_faces(data), split=split, progress=False)
    assert {name: said[name] for name in scores.to_json()} == json.loads(json.dumps(scores.to_json()))
    assert str(scores).splitlines()[0] in (tmp_path / "scores.txt").read_text()
    assert scores.plot()._repr_png_().startswith(b"\x89PNG")


def test_a_run_is_continued_with_its_own_settings(run: mien.TrainingRun, data: Path) -> None:
    again = mien.train(SETTINGS, data, run.folder, resume=True, progress=False)
    assert again.log == run.log
    with pytest.raises(RecipeError, match="is a run of 'small', not of 'other'"):
        mien.train(SETTINGS | {"name": "other"}, data, run.folder, resume=True, progress=False)


def test_what_cannot_be_trained_or_scored_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"schedule\.epoch"):
        mien.train(SETTINGS, data, tmp_path / "run", settings={"schedule.epoch": 2})
    with pytest.raises(RecipeError, match="recipe 'bse': is unknown"):
        mien.train("bse", data, tmp_path / "run")
    unlabeled = mien.load_faces(data).take(np.arange(5))
    unlabeled.labels[:] = -1
    with pytest.raises(DataError, match="`faces`: has no labels to score against"):
        mien.evaluate("nano", unlabeled, progress=False)
    with pytest.raises(UsageError, match="`labels_by=voters`: is unknown"):
        mien.evaluate("nano", data, labels_by="voters", progress=False)


def test_a_network_is_loaded_for_torch(run: mien.TrainingRun) -> None:
    import torch

    for model, size in (("nano", 48), (run.folder, 48)):
        network = mien.load_model(model)
        images = torch.zeros(2, 1, size, size)
        logits = network(images)
        assert not network.training and logits.shape == (2, 7)
        torch.testing.assert_close(network.head(network.features(images)), logits)
