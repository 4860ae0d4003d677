"""Learning from faces without a label, beside those that have one: pseudo-labels and FixMatch."""

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
    """Draws batches of unlabeled faces and turns them into a loss.

    images: uint8 (M, 1, H, W) on the device where the network is trained.
    """

    images: Tensor
    recipe: Recipe
    preprocessing: Preprocessing
    hardware: Hardware

    def compute_loss(self, network: nn.Module, batch_size: int, epoch: float, generator: torch.Generator) -> Tensor:
        """The weighted loss of ``batch_size`` × ratio faces, drawn with replacement; epoch counts from 0, in parts.

        Pseudo-label (Lee, "Pseudo-Label", 2013): the network's own answer on the changed face is the label of that same
        face. FixMatch (Sohn et al., 2020): the answer on a weakly changed face is the label of the strongly changed
        one, strong being the recipe's own augmentation; faces with a label are changed weakly too. Either counts only
        where the network is sure enough; the mean is over all faces drawn, so that few sure ones weigh little.
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
                answers = network(inputs).float()
        else:
            answers = logits.detach()
        confidence, labels = answers.softmax(dim=1).max(dim=1)
        each = F.cross_entropy(logits, labels, reduction="none")
        ramp = min(1.0, epoch / settings.rampup_epochs) if settings.rampup_epochs else 1.0
        return settings.weight * ramp * (each * (confidence >= settings.threshold)).mean()
