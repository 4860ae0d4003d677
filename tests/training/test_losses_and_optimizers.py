from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mien.core.errors import ModelError, RecipeError
from mien.training.losses import (
    check_class_weights,
    check_outputs_logits,
    compute_class_weights,
    compute_recall_weights,
    cross_entropy_per_face,
    focal_loss_per_face,
    make_loss,
    smooth_labels,
)
from mien.training.optimizers import AveragedNetwork, compute_learning_rate, count_plateaus, make_optimizer, should_stop
from mien.training.recipe import LossSettings, OptimizerSettings, ScheduleSettings

R5_ALPHA = [0.6, 1.0, 0.8, 0.4, 0.8, 0.4, 0.6]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """logits (32, 7), labels (32,)."""
    return torch.randn(32, 7, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 7


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, num_classes).float()


def test_smoothed_targets_by_hand_sum_to_one() -> None:
    targets = smooth_labels(one_hot(torch.tensor([1, 0]), 4), 0.2)
    torch.testing.assert_close(targets, torch.tensor([[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]]))
    seven = smooth_labels(one_hot(torch.tensor([1]), 7), 0.05)  # R5's ε: its prose and its code sum to .987 and .993
    assert seven.sum().item() == pytest.approx(1, abs=1e-6)
    assert seven[0, 1].item() == pytest.approx(1 - 0.05 * (1 - 1 / 7))


def test_cross_entropy_equals_torchs_own_smoothing(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    ours = make_loss(LossSettings(label_smoothing=0.1))(logits, one_hot(labels, 7))
    torch.testing.assert_close(ours, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    assert cross_entropy_per_face(logits.bfloat16(), one_hot(labels, 7)).dtype == torch.float32


def test_the_adaptive_loss_by_hand() -> None:
    """R5: α_t (1 − e^(−ce))^γ ce with γ = 2, ε = .05, for probabilities .5, .25 and .25, truth 0 and then 1."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
    loss = make_loss(LossSettings(name="adaptive", gamma=2, label_smoothing=0.05), [0.6, 1.0, 0.8])
    expected = []
    for truth, alpha in ((0, 0.6), (1, 1.0)):
        y = [0.05 / 3] * 3
        y[truth] = 1 - 0.05 * (1 - 1 / 3)
        ce = -sum(share * math.log(p) for share, p in zip(y, (0.5, 0.25, 0.25), strict=True))
        expected.append(alpha * (1 - math.exp(-ce)) ** 2 * ce)
    assert loss(logits, one_hot(torch.tensor([0, 1]), 3)).item() == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_the_adaptive_loss_at_its_limits(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    targets = one_hot(labels, 7)
    plain = nn.functional.cross_entropy(logits, labels)
    at_limit = make_loss(LossSettings(name="adaptive", gamma=0, label_smoothing=0), [1.0] * 7)
    torch.testing.assert_close(at_limit(logits, targets), plain)
    adaptive = make_loss(LossSettings(name="adaptive", gamma=2))
    focal = make_loss(LossSettings(name="focal", gamma=2))
    torch.testing.assert_close(adaptive(logits, targets), focal(logits, targets))  # without smoothing they are one
    easy, hard = torch.tensor([[5.0, 0, 0]]), torch.tensor([[0.0, 5, 0]])
    truth = one_hot(torch.tensor([0]), 3)
    kept = [adaptive(x, truth).item() / cross_entropy_per_face(x, truth).item() for x in (easy, hard)]
    assert kept[0] < 0.001  # a face that is read well hardly counts any more
    assert kept[1] > 0.98


def test_focal_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.1, 0.1]]))
    assert focal_loss_per_face(logits, one_hot(torch.tensor([0]), 3), 2).item() == pytest.approx(
        0.2**2 * -math.log(0.8), rel=1e-5
    )
    blended = torch.tensor([[0.7, 0.3, 0.0]])
    expected = 0.7 * 0.2**2 * -math.log(0.8) + 0.3 * 0.9**2 * -math.log(0.1)
    assert focal_loss_per_face(logits, blended, 2).item() == pytest.approx(expected, rel=1e-5)


def test_class_weights_weigh_faces_by_their_true_class(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    ours = make_loss(LossSettings(), R5_ALPHA)(logits, one_hot(labels, 7))
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(ours, (each * torch.tensor(R5_ALPHA)[labels]).mean())
    half = one_hot(labels, 7) / 2 + one_hot((labels + 1) % 7, 7) / 2  # as mixup blends two faces
    weight = (torch.tensor(R5_ALPHA)[labels] + torch.tensor(R5_ALPHA)[(labels + 1) % 7]) / 2
    torch.testing.assert_close(
        make_loss(LossSettings(), R5_ALPHA)(logits, half), (cross_entropy_per_face(logits, half) * weight).mean()
    )


def test_every_loss_has_a_gradient_that_is_a_number_at_certainty() -> None:
    for name in ("cross-entropy", "focal", "adaptive"):
        logits = torch.tensor([[200.0, 0, 0], [0, 200, 0]], requires_grad=True)
        make_loss(LossSettings(name=name, label_smoothing=0))(logits, one_hot(torch.tensor([0, 0]), 3)).backward()
        assert torch.isfinite(logits.grad).all(), name


def test_weights_from_counts_by_hand() -> None:
    assert compute_class_weights(np.array([1, 3]), "inverse") == pytest.approx(
        [2, 2 / 3]
    )  # mean over the four faces is 1
    beta = 0.9
    raw = [(1 - beta) / (1 - beta**n) for n in (1, 3)]
    scale = 4 / (raw[0] + 3 * raw[1])
    assert compute_class_weights(np.array([1, 3]), "effective", beta) == pytest.approx([raw[0] * scale, raw[1] * scale])
    with pytest.raises(RecipeError, match="has 2 weights for the 3 classes"):
        check_class_weights([1, 1], ("a", "b", "c"))


def test_alpha_is_retuned_by_the_recall_of_each_class() -> None:
    confusion = np.array([[10, 0, 0], [5, 5, 0], [2, 1, 7]])  # recalls 1, .5, .7
    assert compute_recall_weights(confusion) == pytest.approx([0.4, 1.0, 1 - 0.6 * 0.2 / 0.5])
    assert compute_recall_weights(np.eye(3) * 4) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("last", "what"), [(nn.Softmax(1), "a softmax"), (nn.ReLU(), "a Relu"), (nn.Sigmoid(), "a Sigmoid")]
)
def test_a_network_that_does_not_give_logits_is_refused(last: nn.Module, what: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), last).train()
    with pytest.raises(ModelError, match=f"ends in {what}; the losses here take logits"):
        check_outputs_logits(network, 1, 8)
    assert network.training
    check_outputs_logits(network[:2], 1, 8)


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    settings = ScheduleSettings(epochs=10, warmup_epochs=2, min_lr=0.01)
    rates = [compute_learning_rate(step, 5, 0.1, settings) for step in range(50)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.01 + 0.09 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates[49] == pytest.approx(0.01 + 0.09 * (1 + math.cos(math.pi * 39 / 40)) / 2)


def test_a_schedule_of_warm_up_alone_does_not_divide_by_zero() -> None:
    settings = ScheduleSettings(epochs=1, warmup_epochs=5)
    assert [compute_learning_rate(step, 3, 0.3, settings) for step in range(3)] == pytest.approx([0.15, 0.3, 0.3])


def test_steps_fall_at_their_milestones() -> None:
    settings = ScheduleSettings(name="step", epochs=6, warmup_epochs=1, milestones=[2, 4], factor=0.1, min_lr=0.002)
    rates = [compute_learning_rate(step, 2, 0.1, settings) for step in range(12)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.002, 0.002, 0.002, 0.002])
    assert compute_learning_rate(7, 2, 0.1, ScheduleSettings(name="constant", warmup_epochs=0)) == 0.1


def test_one_cycle_follows_torchs_own() -> None:
    settings = ScheduleSettings(name="one-cycle", epochs=10, warmup_epochs=0, min_lr=0.1 / 25 / 1e4)
    ours = [compute_learning_rate(step, 10, 0.1, settings) for step in range(100)]
    parameter = nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.OneCycleLR(torch.optim.SGD([parameter], lr=0.1), 0.1, total_steps=101)
    for step in range(100):
        assert ours[step] == pytest.approx(theirs.get_last_lr()[0], abs=0.004), step
        theirs.optimizer.step()
        theirs.step()
    assert max(ours) == pytest.approx(0.1)


def test_a_plateau_is_patience_epochs_without_a_lower_loss() -> None:
    losses = [1.0, 0.9, 0.95, 0.91, 0.9, 0.8, 0.81, 0.82, 0.83]  # three in a row after .9 and after .8
    assert [count_plateaus(losses[:n], 3) for n in range(10)] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    settings = ScheduleSettings(name="plateau", patience=3, factor=0.5, warmup_epochs=0)
    assert compute_learning_rate(999, 5, 0.1, settings, losses) == pytest.approx(0.025)


def test_early_stopping_as_r3_words_it() -> None:
    def rows(*pairs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"validation_loss": loss, "validation_accuracy": accuracy} for loss, accuracy in pairs]

    good, worse_loss, worse_accuracy = (1.0, 0.5), (1.1, 0.6), (0.9, 0.4)
    assert not should_stop(rows(good, worse_loss, worse_accuracy), 3)
    assert should_stop(rows(good, worse_loss, worse_accuracy, worse_loss), 3)
    # a good one sets the count back and the marks anew: (.9, .6) is good, then 1.0 is above its .9
    assert not should_stop(rows(good, worse_loss, worse_loss, (0.9, 0.6), (1.0, 0.7)), 3)
    assert should_stop(rows(good, worse_loss, worse_loss, (0.9, 0.6), (1.0, 0.7), (1.0, 0.7), (0.9, 0.59)), 3)
    assert not should_stop(rows(good, worse_loss, worse_loss, worse_loss), 0)
    # equal to the marks is not bad
    assert not should_stop(rows(good, good, good, good), 3)


def test_weight_decay_spares_biases_and_norms_and_what_is_frozen() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, free = make_optimizer(network, OptimizerSettings(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (2, 4)]
    assert (decayed["weight_decay"], free["weight_decay"], len(free["params"])) == (0.1, 0.0, 4)
    network[0].requires_grad_(False)
    decayed, free = make_optimizer(network, OptimizerSettings()).param_groups
    assert (len(decayed["params"]), len(free["params"])) == (1, 3)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam"])
def test_every_optimizer_descends(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    optimizer = make_optimizer(network, OptimizerSettings(name=name, lr=0.05, weight_decay=0))
    assert type(optimizer).__name__.lower() == name
    inputs = torch.randn(64, 3)
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5]])
    for _ in range(200):
        loss = (network(inputs) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


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


def test_without_decay_the_average_is_the_network_itself() -> None:
    network = nn.Linear(2, 2)
    averaged = AveragedNetwork(network, decay=0.0)
    averaged.update()
    assert averaged.network is network
    assert network.weight.requires_grad


def test_slopes_do_not_decay_however_many_axes_they_have() -> None:
    from mien.models import build_network

    network = build_network("r4-dnn", num_classes=7)
    decayed, free = make_optimizer(network, OptimizerSettings(weight_decay=0.1)).param_groups
    slopes = {id(p) for name, p in network.named_parameters() if name.endswith("slope")}
    assert slopes and slopes <= {id(p) for p in free["params"]}
    assert slopes.isdisjoint(id(p) for p in decayed["params"])


def test_a_class_without_validation_faces_does_not_set_the_scale() -> None:
    confusion = np.diag([8, 9, 0]) + np.array([[0, 2, 0], [1, 0, 0], [0, 0, 0]])
    assert compute_recall_weights(confusion) == pytest.approx([1.0, 0.4, 0.7])
