from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.core.errors import DataError, RecipeError
from mien.core.preprocessing import Preprocessing
from mien.training.epoch import make_batch
from mien.training.hardware import Hardware
from mien.training.recipe import TargetSettings
from mien.training.targets import Teacher, fingerprint_teachers, make_targets
from mien.training.torch_classifier import TorchClassifier, load_run, open_trained_model
from mien.training.train import train
from tests.conftest import patterns, small_recipe, voted, without_figures
from tests.training.interruption import train_epochs_then_interrupt


def test_a_label_is_the_whole_target_by_default() -> None:
    faces = patterns(8)
    targets = make_targets(faces, TargetSettings()).numpy()
    np.testing.assert_array_equal(targets, np.eye(len(faces.classes))[faces.labels])


def test_votes_take_their_share_where_there_are_any_for_these_classes() -> None:
    faces = patterns(4)
    first, second = faces.classes[:2]
    faces = voted(faces, {first: 6, second: 2, "not_a_face": 2}, {"contempt": 10}, {second: 10})
    targets = make_targets(faces, TargetSettings(votes=0.4)).numpy()
    label = np.eye(len(faces.classes))[faces.labels]
    crowd = np.zeros(len(faces.classes))
    crowd[:2] = 0.75, 0.25  # of the votes for an expression that is known here
    np.testing.assert_allclose(targets[0], 0.6 * label[0] + 0.4 * crowd, atol=1e-6)
    np.testing.assert_array_equal(targets[[1, 3]], label[[1, 3]])
    np.testing.assert_allclose(targets[2], 0.6 * label[2] + 0.4 * np.eye(len(faces.classes))[1], atol=1e-6)


def test_votes_for_classes_that_nobody_was_asked_about_are_refused() -> None:
    faces = voted(replace(patterns(4, classes=("other", "disgust"))), {"disgust": 10})
    with pytest.raises(RecipeError, match="has no votes for other"):
        make_targets(faces, TargetSettings(votes=0.1))


def test_votes_that_are_not_there_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"holds no FER\+ votes"):
        make_targets(patterns(4), TargetSettings(votes=0.1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    with without_figures():
        train(small_recipe(), patterns(64), folder, quiet=True, echo=lambda text: None)
    return folder


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another teacher, in a folder whose name does not stand for two."""
    folder = tmp_path_factory.mktemp("another") / "an+other"
    with without_figures():
        train(small_recipe(run={"seed": 1}), patterns(64), folder, quiet=True, echo=lambda text: None)
    return folder


def test_a_teacher_takes_its_share(teacher: Path) -> None:
    faces = patterns(16)
    targets = make_targets(faces, TargetSettings(teacher=str(teacher), teacher_share=0.25)).numpy()
    taught = TorchClassifier(load_run(teacher)).probabilities(faces.images, "flip")
    label = np.eye(len(faces.classes))[faces.labels]
    np.testing.assert_allclose(targets, 0.75 * label + 0.25 * taught, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-5)


def test_a_teacher_of_other_classes_is_refused(teacher: Path) -> None:
    faces = patterns(8)
    other = replace(faces, classes=tuple(reversed(faces.classes)))
    with pytest.raises(RecipeError, match=r"targets\.teacher"):
        make_targets(other, TargetSettings(teacher=str(teacher)))


def test_a_teacher_of_augmented_inputs_is_asked_about_these(teacher: Path) -> None:
    """The student normalizes otherwise than its teacher did: the teacher gets its own numbers all the same."""
    faces, settings = patterns(16), TargetSettings(teacher=str(teacher), teacher_share=0.25, teacher_sees="augmented")
    label = np.eye(len(faces.classes), dtype=np.float32)[faces.labels]
    np.testing.assert_array_equal(make_targets(faces, settings).numpy(), label)
    student = Preprocessing(size=48, mean=(0.2,), std=(0.7,))
    asked = Teacher(settings, faces.classes, student, Hardware.choose("cpu", "fp32"))
    inputs = torch.from_numpy(student.to_tensor(faces.images[:, :, ::-1]))
    taught = TorchClassifier(load_run(teacher)).probabilities(faces.images[:, :, ::-1])
    targets = asked.blend_targets(inputs, torch.from_numpy(label))
    np.testing.assert_allclose(targets.numpy(), 0.75 * label + 0.25 * taught, atol=1e-5)
    assert not targets.requires_grad


def test_a_teacher_is_asked_about_faces_without_the_noise(teacher: Path) -> None:
    faces, made = patterns(16), {}
    images, label = torch.from_numpy(faces.images)[:, None], torch.eye(len(faces.classes))[faces.labels]
    targets = {"teacher": str(teacher), "teacher_sees": "augmented"}
    for noise in (0.0, 1.0):
        recipe = small_recipe(targets=targets, augment={"degrees": 15, "mixup": 0.4, "noise": noise})
        preprocessing = open_trained_model(str(teacher)).preprocessing
        asked = Teacher(recipe.targets, faces.classes, preprocessing, Hardware.choose("cpu", "fp32"))
        generator = torch.Generator().manual_seed(3)
        made[noise] = make_batch(recipe, images, label, preprocessing, asked, generator)
    (plain, targets_of_plain), (noisy, targets_of_noisy) = made[0.0], made[1.0]
    torch.testing.assert_close(targets_of_noisy, targets_of_plain)
    deviation = ((noisy - plain) * preprocessing.std[0]).flatten(1).std(dim=1)  # in units of 0..1
    assert deviation.min() > 0.008
    assert deviation.max() < 0.13


@pytest.mark.parametrize("sees", ["clean", "augmented"])
def test_of_several_teachers_the_mean_counts(teacher: Path, another: Path, sees: str) -> None:
    faces = patterns(16)
    label = torch.eye(len(faces.classes))[torch.from_numpy(faces.labels)]
    found = {}
    for name in (str(teacher), str(another), f"{teacher}+{teacher}+base", "base"):
        settings = TargetSettings(teacher=name, teacher_share=1.0, teacher_sees=sees)
        if sees == "clean":
            found[name] = make_targets(faces, settings)
            continue
        student = open_trained_model("base").preprocessing
        asked = Teacher(settings, faces.classes, student, Hardware.choose("cpu", "fp32"))
        found[name] = asked.blend_targets(torch.from_numpy(student.to_tensor(faces.images)), label)
    one, other, several, base = found.values()
    torch.testing.assert_close(several, (2 * one + base) / 3, atol=1e-5, rtol=0)
    assert not torch.equal(one, other)


def test_a_shipped_teacher_says_in_int8_what_it_says_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs such as training makes: erased with noise, and beyond the range of pixels."""
    faces, settings = patterns(16), TargetSettings(teacher="base", teacher_share=1.0, teacher_sees="augmented")
    label = torch.eye(len(faces.classes))[torch.from_numpy(faces.labels)]
    student = open_trained_model("base").preprocessing
    inputs = torch.from_numpy(student.to_tensor(faces.images)) * 1.2
    said = {}
    for precision in ("float", "int8"):
        monkeypatch.setenv("MIEN_PRECISION", precision)
        said[precision] = Teacher(settings, faces.classes, student, Hardware.choose("cpu", "fp32")).blend_targets(
            inputs, label
        )
    assert not torch.equal(said["float"], said["int8"])
    torch.testing.assert_close(said["int8"], said["float"], atol=0.1, rtol=0)


def test_a_teacher_of_other_inputs_is_refused_where_it_is_to_see_the_students(teacher: Path) -> None:
    settings = TargetSettings(teacher=str(teacher), teacher_sees="augmented")
    with pytest.raises(RecipeError, match="takes 1 x 48 x 48, the student 1 x 32 x 32"):
        Teacher(settings, patterns(8).classes, Preprocessing(size=32), Hardware.choose("cpu", "fp32"))


@pytest.mark.slow
@pytest.mark.parametrize("sees", ["clean", "augmented"])
def test_a_resumed_student_ends_as_one_that_was_left_in_peace(teacher: Path, tmp_path: Path, sees: str) -> None:
    """With dropout, whose random numbers come from the generator that a teacher's network draws from too."""
    recipe = small_recipe(
        targets={"teacher": str(teacher), "teacher_sees": sees},
        network={"arguments": {"widths": [8, 16], "blocks": 1, "dropout": 0.5}},
    )
    faces = patterns(64)
    train(recipe, faces, tmp_path / "peace", quiet=True, echo=lambda text: None)

    train_epochs_then_interrupt(1, recipe, faces, tmp_path / "stopped")
    train(recipe, faces, tmp_path / "stopped", resume=True, quiet=True, echo=lambda text: None)
    ours, theirs = (load_run(tmp_path / name).network.state_dict() for name in ("peace", "stopped"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_is_not_resumed_with_another_teacher(teacher: Path, another: Path, tmp_path: Path) -> None:
    faces, mine = patterns(64), tmp_path / "teacher"
    shutil.copytree(teacher, mine)
    recipe = small_recipe(targets={"teacher": str(mine)}, schedule={"epochs": 1})
    train(recipe, faces, tmp_path / "run", quiet=True, echo=lambda text: None)
    shutil.rmtree(mine)
    shutil.copytree(another, mine)
    with pytest.raises(DataError, match="was trained with other teacher"):
        train(recipe, faces, tmp_path / "run", resume=True, quiet=True, echo=lambda text: None)


def test_what_is_trained_on_are_the_targets(tmp_path: Path) -> None:
    """All annotators name the class after the label: that is what the network learns, not the label."""
    faces = patterns(210)
    other = (faces.labels + 1) % len(faces.classes)
    faces = voted(faces, *({faces.classes[label]: 10} for label in other))
    recipe = small_recipe(targets={"votes": 1.0}, schedule={"epochs": 8})
    train(recipe, faces, tmp_path, quiet=True, echo=lambda text: None)
    found = TorchClassifier(load_run(tmp_path)).probabilities(faces.images).argmax(axis=1)
    assert (found == other).mean() > 0.8


def test_a_teacher_that_answers_in_another_precision_is_another_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, hardware = TargetSettings(teacher="base", teacher_sees="augmented"), Hardware.choose("cpu", "fp32")
    told = []
    for precision in ("float", "int8"):
        monkeypatch.setenv("MIEN_PRECISION", precision)
        told.append(fingerprint_teachers(settings, hardware))
    assert told[1] == f"{told[0]}, int8"
    trained = open_trained_model("base")
    monkeypatch.setattr(
        "mien.training.targets.open_trained_model", lambda name: replace(trained, temperature=2 * trained.temperature)
    )
    assert fingerprint_teachers(settings, hardware) != told[1]
