"""One epoch of training: the context, the state, the optimization steps, and the evaluation after them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.core.errors import TrainingDiverged
from mien.core.preprocessing import Preprocessing
from mien.core.progress import ProgressBar
from mien.core.types import FaceSet
from mien.data.augmentation import add_noise, cutmix, mixup
from mien.evaluation.metrics import accuracy, confusion_matrix, log_losses, macro_f1
from mien.training.hardware import Hardware
from mien.training.losses import make_loss
from mien.training.optimizers import AveragedNetwork, compute_learning_rate, make_optimizer
from mien.training.preparation import draw_epoch_order, make_augmentation, move_to_device, normalize
from mien.training.recipe import Recipe
from mien.training.semi_supervised import UnlabeledLoss
from mien.training.targets import Teacher

#: Steps between two checks of the loss: on a GPU each check waits for the computation.
LOSS_CHECK_STEPS = 10


@dataclass(frozen=True)
class TrainingContext:
    """The data and settings of a training, the same in every epoch.

    images, labels   uint8 (N, 1, H, W) and int64 (N,), on the device of the network
    targets          float32 (N, K): target distribution of each face, before mixup and cutmix
    teacher          predicts targets for the augmented inputs, if the recipe has one
    unlabeled        the loss on unlabeled faces, if the recipe has one
    """

    recipe: Recipe
    hardware: Hardware
    preprocessing: Preprocessing
    images: Tensor
    labels: Tensor
    targets: Tensor
    teacher: Teacher | None = None
    unlabeled: UnlabeledLoss | None = None


@dataclass
class TrainingState:
    """Everything that changes during training. A checkpoint stores it, so that a run resumes exactly."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedNetwork
    generator: torch.Generator
    alpha: list[float] | None  # class weights in the loss
    history: list[dict[str, Any]] = field(default_factory=list)
    best_accuracy: float = -1.0

    def to_checkpoint(self) -> dict[str, Any]:
        """Return everything except the averaged weights, which `save_trained_model` writes."""
        return {
            "raw_weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged_steps": self.averaged.steps,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "alpha": self.alpha,
            "history": json.dumps(self.history),
            "best": self.best_accuracy,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore the state, including all random number generators, from the contents of a checkpoint."""
        self.network.load_state_dict(saved["raw_weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averaged.network.load_state_dict(saved["weights"])
        self.averaged.steps = saved["averaged_steps"]
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["torch_rng"])
        if saved["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["cuda_rng"][: torch.cuda.device_count()])
        self.history, self.best_accuracy = json.loads(saved["history"]), saved["best"]


def initial_state(recipe: Recipe, network: nn.Module, alpha: list[float] | None = None) -> TrainingState:
    """Return the state before the first step."""
    return TrainingState(
        network,
        make_optimizer(network, recipe.optimizer),
        AveragedNetwork(network, recipe.run.ema),
        torch.Generator().manual_seed(recipe.run.seed),
        alpha,
    )


def run_epoch(context: TrainingContext, state: TrainingState, validation: FaceSet, bar: ProgressBar) -> dict[str, Any]:
    """Train one epoch, evaluate it, and return its row of the log.

    Raises TrainingDiverged before anything of the epoch is saved.
    """
    started, epoch = time.perf_counter(), len(state.history)
    row = {"epoch": epoch + 1, **train_epoch(context, state, bar)}
    row |= evaluate_epoch(state.averaged.network, validation, context.preprocessing, context.hardware)
    if not np.isfinite(row["validation_loss"]):
        raise _make_divergence_error(context.recipe, epoch, row["lr"])
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def train_epoch(context: TrainingContext, state: TrainingState, bar: ProgressBar) -> dict[str, float]:
    """Train on all training faces once; return learning rate, loss, accuracy and speed.

    All batches have the same size: a last, smaller batch of the shuffled epoch is skipped.
    """
    recipe, hardware, images = context.recipe, context.hardware, context.images
    loss_of = make_loss(recipe.loss, state.alpha)
    epoch = len(state.history)
    batch_size = min(recipe.schedule.batch_size, len(images))
    steps = len(images) // batch_size
    validation_losses = [row["validation_loss"] for row in state.history]
    trained = [p for p in state.network.parameters() if p.requires_grad]
    loss_sum = right = torch.zeros((), device=hardware.device)
    started = time.perf_counter()
    set_training_mode(state.network)
    order = draw_epoch_order(context.labels.cpu(), recipe.data.oversample, state.generator).to(hardware.device)
    for step in range(steps):
        rate = compute_learning_rate(
            epoch * steps + step, steps, recipe.optimizer.lr, recipe.schedule, validation_losses
        )
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        rows = order[step * batch_size : (step + 1) * batch_size]
        inputs, targets = make_batch(
            recipe, images[rows], context.targets[rows], context.preprocessing, context.teacher, state.generator
        )
        with hardware.autocast():
            logits = state.network(inputs)
        loss = loss_of(logits, targets)
        if context.unlabeled is not None:
            loss = loss + context.unlabeled.compute_loss(
                state.network, batch_size, epoch + step / steps, state.generator
            )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(trained, recipe.optimizer.clip_norm)
        state.optimizer.step()
        state.averaged.update()

        loss_sum = loss_sum + loss.detach()
        right = right + (logits.detach().argmax(1) == targets.argmax(1)).sum()
        if (step + 1) % LOSS_CHECK_STEPS == 0 or step == steps - 1:
            seen, mean_loss = (step + 1) * batch_size, float(loss_sum) / (step + 1)
            if not np.isfinite(mean_loss):
                raise _make_divergence_error(recipe, epoch, rate)
            speed, train_accuracy = seen / (time.perf_counter() - started), float(right) / seen
            bar.advance(
                (step % LOSS_CHECK_STEPS + 1) * batch_size,
                f"epoch {epoch + 1}/{recipe.schedule.epochs} "
                f"loss {mean_loss:.3f} accuracy {train_accuracy:.1%} {speed:,.0f} images/s",
            )
    return {"lr": rate, "loss": mean_loss, "accuracy": train_accuracy, "images_per_s": round(speed, 1)}


def make_batch(
    recipe: Recipe,
    images: Tensor,
    targets: Tensor,
    preprocessing: Preprocessing,
    teacher: Teacher | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return augmented inputs (B, C, H, W) and targets (B, K) of uint8 images (B, 1, H, W) and targets (B, K).

    Noise is added last, after the teacher's predictions: a teacher's reaction to noise must not be learned.
    """
    inputs = normalize(make_augmentation(recipe)(images.float() / 255, generator), preprocessing)
    inputs, targets = mix_batch(recipe, inputs, targets, generator)
    if teacher is not None:
        targets = teacher.blend_targets(inputs, targets)
    if recipe.augment.noise and recipe.semi.method != "fixmatch":
        std = torch.tensor(preprocessing.std, device=inputs.device).view(1, -1, 1, 1)
        inputs = add_noise(inputs * std, generator, probability=recipe.augment.noise) / std
    return inputs, targets


def mix_batch(recipe: Recipe, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply mixup or cutmix as the recipe says, one of them at random if it has both; neither with FixMatch."""
    settings = recipe.augment
    if recipe.semi.method == "fixmatch":
        return inputs, targets
    cut = bool(settings.cutmix) and (not settings.mixup or bool(torch.rand((), generator=generator) < 0.5))
    if cut:
        return cutmix(inputs, targets, settings.cutmix, generator)
    if settings.mixup:
        return mixup(inputs, targets, settings.mixup, generator)
    return inputs, targets


def set_training_mode(network: nn.Module) -> None:
    """Set training mode, except for batch norms with frozen weights: their running statistics stay fixed, too."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
            module.eval()


@torch.no_grad()
def predict_probabilities(
    network: nn.Module, images: Tensor, preprocessing: Preprocessing, hardware: Hardware, batch_size: int = 256
) -> np.ndarray:
    """Return probabilities float32 (N, K) of images uint8 (N, 1, H, W), in evaluation mode; the mode is restored."""
    was_training = network.training
    network.eval()
    try:
        parts = []
        for batch in images.split(batch_size):
            with hardware.autocast():
                logits = network(normalize(batch.float() / 255, preprocessing))
            parts.append(logits.float().softmax(dim=1).cpu())
    finally:
        network.train(was_training)
    return torch.cat(parts).numpy()


def evaluate_epoch(
    network: nn.Module, validation: FaceSet, preprocessing: Preprocessing, hardware: Hardware
) -> dict[str, float]:
    """Return loss, accuracy and macro-F1 on the validation faces."""
    images, _ = move_to_device(validation, hardware)
    probabilities = predict_probabilities(network, images, preprocessing, hardware)
    matrix = confusion_matrix(validation.labels, probabilities.argmax(axis=1), probabilities.shape[1])
    true_class_probabilities = probabilities[np.arange(len(validation)), validation.labels]
    return {
        "validation_loss": float(log_losses(true_class_probabilities).mean()),
        "validation_accuracy": float(accuracy(matrix)),
        "validation_macro_f1": float(macro_f1(matrix)),
    }


def _make_divergence_error(recipe: Recipe, epoch: int, rate: float) -> TrainingDiverged:
    note = "the earlier epochs are kept; " if epoch else ""
    return TrainingDiverged(
        recipe.name,
        f"the loss became NaN or infinite in epoch {epoch + 1} at a learning rate of {rate:g}",
        f"{note}try `optimizer.lr={recipe.optimizer.lr / 10:g}`, a longer "
        f"`schedule.warmup_epochs={recipe.schedule.warmup_epochs + 3:g}`, or `run.precision=fp32`, in another `out`",
    )
