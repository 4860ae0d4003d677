"""The optimizer, the learning rate at each step, and the exponential moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mien.training.recipe import OptimizerSettings, ScheduleSettings


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return SGD, Adam, AdamW or NAdam for the weights that are not frozen.

    Weight decay applies to matrices and kernels only, not to biases, PReLU slopes and batch norm parameters. For
    Adam and NAdam it is L2, part of the gradient; for AdamW it is decoupled (Loshchilov & Hutter, 2019).
    """
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decayed = {name for name, p in trained if p.ndim > 1 and not name.endswith("slope")}
    groups = [
        {"params": [p for name, p in trained if name in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in trained if name not in decayed], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}[settings.name]
    return kind(groups, lr=settings.lr, betas=(settings.momentum, 0.999))


def compute_learning_rate(
    step: int,
    steps_per_epoch: int,
    peak: float,
    settings: ScheduleSettings,
    validation_losses: Sequence[float] = (),
) -> float:
    """Return the learning rate at a step, counted from 0.

    A linear warm-up is followed by the schedule ``settings.name``. The rate depends on the step only (for "plateau" also
    on the earlier epochs), so a resumed run needs no scheduler state.
    """
    total = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)
    low = settings.min_lr
    if settings.name == "one-cycle":
        # Smith & Topin, "Super-Convergence", 2018: from 1/25 of the peak up by half a cosine, then down to the minimum.
        warmup = max(warmup, round(0.3 * total))
        if step < warmup:
            return peak / 25 + (peak - peak / 25) * _half_cosine(step / warmup)
    elif step < warmup:
        return peak * (step + 1) / warmup
    if settings.name in ("cosine", "one-cycle"):
        return peak + (low - peak) * _half_cosine((step - warmup) / max(total - warmup, 1))
    if settings.name == "step":
        drops = sum(step >= epoch * steps_per_epoch for epoch in settings.milestones)
    elif settings.name == "plateau":
        drops = count_plateaus(validation_losses, settings.patience)
    else:
        drops = 0
    return max(peak * settings.factor**drops, low)


def _half_cosine(progress: float) -> float:
    """Return half a cosine wave that rises from 0 at 0 to 1 at 1."""
    return (1 - math.cos(math.pi * progress)) / 2


def count_plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often ``patience`` epochs in a row had no new lowest validation loss; the count restarts each time."""
    count, waited, lowest = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == patience:
            count, waited = count + 1, 0
    return count


def should_stop(history: Sequence[dict[str, Any]], bad_epochs: int) -> bool:
    """Return whether the last ``bad_epochs`` epochs in a row were bad (R3's early stopping); 0 never stops.

    An epoch is bad if its validation loss is above that of the last good epoch, or its accuracy below it.
    """
    loss, accuracy, bad = math.inf, -math.inf, 0
    for row in history:
        if row["validation_loss"] > loss or row["validation_accuracy"] < accuracy:
            bad += 1
        else:
            loss, accuracy, bad = row["validation_loss"], row["validation_accuracy"], 0
    return 0 < bad_epochs <= bad


class AveragedNetwork:
    """An exponential moving average of a network's weights and running statistics (Polyak & Juditsky, 1992).

    The window grows with the step, decay_t = min(decay, (1 + t) / (10 + t)), so that the random initial weights do not
    dominate the first epochs. With a decay of 0 it is the network itself.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        if not decay:
            self.network = network
            return
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        # Collected once: collecting the tensors at each step would take longer than averaging them.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._averaged = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._current = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self._counters = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
        self.steps += 1
