from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.core.errors import DataError, ModelError, OutputError, RecipeError, TrainingDiverged
from mien.core.locks import hold_lock
from mien.core.types import concatenate_faces
from mien.data.splits import read_names
from mien.evaluation import score
from mien.training import epoch
from mien.training.hardware import Hardware
from mien.training.preparation import make_preprocessing, select_run_faces
from mien.training.recipe import load_recipe
from mien.training.runs.checkpoint import load_trained_model, read_checkpoint
from mien.training.runs.run_log import format_steps_note, format_warmup_note
from mien.training.torch_classifier import TorchClassifier, load_run
from mien.training.train import train
from tests.conftest import ROOT, patterns, small_recipe
from tests.training.interruption import silent, train_epochs_then_interrupt


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    saved = read_checkpoint(folder / "last.pt")
    return {f"{part}.{name}": tensor for part in ("weights", "raw_weights") for name, tensor in saved[part].items()}


def assert_equal_weights(a: Path, b: Path) -> None:
    ours, theirs = weights_of(a), weights_of(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_a_run_leaves_what_the_contract_names(run_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert {"recipe.toml", "log.jsonl", "curves.png", "best.pt", "last.pt", "scores.json", "environment.json"} <= names
    assert load_recipe(run_folder / "recipe.toml") == small_recipe()
    header, *rows = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    assert header["training"] + header["validation"] == 560
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    facts = json.loads((run_folder / "environment.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__
    assert (facts["seed"], facts["device"], facts["precision"]) == (0, "cpu", "fp32")


def test_a_run_learns_and_its_scores_are_those_of_its_weights_on_the_held_out_faces(run_folder: Path) -> None:
    scores = json.loads((run_folder / "scores.json").read_text())
    held_out = patterns(560).select_names(read_names(run_folder / "validation.csv"))
    probabilities = TorchClassifier(load_run(run_folder)).probabilities(held_out.images)
    assert scores["confusion"] == score(probabilities, held_out.labels).confusion.tolist()
    assert (scores["count"], scores["accuracy"] > 0.9) == (56, True)
    fresh = patterns(140, seed=9)
    assert (
        TorchClassifier(load_run(run_folder)).probabilities(fresh.images).argmax(axis=1) == fresh.labels
    ).mean() > 0.9


def test_the_kept_epoch_is_the_one_the_recipe_names(run_folder: Path, tmp_path: Path) -> None:
    assert load_run(run_folder).epoch == 3
    train(small_recipe(run={"keep": "best"}, optimizer={"lr": 1e-9}), patterns(70), tmp_path, quiet=True, echo=silent)
    saved = read_checkpoint(tmp_path / "last.pt")
    best = max(json.loads(saved["history"]), key=lambda row: row["validation_accuracy"])
    assert load_run(tmp_path).epoch == best["epoch"]


@pytest.mark.slow
def test_two_runs_of_one_seed_are_equal_and_of_another_are_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        recipe = small_recipe(schedule={"epochs": 1}, run={"seed": seed})
        train(recipe, patterns(140), tmp_path / name, quiet=True, echo=silent)
    assert_equal_weights(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(*(weights_of(tmp_path / name)["weights.head.weight"] for name in "ac"))


def test_interrupted_between_epochs_it_resumes_exactly(tmp_path: Path) -> None:
    recipe, faces = small_recipe(network={"arguments": {"widths": [8], "blocks": 1, "dropout": 0.3}}), patterns(140)
    train(recipe, faces, tmp_path / "whole", quiet=True, echo=silent)

    train_epochs_then_interrupt(2, recipe, faces, tmp_path / "cut")
    assert len(json.loads(read_checkpoint(tmp_path / "cut" / "last.pt")["history"])) == 2
    train(recipe, faces, tmp_path / "cut", resume=True, quiet=True, echo=silent)
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "whole" / "scores.json").read_text() == (tmp_path / "cut" / "scores.json").read_text()


@pytest.mark.slow
def test_killed_at_a_random_moment_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(280), tmp_path / "faces.parquet")
    (tmp_path / "small.toml").write_text(small_recipe(schedule={"epochs": 40}).to_toml())
    command = [sys.executable, "-m", "mien.cli.main", "train", str(tmp_path / "small.toml"), "--quiet", "--data",
               str(tmp_path / "faces.parquet"), "--out"]  # fmt: skip
    subprocess.run([*command, str(tmp_path / "whole")], check=True, cwd=ROOT)
    process = subprocess.Popen([*command, str(tmp_path / "cut")], cwd=ROOT)
    log, epochs = tmp_path / "cut" / "log.jsonl", int(np.random.default_rng().integers(1, 20))
    while not (log.exists() and len(log.read_text().splitlines()) > epochs):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(json.loads(read_checkpoint(tmp_path / "cut" / "last.pt")["history"])) < 40
    subprocess.run([*command, str(tmp_path / "cut"), "--resume"], check=True, cwd=ROOT)
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    rows = log.read_text().splitlines()
    assert len(json.loads(rows[0])["resumed"]) == 1
    assert [json.loads(row)["epoch"] for row in rows[1:]] == list(range(1, 41))


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_can_be_resumed(tmp_path: Path) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(280), tmp_path / "faces.parquet")
    (tmp_path / "small.toml").write_text(small_recipe(schedule={"epochs": 10_000}).to_toml())
    command = [sys.executable, "-m", "mien.cli.main", "train", str(tmp_path / "small.toml"), "--quiet", "--data",
               str(tmp_path / "faces.parquet"), "--out", str(tmp_path / "run")]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "last.pt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, len(errors.splitlines())) == (130, 1)
    assert "mien: interrupted: " in errors
    assert load_run(tmp_path / "run").epoch >= 1


def test_a_run_is_not_overwritten_nor_resumed_as_another(run_folder: Path) -> None:
    with pytest.raises(OutputError, match=r"holds a run already; continue it with `resume=True`"):
        train(small_recipe(), patterns(560), run_folder, quiet=True, echo=silent)
    with pytest.raises(
        RecipeError, match=r"other settings \(optimizer.lr was 0.\d+, now 0.2\); resume with the same settings"
    ):
        train(small_recipe(optimizer={"lr": 0.2}), patterns(560), run_folder, resume=True, quiet=True, echo=silent)
    for other in (patterns(560, seed=1), replace(patterns(560), classes=tuple("abcdefg"))):
        with pytest.raises(DataError, match="was trained with other faces"):
            train(small_recipe(), other, run_folder, resume=True, quiet=True, echo=silent)


def test_a_run_is_not_resumed_in_another_precision(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    saved = read_checkpoint(tmp_path / "run" / "last.pt")
    torch.save(saved | {"identity": saved["identity"] | {"hardware": "cpu, bf16"}}, tmp_path / "run" / "last.pt")
    with pytest.raises(DataError, match=r"was trained with other hardware \(cpu, bf16; now cpu, fp32\)"):
        train(small_recipe(), patterns(560), tmp_path / "run", resume=True, quiet=True, echo=silent)


def test_weights_that_break_in_the_last_step_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        epoch, "evaluate_epoch", lambda *_: {"validation_loss": float("nan"), "validation_accuracy": 0.1}
    )
    with pytest.raises(TrainingDiverged, match="became NaN"):
        train(small_recipe(), patterns(70), tmp_path, quiet=True, echo=silent)
    assert not (tmp_path / "last.pt").exists()


def test_a_loss_that_is_no_number_stops_with_what_to_try(tmp_path: Path) -> None:
    recipe = small_recipe(optimizer={"lr": 1e30}, schedule={"warmup_epochs": 0})
    with pytest.raises(TrainingDiverged, match=r"became NaN or infinite in epoch 1 .*try `optimizer.lr=1e\+29"):
        train(recipe, patterns(140), tmp_path, quiet=True, echo=silent)


def test_validation_faces_are_the_split_or_a_stratified_part() -> None:
    said: list[str] = []
    both = concatenate_faces([patterns(70), patterns(21, split="PublicTest", seed=1)])
    rows = select_run_faces(small_recipe(), both, said.append)
    assert (len(rows.training), len(rows.validation), said) == (70, 21, [])
    rows = select_run_faces(small_recipe(), patterns(70), said.append)
    assert (len(rows.training), rows.validation.class_counts().tolist()) == (63, [1] * 7)
    assert "7 of the training faces are held out" in said[0]


def test_faces_that_are_not_learned_from_are_counted() -> None:
    said: list[str] = []
    faces = patterns(70)
    select_run_faces(small_recipe(), replace(faces, labels=np.where(np.arange(70) < 20, -1, faces.labels)), said.append)
    assert "20 faces without a label are not used; semi.method uses them" in said


def test_few_faces_in_large_batches_are_noted() -> None:
    recipe = small_recipe(schedule={"batch_size": 128, "epochs": 1})
    assert format_steps_note(recipe, 216) == (
        "note: 216 faces give 1 step of 128 per epoch, which leave out 88 faces; schedule.batch_size=8 gives more steps"
    )
    assert format_steps_note(recipe, 28_709) == ""


def test_faces_of_the_test_split_neither_train_nor_validate() -> None:
    said: list[str] = []
    both = concatenate_faces([patterns(70), patterns(21, split="PrivateTest", seed=1)])
    rows = select_run_faces(small_recipe(), both, said.append)
    assert set(rows.training.split) | set(rows.validation.split) == {"Training"}
    assert "21 faces of other splits (PrivateTest) are not used" in said


def test_splits_that_play_one_part_are_trained_on_together() -> None:
    both = concatenate_faces([patterns(70), patterns(35, split="train", seed=1), patterns(7, split="val", seed=2)])
    rows = select_run_faces(small_recipe(), both, silent)
    assert (len(rows.training), len(rows.validation)) == (105, 7)


def test_validation_faces_may_train_too_and_others_are_then_held_out() -> None:
    said: list[str] = []
    both = concatenate_faces([patterns(70), patterns(70, split="PublicTest", seed=1)])
    rows = select_run_faces(small_recipe(data={"train": "train+validation"}), both, said.append)
    assert (len(rows.training), len(rows.validation)) == (126, 14)
    assert set(rows.validation.split) == {"Training", "PublicTest"}
    assert "14 of the training faces are held out" in said[0]
    with pytest.raises(DataError, match="split 'extra': does not occur"):
        select_run_faces(small_recipe(data={"train": "train+extra"}), both, silent)


def test_data_that_cannot_train_says_why() -> None:
    unlabeled = replace(patterns(14), labels=np.full(14, -1))
    with pytest.raises(DataError, match="holds no labels"):
        select_run_faces(small_recipe(), unlabeled, silent)
    lacking = patterns(70).take(np.flatnonzero(patterns(70).labels != 1))
    with pytest.raises(DataError, match="has no training face of disgust"):
        select_run_faces(small_recipe(), lacking, silent)
    with pytest.raises(DataError, match=r"has only one class \(angry\)"):
        select_run_faces(small_recipe(), patterns(20, classes=("angry",)), silent)
    with pytest.raises(DataError, match=r"has no training face of .*; `data.holdout=0.1` took the last one"):
        select_run_faces(small_recipe(data={"holdout": 0.1}), patterns(7, split=""), silent)
    with pytest.raises(DataError, match=r"has no training face of .*; `data.keep_labels=0.02` leaves none: raise it"):
        select_run_faces(
            small_recipe(data={"keep_labels": 0.02}, semi={"method": "pseudo-label"}), patterns(140), silent
        )
    watched_alone = concatenate_faces([replace(patterns(14), labels=np.full(14, -1)), patterns(14, split="PublicTest")])
    with pytest.raises(DataError, match="has no label on any face of Training"):
        select_run_faces(small_recipe(data={"train": "Training"}), watched_alone, silent)
    five = small_recipe(data={"classes": ["angry", "happy", "neutral", "sad", "surprise"]})
    assert select_run_faces(five, lacking, silent).training.classes == ("angry", "happy", "neutral", "sad", "surprise")


def test_the_input_is_normalized_as_the_recipe_says() -> None:
    faces = patterns(14)
    pixels = faces.images / 255
    ours = make_preprocessing(small_recipe(), faces)
    assert (ours.mean[0], ours.std[0]) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-9)
    assert make_preprocessing(small_recipe(input={"normalize": "half"}), faces).mean == (0.5,)
    assert make_preprocessing(small_recipe(input={"normalize": "unit"}), faces).std == (1.0,)
    with pytest.raises(RecipeError, match="the pictures are"):
        make_preprocessing(small_recipe(input={"size": 64}), faces)


def test_absent_devices_are_named() -> None:
    with pytest.raises(RecipeError, match=r"`run.device=cuda:77`: is not available on this machine"):
        Hardware.choose("cuda:77")
    assert Hardware.choose("cpu", "bf16").precision == "bf16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_same_loop_runs_on_a_gpu(tmp_path: Path) -> None:
    recipe = small_recipe(run={"device": "cuda", "precision": "bf16"})
    log = train(recipe, patterns(280), tmp_path, quiet=True, echo=silent)
    assert log[-1]["validation_accuracy"] > 0.5
    assert train(recipe, patterns(280), tmp_path, resume=True, quiet=True, echo=silent) == log


def test_bf16_trains_too(tmp_path: Path) -> None:
    recipe = small_recipe(run={"precision": "bf16"}, schedule={"epochs": 2})
    log = train(recipe, patterns(140), tmp_path, quiet=True, echo=silent)
    assert log[-1]["loss"] < log[0]["loss"]


def test_checkpoints_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="is not a readable checkpoint"):
        load_trained_model(tmp_path / "last.pt")
    torch.save({"format": 99}, tmp_path / "last.pt")
    with pytest.raises(ModelError, match="is not a checkpoint of mien"):
        load_trained_model(tmp_path / "last.pt")
    with pytest.raises(ModelError, match="holds no trained network"):
        load_run(tmp_path.parent)


@pytest.mark.parametrize("name", ["r1-lenet", "r3-vgg", "residual"])
def test_networks_are_built_for_the_size_of_the_pictures(tmp_path: Path, name: str) -> None:
    faces = patterns(32)
    faces = replace(faces, images=np.ascontiguousarray(faces.images[:, :32, :32]))
    arguments = {"widths": [8], "blocks": 1} if name == "residual" else {}
    recipe = small_recipe(
        input={"size": 32}, network={"name": name, "arguments": arguments}, schedule={"epochs": 1, "batch_size": 16}
    )
    train(recipe, faces, tmp_path, quiet=True, echo=silent)
    assert load_run(tmp_path).preprocessing.size == 32


def test_a_network_that_does_not_fit_the_pictures_is_named(tmp_path: Path) -> None:
    faces = replace(patterns(70), images=np.zeros((70, 17, 17), np.uint8))
    recipe = small_recipe(input={"size": 17}, network={"name": "residual", "arguments": {"widths": [8], "blocks": 1}})
    with pytest.raises(RecipeError, match="residual cannot take inputs of 1 x 17 x 17 pixels"):
        train(recipe, faces, tmp_path, quiet=True, echo=silent)


def test_several_splits_are_watched(tmp_path: Path) -> None:
    faces = patterns(60)
    faces = replace(faces, split=np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10))
    recipe = small_recipe(data={"train": "train", "validation": "val+test"})
    rows = select_run_faces(recipe, faces, lambda text: None)
    assert (len(rows.training), len(rows.validation)) == (40, 20)


def test_a_second_training_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path / "run" / ".lock", "run", "wait"),
        pytest.raises(
            OutputError, match=r"run: is being written by process \d+ since .*; wait until that training has ended"
        ),
    ):
        train(small_recipe(), patterns(70), tmp_path / "run", quiet=True, echo=silent)
    with pytest.raises(ModelError):
        train(small_recipe(network={"name": "no-such"}), patterns(70), tmp_path / "new", quiet=True, echo=silent)
    assert not (tmp_path / "new").exists(), "a training that cannot begin leaves no folder"


def test_a_warm_up_that_takes_the_whole_training_is_noted() -> None:
    note = format_warmup_note(small_recipe(schedule={"epochs": 2, "warmup_epochs": 2}))
    assert "the warm-up of 2 epochs takes all 2 epochs" in note and "schedule.warmup_epochs=0.4" in note
    assert format_warmup_note(small_recipe(schedule={"epochs": 3, "warmup_epochs": 2})) == ""
    assert format_warmup_note(small_recipe(schedule={"epochs": 1, "warmup_epochs": 0})) == ""
