from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mien.learn.losses import cross_entropy, soft_targets
from mien.learn.optim import AveragedNetwork, learning_rate, make_optimizer
from mien.learn.recipe import OptimizerSettings, ScheduleSettings


def test_smoothed_targets_by_hand() -> None:
    targets = soft_targets(torch.tensor([1, 0]), 4, smoothing=0.2)
    torch.testing.assert_close(targets, torch.tensor([[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]]))


def test_cross_entropy_equals_torchs_own_smoothing() -> None:
    logits, labels = torch.randn(32, 7, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 7
    ours = cross_entropy(logits, soft_targets(labels, 7, 0.1))
    torch.testing.assert_close(ours, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    assert cross_entropy(logits.bfloat16(), soft_targets(labels, 7)).dtype == torch.float32


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    settings = ScheduleSettings(epochs=10, warmup_epochs=2, min_lr=0.01)
    rates = [learning_rate(step, 5, 0.1, settings) for step in range(50)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.01 + 0.09 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates[49] == pytest.approx(0.01 + 0.09 * (1 + math.cos(math.pi * 39 / 40)) / 2)


def test_a_schedule_of_warm_up_alone_does_not_divide_by_zero() -> None:
    settings = ScheduleSettings(epochs=1, warmup_epochs=5)
    assert [learning_rate(step, 3, 0.3, settings) for step in range(3)] == pytest.approx([0.15, 0.3, 0.3])


def test_weight_decay_spares_biases_and_norms() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, free = make_optimizer(network, OptimizerSettings(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (2, 4)]
    assert (decayed["weight_decay"], free["weight_decay"], len(free["params"])) == (0.1, 0.0, 4)


def test_the_average_follows_its_formula() -> None:
    network = nn.BatchNorm1d(1)
    averaged = AveragedNetwork(network, decay=0.5)
    expected = 1.0
    for step, value in enumerate([3.0, 5.0, -1.0, 2.0]):
        with torch.no_grad():
            network.weight.fill_(value)
        network.num_batches_tracked += 1
        averaged.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert averaged.network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert averaged.network.num_batches_tracked == 4
    assert not averaged.network.weight.requires_grad
