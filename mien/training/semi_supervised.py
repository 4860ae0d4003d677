"""Semi-supervised losses for faces without labels: pseudo-labels and FixMatch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.core.preprocessing import Preprocessing
from mien.training.hardware import Hardware
from mien.training.preparation import WEAK_AUGMENTATION, make_augmentation, normalize
from mien.training.recipe import Recipe


@dataclass
class UnlabeledLoss:
    """The loss on batches drawn from unlabeled faces.

    images: uint8 (M, 1, H, W) on the device of the network.
    """

    images: Tensor
    recipe: Recipe
    preprocessing: Preprocessing
    hardware: Hardware

    def compute_loss(self, network: nn.Module, batch_size: int, epoch: float, generator: torch.Generator) -> Tensor:
        """Return the weighted loss of ``batch_size`` × ratio faces, drawn with replacement; epoch is a fraction, from 0.

        Pseudo-label (Lee, "Pseudo-Label", 2013): the network's prediction for the augmented face is its label.
        FixMatch (Sohn et al., 2020): the prediction for a weakly augmented face is the label of the strongly augmented
        one, with the recipe's augmentation as the strong one. Labeled faces are augmented weakly, too. Only predictions
        above the confidence threshold count, but the mean is over all faces, so that few confident ones weigh little.
        """
        settings = self.recipe.semi
        rows = torch.randint(0, len(self.images), (batch_size * settings.ratio,), generator=generator)
        images = self.images[rows.to(self.images.device)].float() / 255
        inputs = normalize(make_augmentation(self.recipe, labeled=False)(images, generator), self.preprocessing)
        with self.hardware.autocast():
            logits = network(inputs).float()
        if settings.method == "fixmatch":
            inputs = normalize(WEAK_AUGMENTATION(images, generator), self.preprocessing)
            with torch.no_grad(), self.hardware.autocast():
                predictions = network(inputs).float()
        else:
            predictions = logits.detach()
        confidence, labels = predictions.softmax(dim=1).max(dim=1)
        losses = F.cross_entropy(logits, labels, reduction="none")
        ramp = min(1.0, epoch / settings.rampup_epochs) if settings.rampup_epochs else 1.0
        return settings.weight * ramp * (losses * (confidence >= settings.threshold)).mean()
