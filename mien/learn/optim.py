"""What moves the weights: the optimiser, its learning rate at every step, and the averaged copy of the network."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from mien.learn.recipe import OptimizerSettings, ScheduleSettings


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """SGD with weight decay on matrices and kernels only: biases and batch norm's scale and shift are left free."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov and settings.momentum > 0
    )


def learning_rate(step: int, steps_per_epoch: int, peak: float, settings: ScheduleSettings) -> float:
    """The rate at a step counted from 0: a linear rise, then half a cosine down to ``min_lr``.

    A function of the step alone, so a resumed run needs no scheduler state.
    """
    total = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return settings.min_lr + (peak - settings.min_lr) * (1 + math.cos(math.pi * progress)) / 2


class AveragedNetwork:
    """An exponential moving average of a network's weights and running statistics (Polyak & Juditsky, 1992).

    The average starts short and lengthens, decay_t = min(decay, (1 + t) / (10 + t)), so that the first epochs are
    not dominated by the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        # Paired up once: collecting the tensors at every step would cost more than averaging them.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._averaged = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._current = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self._counters = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
        self.steps += 1
