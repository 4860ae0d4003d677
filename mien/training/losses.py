"""Losses on logits (N, K) and target probabilities (N, K); the mean over the batch is returned.

Targets are distributions, because mixup and cutmix blend them. A term for the true class t in a formula (its weight α_t,
its probability p_t) is then the mean over the target's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.core.errors import ModelError, RecipeError
from mien.training.recipe import LossSettings

Loss = Callable[[Tensor, Tensor], Tensor]

#: The range of R5's weights: the class with the highest recall gets this one, the class with the lowest recall 1.
MIN_ALPHA = 0.4


def smooth_labels(targets: Tensor, smoothing: float) -> Tensor:
    """Return targets (N, K) with label smoothing: the true class keeps 1 − ε(1 − 1/K), every other gets ε/K (Szegedy et al., 2016).

    "Rethinking the Inception Architecture for Computer Vision". Every row still sums to 1.
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def cross_entropy_per_face(logits: Tensor, targets: Tensor) -> Tensor:
    """Return −Σₖ yₖ log pₖ for each face, (N,) float32 for logits of any precision."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def focal_loss_per_face(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return −Σₖ yₖ (1 − pₖ)^γ log pₖ for each face, (N,) (Lin et al., "Focal Loss for Dense Object Detection", 2017)."""
    log_p = F.log_softmax(logits.float(), dim=1)
    return -(targets * (-torch.expm1(log_p)).clamp(min=1e-12) ** gamma * log_p).sum(dim=1)


def adaptive_loss_per_face(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Return (1 − e^(−ce))^γ · ce with ce = −Σₖ yₖ log pₖ for each face, (N,): the loss of R5, without its weights.

    With γ = 0 it is cross-entropy; with hard targets e^(−ce) is p_t and it is the focal loss.
    """
    ce = cross_entropy_per_face(logits, targets)
    hard = (-torch.expm1(-ce)).clamp(min=1e-12)  # clamped, so that the gradient is finite for γ < 1
    return hard**gamma * ce if gamma else ce


def make_loss(settings: LossSettings, alpha: Sequence[float] | None = None) -> Loss:
    """Return the recipe's loss: a function of logits (N, K) and targets (N, K) before smoothing, mean over the batch.

    ``alpha`` (K,) weights faces by their true class. R5's full formula is loss = α_t (1 − e^(−ce))^γ ce, with smoothed
    targets in ce. The mean is over faces, not over weights, as R5 has it.
    """
    weights = None if alpha is None else torch.tensor(alpha, dtype=torch.float32)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smoothed = smooth_labels(targets, settings.label_smoothing)
        if settings.name == "cross-entropy":
            each = cross_entropy_per_face(logits, smoothed)
        elif settings.name == "focal":
            each = focal_loss_per_face(logits, smoothed, settings.gamma)
        else:
            each = adaptive_loss_per_face(logits, smoothed, settings.gamma)
        return each.mean() if weights is None else (each * (targets @ weights.to(targets.device))).mean()

    return loss


def compute_class_weights(counts: np.ndarray, method: str, beta: float = 0.999) -> list[float]:
    """Return class weights (K,) from the class counts, scaled so that their mean over faces is 1.

    "inverse": 1 / n. "effective": (1 − β) / (1 − βⁿ), the inverse of the effective number of examples (Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", 2019).
    """
    counts = np.asarray(counts, np.float64)
    weights = 1 / counts if method == "inverse" else (1 - beta) / -np.expm1(counts * np.log(beta))
    return (weights * counts.sum() / (weights * counts).sum()).tolist()


def compute_recall_weights(confusion: np.ndarray) -> list[float]:
    """Return class weights (K,) from a confusion matrix (true × predicted): 1 for the lowest recall, 0.4 for the highest.

    R5 adjusted its α by hand from the confusion matrix near the end of training. This formula is linear in the recall,
    within the range that R5 used. A class without validation faces gets the mean weight of the others.
    """
    support = confusion.sum(axis=1)
    seen = support > 0
    recall = np.diag(confusion)[seen] / support[seen]
    alpha = np.ones(len(support))
    if seen.any() and np.ptp(recall) > 0:
        alpha[seen] = 1 - (1 - MIN_ALPHA) * (recall - recall.min()) / np.ptp(recall)
        alpha[~seen] = alpha[seen].mean()
    return alpha.tolist()


def check_class_weights(alpha: Sequence[float], classes: tuple[str, ...]) -> None:
    """Raise RecipeError unless there is one weight for each class."""
    if len(alpha) != len(classes):
        raise RecipeError(
            "`loss.class_weights`",
            f"has {len(alpha)} weights for the {len(classes)} classes {', '.join(classes)}",
            "give one for each, in this order",
        )


@torch.no_grad()
def check_outputs_logits(network: nn.Module, channels: int, size: int) -> None:
    """Raise ModelError if the network ends in a softmax, a ReLU or another activation: the losses take logits.

    A softmax before cross-entropy shrinks the gradient. A ReLU stops the gradient of all classes with negative logits.
    docs/reproduction.md shows the cost in accuracy.
    """
    noise = torch.randn(16, channels, size, size, generator=torch.Generator().manual_seed(0))
    was_training = network.training
    device = next(network.parameters()).device
    network.eval()
    try:
        outputs = network(noise.to(device)).float()
        with torch.enable_grad():
            last = network(noise[:2].to(device)).grad_fn
    finally:
        network.train(was_training)
    name = type(last).__name__.removesuffix("Backward0") if last is not None else ""
    sums_to_one = bool(
        (outputs >= 0).all() and torch.allclose(outputs.sum(dim=1), torch.ones(16, device=device), atol=1e-3)
    )
    if sums_to_one or name in {
        "Softmax",
        "LogSoftmax",
        "Relu",
        "LeakyRelu",
        "Clamp",
        "Hardtanh",
        "Sigmoid",
        "Tanh",
    }:
        what = "a softmax" if sums_to_one or name == "Softmax" else f"a {name}"
        raise ModelError(
            f"network {type(network).__name__}",
            f"ends in {what}; the losses here take logits",
            "remove it: the last layer must be linear",
        )
