from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mien.core.errors import DataError, UsageError
from mien.core.types import FaceSet, concatenate_faces
from mien.models import build_network
from mien.training.epoch import TrainingContext, initial_state, train_epoch
from mien.training.hardware import Hardware
from mien.training.preparation import move_to_device
from mien.training.preview import Preview, choose_balanced_rows, draw_preview, format_target, make_preview, make_title
from mien.training.recipe import Recipe, SemiSettings, parse_recipe
from mien.training.targets import make_targets
from tests.conftest import patterns, small_recipe


def with_augment(normalize: str = "training", batch_size: int = 28, **augment: float) -> Recipe:
    values = {"augment": augment, "input": {"normalize": normalize}, "schedule": {"batch_size": batch_size}}
    return parse_recipe({"name": "some", **values}, "test")


def both_splits(training: int = 28) -> FaceSet:
    return concatenate_faces([patterns(training), patterns(14, seed=1, split="PublicTest")])


def flat(count: int) -> FaceSet:
    """Pictures of one gray each, which tells their class: 30 for the first, 60 for the second, ..."""
    faces = patterns(count, split="")
    return replace(faces, images=np.tile((30 * (1 + faces.labels)).astype(np.uint8)[:, None, None], (1, 48, 48)))


@pytest.mark.parametrize("augment", [{"flip": 0.5, "crop": 0.6}, {"cutmix": 1.0, "mixup": 1.0}])
def test_the_copies_are_those_that_the_training_loop_makes(augment: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: three epochs of one batch give the network what three copies show."""
    import mien.training.epoch

    recipe, hardware = small_recipe(augment=augment), Hardware.choose("cpu", "fp32")
    made = make_preview(recipe, both_splits(), rows=28, copies=3, seed=5)
    draw_order = mien.training.epoch.draw_epoch_order

    def as_shown(labels: Tensor, oversample: float, generator: torch.Generator) -> Tensor:
        draw_order(labels, oversample, generator)
        return torch.arange(len(labels))

    monkeypatch.setattr(mien.training.epoch, "draw_epoch_order", as_shown)
    network = build_network("residual", num_classes=7, channels=1, widths=[4], blocks=1)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets)
        return nn.functional.cross_entropy(logits, targets)

    monkeypatch.setattr(mien.training.epoch, "make_loss", lambda settings, alpha: loss_of)
    state = initial_state(recipe, network)
    state.generator.manual_seed(5)
    images, labels = move_to_device(made.faces, hardware)
    context = TrainingContext(
        recipe, hardware, made.preprocessing, images, labels, make_targets(made.faces, recipe.targets)
    )
    for _ in range(3):
        train_epoch(context, state, Silent())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made.inputs, seen[::2], strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made.targets, seen[1::2], strict=True))


class Silent:
    def advance(self, amount: float, text: str = "") -> None:
        pass


@pytest.mark.parametrize("split", ["", "validation"])
def test_without_changes_the_network_is_given_the_pictures_normalized_by_the_training_faces(split: str) -> None:
    faces = both_splits()
    made = make_preview(with_augment(), faces, split=split, copies=2)
    assert made.faces.splits == ("PublicTest" if split else "Training",)
    training = faces.select_split("train").images / 255
    expected = (made.faces.images / 255 - training.mean()) / training.std()
    for copy in made.inputs:
        np.testing.assert_allclose(copy[:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(made.targets, np.tile(np.eye(7), (2, 1, 1)))


def test_data_without_the_training_split_is_normalized_by_what_is_shown() -> None:
    public = both_splits().select_split("PublicTest")
    made = make_preview(with_augment(), public, split="val")
    assert made.preprocessing.mean[0] == pytest.approx((public.images / 255).mean(), abs=2e-3)  # less what is held out
    with pytest.raises(DataError, match="split 'Training': does not occur; the data has: PublicTest"):
        make_preview(with_augment(), public)
    with pytest.raises(DataError, match="split 'test': does not occur"):
        make_preview(with_augment(), public, split="test")


@pytest.mark.parametrize(("augment", "axis"), [({"flip": 1.0}, 2), ({"vertical_flip": 1.0}, 1)])
def test_mirrored_and_upside_down(augment: dict, axis: int) -> None:
    made = make_preview(with_augment("unit", **augment), both_splits(), copies=1)
    np.testing.assert_allclose(made.inputs[0, :, 0], np.flip(made.faces.images, axis) / 255, atol=1e-5)


@pytest.mark.parametrize("augment", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_a_blended_target_says_what_the_picture_is_made_of(augment: dict) -> None:
    """Where each class has one gray, the mean gray of a blend is the mean of its target."""
    made = make_preview(with_augment("unit", **augment), flat(140), copies=12)
    grays = made.inputs.mean(dim=(2, 3, 4)) * 255  # (copies, R)
    np.testing.assert_allclose(made.targets.sum(dim=2), 1, atol=1e-6)
    np.testing.assert_allclose(grays, made.targets @ (30.0 * torch.arange(1, 8)), atol=0.01)
    assert (made.targets.max(dim=2).values < 0.9).any()


def test_partners_come_from_the_whole_batch() -> None:
    """Also one face alone is blended, as it is in training, with a face that is not drawn."""
    made = make_preview(with_augment(mixup=1.0), patterns(140), rows=1, copies=12)
    assert made.faces.labels.tolist() == [0]
    assert (made.targets[:, 0].argmax(dim=1) != 0).any()


def test_the_same_seed_gives_the_same_copies_and_another_does_not() -> None:
    recipe, faces = small_recipe(), patterns(140)
    first, again, other = (make_preview(recipe, faces, copies=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert first.faces.names.tolist() == again.faces.names.tolist() != other.faces.names.tolist()
    assert not torch.equal(first.inputs, other.inputs)


def test_faces_are_shared_among_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [50, 40, 2])
    shown = choose_balanced_rows(labels, 11, seed=3)
    assert labels[shown].tolist() == [0] * 5 + [1] * 4 + [2] * 2
    assert len(set(shown.tolist())) == 11
    assert labels[choose_balanced_rows(labels, 3, seed=3)].tolist() == [0, 1, 2]
    assert sorted(choose_balanced_rows(labels, 92, seed=3)) == list(range(92))
    with pytest.raises(DataError, match="`rows`: asks for 93 of 92 faces; ask for fewer"):
        choose_balanced_rows(labels, 93, seed=3)


def test_classes_are_those_of_the_recipe() -> None:
    some = parse_recipe({"data": {"classes": ["sad", "happy"]}}, "test")
    assert make_preview(some, patterns(140)).faces.classes == ("sad", "happy")
    against = make_preview(parse_recipe({"data": {"one_vs_rest": "happy"}}, "test"), patterns(140))
    assert [against.faces.classes[label] for label in against.faces.labels] == ["other", "happy"]
    semi = parse_recipe({"semi": {"method": "fixmatch"}, "data": {"keep_labels": 0.5}}, "test")
    assert Counter(make_preview(semi, both_splits(140), split="val").faces.split) == {"PublicTest": 7}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([0.3, 0.7], "sad .7 happy .3"),
        ([1.0, 0.0], "happy 1"),
        ([0.001, 0.999], "sad 1"),
        ([0.055, 0.945], "sad .94 happy .06"),
        ([0.5, 0.5], "happy .5 sad .5"),
    ],
)
def test_a_target_in_words(target: list[float], text: str) -> None:
    assert format_target(np.array(target), ("happy", "sad")) == text


def test_the_title_says_the_numbers_of_the_input_and_the_changes() -> None:
    made = make_preview(with_augment("half", ten_crop=True, mixup=0.2), patterns(140))
    values = made.inputs
    lines = make_title(made, with_augment("half", ten_crop=True, mixup=0.2))
    numbers = [f"{float(v):.2f}".replace("-", "−") for v in (values.min(), values.max(), values.mean(), values.std())]
    assert lines[0] == "some: float32 1 × 48 × 48, values {} to {}, mean {}, std {}".format(*numbers)
    assert lines[1] == "value = (pixel / 255 − 0.500) / 0.500: black is −1.00, white is 1.00"
    assert lines[2] == "augmentation, drawn for each copy: ten_crop, mixup 0.2"
    assert lines[3].startswith("each face is mixed with another face of its batch; under each face")
    fixmatch = with_augment(mixup=0.2).model_copy(update={"semi": SemiSettings(method="fixmatch")})
    assert "mixup" not in make_title(made, fixmatch)[2] and not any(
        "blended" in line for line in make_title(made, fixmatch)
    )
    assert make_title(made, with_augment())[2:] == ["augmentation, drawn for each copy: none, so all copies are equal"]


def gray(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")).astype(int)


def tile(drawing: np.ndarray, picture: np.ndarray, left: int) -> int:
    """The row at which a picture (48, 48), three times as large, stands in the drawing; -1 if nowhere."""
    large = picture.repeat(3, axis=0).repeat(3, axis=1).astype(int)
    rows = (
        row
        for row in range(len(drawing) - 143)
        if abs(drawing[row : row + 144, left : left + 144] - large).max() <= 1  # the drawing has 256 grays
    )
    return next(rows, -1)


def test_the_drawing_holds_the_pictures_pixel_for_pixel(tmp_path: Path) -> None:
    recipe = with_augment(flip=1.0)
    made = make_preview(recipe, both_splits(), rows=3, copies=2)
    draw_preview(made, recipe, tmp_path / "new" / "preview.png")
    drawing = gray(tmp_path / "new" / "preview.png")
    places = [tile(drawing, picture, left=16) for picture in made.faces.images]
    assert 0 < places[0] < places[1] < places[2]
    assert [tile(drawing, picture[:, ::-1], left=16 + 152 + 8) for picture in made.faces.images] == places
    assert [tile(drawing, picture[:, ::-1], left=16 + 304 + 8) for picture in made.faces.images] == places
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["preview.png"]


def test_names_that_are_long_or_look_like_formulas_are_drawn(tmp_path: Path) -> None:
    faces = patterns(40, classes=("$x", "a_b^c", "very_long_name_of_an_expression", "\\frac"))
    recipe = with_augment(mixup=1.0)
    draw_preview(make_preview(recipe, faces, copies=1), recipe, tmp_path / "a.png")
    draw_preview(make_preview(recipe, faces, copies=6), recipe, tmp_path / "b.png")
    narrow, wide = gray(tmp_path / "a.png").shape, gray(tmp_path / "b.png").shape
    assert narrow[1] == 760 < wide[1] == 2 * 16 + 7 * 152


def test_a_drawing_that_nobody_could_look_at_is_refused(tmp_path: Path) -> None:
    recipe, faces = with_augment(), patterns(1)
    large = FaceSet(np.zeros((100, 512, 512), np.uint8), np.zeros(100, np.int64), faces.classes, np.arange(100).astype(str),
                    np.full(100, ""))  # fmt: skip
    made = Preview(
        large,
        torch.zeros(1, 100, 1, 512, 512),
        torch.zeros(1, 100, 7),
        make_preview(recipe, patterns(140)).preprocessing,
    )
    with pytest.raises(UsageError, match=r"`rows` and `copies`: give a drawing of 1,072 x 53,\d{3} pixels"):
        draw_preview(made, recipe, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_of_a_split_that_is_asked_for_every_face_can_be_shown() -> None:
    faces = both_splits()
    few = faces.take(np.flatnonzero(faces.split == "PublicTest")[:7])
    made = make_preview(
        with_augment(), concatenate_faces([faces.select_split("Training"), few]), split="PublicTest", rows=7, copies=1
    )
    assert set(made.faces.names) == set(few.names)
