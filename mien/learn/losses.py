"""Losses on logits (N, K) and target probabilities (N, K); the mean over the batch is returned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """labels (N,) int64 → probabilities float32 (N, K).

    The true class gets 1 − ε(1 − 1/K), every other ε/K (Szegedy et al., "Rethinking the Inception Architecture", 2016).
    """
    one_hot = F.one_hot(labels, num_classes).to(torch.float32)
    return one_hot * (1 - smoothing) + smoothing / num_classes


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−Σₖ yₖ log pₖ, mean over the batch; float32 whatever the logits' precision."""
    return F.cross_entropy(logits.float(), targets)
