"""R1's first network: two convolutions and two linear layers, with and without batch norm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """LeNet for faces (LeCun et al., "Gradient-based learning applied to document recognition", 1998), with ReLU.

    [5×5 convolution, batch norm, ReLU, 2×2 max-pool] twice, then two linear layers. The widths are chosen here.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 4.
        norm: batch norm after each convolution. R1 found that without it two epochs reach 20 to 30 % and that the loss
            becomes NaN at times; with it 40 to 50 %.
    """

    def __init__(self, num_classes: int, channels: int = 1, size: int = 48, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.norm1: nn.Module = nn.BatchNorm2d(32) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.norm2: nn.Module = nn.BatchNorm2d(64) if norm else nn.Identity()
        self.relu1, self.relu2, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)
        self.hidden = nn.Linear(64 * (size // 4) ** 2, 128)
        self.head = nn.Linear(128, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 128)."""
        images = self.pool(self.relu1(self.norm1(self.conv1(images))))
        images = self.pool(self.relu2(self.norm2(self.conv2(images))))
        return F.relu(self.hidden(images.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
