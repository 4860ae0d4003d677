from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mien.core.errors import DataError
from mien.core.preprocessing import Preprocessing
from mien.core.types import concatenate_faces
from mien.training import semi_supervised
from mien.training.epoch import mix_batch
from mien.training.hardware import Hardware
from mien.training.preparation import WEAK_AUGMENTATION, draw_epoch_order, make_augmentation, select_run_faces
from mien.training.runs.checkpoint import read_checkpoint
from mien.training.semi_supervised import UnlabeledLoss
from mien.training.train import train
from tests.conftest import patterns, small_recipe
from tests.training.interruption import silent, train_epochs_then_interrupt


class Bright(nn.Module):
    """Two classes by the mean brightness, sure of itself as far as it lies from the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-self.scale * mean, self.scale * mean], dim=1)


def unlabeled(levels: list[int], **semi) -> UnlabeledLoss:
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 48, 48).contiguous()
    recipe = small_recipe(
        semi=semi, augment=dict.fromkeys(("degrees", "shift", "brightness", "contrast", "erasing"), 0)
    )
    return UnlabeledLoss(images, recipe, Preprocessing(48, 1, (0.5,), (0.5,)), Hardware.choose("cpu", "fp32"))


@pytest.mark.parametrize("method", ["pseudo-label", "fixmatch"])
def test_the_loss_is_that_of_the_sure_answers_over_all_faces(method: str) -> None:
    state = torch.Generator().manual_seed(0)
    loss = unlabeled([255, 128], method=method, ratio=50, threshold=0.9).compute_loss(Bright(), 20, 0.0, state)
    drawn = torch.randint(0, 2, (1000,), generator=torch.Generator().manual_seed(0))
    sure = (drawn == 0).float().mean().item()  # a gray face gives .54, below the threshold
    assert loss.item() == pytest.approx(sure * np.log1p(np.exp(-40.0)), abs=1e-6)
    low = unlabeled([255, 128], method=method, ratio=50, threshold=0.0).compute_loss(
        Bright(), 20, 0.0, torch.Generator().manual_seed(0)
    )
    p = 1 / (1 + np.exp(-40 * (128 / 255 - 0.5) / 0.5))
    assert low.item() == pytest.approx((1 - sure) * -np.log(p), rel=1e-3)


def test_its_weight_rises_over_the_ramp_up() -> None:
    source = unlabeled([140], method="pseudo-label", threshold=0, weight=2.0, rampup_epochs=4)
    at = [
        source.compute_loss(Bright(), 4, epoch, torch.Generator().manual_seed(0)).item()
        for epoch in (0.0, 1.0, 4.0, 9.0)
    ]
    assert at[0] == 0
    assert at[1:] == pytest.approx([at[3] / 4, at[3], at[3]])


def test_only_the_strong_side_has_a_gradient() -> None:
    network = Bright()
    unlabeled([140], method="fixmatch", threshold=0).compute_loss(
        network, 4, 0.0, torch.Generator().manual_seed(0)
    ).backward()
    inputs = (140 / 255 - 0.5) / 0.5
    p = 1 / (1 + np.exp(-40 * inputs))
    assert network.scale.grad.item() == pytest.approx(-(1 - p) * 2 * inputs, rel=1e-3)


def test_fixmatch_changes_faces_with_a_label_weakly() -> None:
    strong = {"degrees": 30, "erasing": 1.0, "brightness": 0.5}
    semi = small_recipe(semi={"method": "fixmatch"}, augment=strong)
    assert make_augmentation(semi) == WEAK_AUGMENTATION
    assert (
        make_augmentation(semi, labeled=False) == make_augmentation(small_recipe(augment=strong)) != WEAK_AUGMENTATION
    )


def test_labels_are_removed_by_class_share_and_the_rest_is_learned_from() -> None:
    said: list[str] = []
    rows = select_run_faces(small_recipe(data={"keep_labels": 0.2}), patterns(700), said.append)
    assert rows.training.class_counts().tolist() == [18] * 7  # a fifth of 630
    assert (len(rows.unlabeled), len(rows.validation)) == (504, 70)
    assert not set(rows.training.names) & set(rows.unlabeled.names)
    assert "126 faces keep their label, 504 are used without label" in said


def test_faces_without_a_label_join_those_that_lost_theirs() -> None:
    wild = replace(patterns(40, seed=5, split="train"), labels=np.full(40, -1))
    other = replace(patterns(10, seed=6, split="test"), labels=np.full(10, -1))
    rows = select_run_faces(
        small_recipe(data={"keep_labels": 0.5}), concatenate_faces([patterns(140), wild, other]), silent
    )
    assert (len(rows.training), len(rows.unlabeled)) == (63, 63 + 40)
    with pytest.raises(DataError, match="has no unlabeled training face for fixmatch"):
        select_run_faces(small_recipe(semi={"method": "fixmatch"}), patterns(140), silent)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pseudo-label", "fixmatch"])
def test_a_run_with_unlabeled_faces_resumes_exactly(method: str, tmp_path: Path) -> None:
    recipe = small_recipe(data={"keep_labels": 0.3}, semi={"method": method, "ratio": 1, "threshold": 0.3})
    train(recipe, patterns(280), tmp_path / "whole", quiet=True, echo=silent)

    train_epochs_then_interrupt(1, recipe, patterns(280), tmp_path / "cut")
    train(recipe, patterns(280), tmp_path / "cut", resume=True, quiet=True, echo=silent)
    ours, theirs = (read_checkpoint(tmp_path / name / "last.pt")["weights"] for name in ("whole", "cut"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_oversampling_draws_classes_as_often_as_asked() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    state = torch.Generator().manual_seed(0)
    whole = draw_epoch_order(labels, 0.0, state)
    assert torch.equal(whole.sort().values, torch.arange(1000))
    even = np.mean([(labels[draw_epoch_order(labels, 1.0, state)] == 1).float().mean() for _ in range(20)])
    assert even == pytest.approx(0.5, abs=0.02)
    half = np.mean([(labels[draw_epoch_order(labels, 0.5, state)] == 1).float().mean() for _ in range(20)])
    assert half == pytest.approx(0.25, abs=0.02)  # sqrt(100) against sqrt(900)


def test_faces_without_a_label_are_changed_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within autocast the grid of a rotation would be rounded to bfloat16."""

    seen = []
    right = semi_supervised.normalize

    def spied(images, preprocessing):
        seen.append((images.dtype, torch.is_autocast_enabled("cpu")))
        return right(images, preprocessing)

    monkeypatch.setattr(semi_supervised, "normalize", spied)
    drawn = replace(unlabeled([10, 200], method="fixmatch"), hardware=Hardware.choose("cpu", "bf16"))
    drawn.compute_loss(Bright(), 2, 0.0, torch.Generator().manual_seed(0))
    assert seen == [(torch.float32, False)] * 2


def test_fixmatchs_faces_with_a_label_are_not_blended() -> None:
    inputs, targets = torch.rand(8, 1, 4, 4), torch.eye(8)
    generator = torch.Generator().manual_seed(0)
    mixing = {"mixup": 1.0}
    same = mix_batch(small_recipe(semi={"method": "fixmatch"}, augment=mixing), inputs, targets, generator)
    assert torch.equal(same[0], inputs) and torch.equal(same[1], targets)
    assert not torch.equal(mix_batch(small_recipe(augment=mixing), inputs, targets, generator)[1], targets)
