"""R4's pair: a deep VGG and a dense network of the same size, both with one PReLU slope per activation, as Keras has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ActivationPReLU(nn.Module):
    """max(x, 0) + slope · min(x, 0) with a slope of its own for every activation (He et al., 2015; Keras's default).

    torch's PReLU has one slope a channel, so a picture's activations are made its channels. Slopes begin at 0, as in
    Keras, and are stored as Keras stores them, channels last, which is also how the activations lie in memory.

    Args:
        channels: C of activations (N, C, H, W), or D of (N, D).
        side: H and W; 0 for (N, D).
    """

    def __init__(self, channels: int, side: int = 0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros((side, side, channels) if side else channels))

    def forward(self, values: Tensor) -> Tensor:
        slope = self.slope.flatten().to(values.dtype)
        if values.ndim == 2:
            return F.prelu(values, slope)
        values = values.permute(0, 2, 3, 1)  # (N, H, W, C)
        return F.prelu(values.flatten(1), slope).view(values.shape).permute(0, 3, 1, 2)


class R4CNN(nn.Module):
    """CCP CCP CCP CCP FF; C: 3×3 convolution, PReLU, batch norm; P: max-pool and dropout.

    As Keras counts them, 9,976,775 parameters for gray 48×48 and seven classes: 9,970,887 trainable and 5,888 running
    statistics.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 16.
        dropout: share dropped after each pair of convolutions; the report leaves it open.
        hidden_dropout: share dropped before the last layer.
    """

    def __init__(
        self, num_classes: int, channels: int = 1, size: int = 48, dropout: float = 0.25, hidden_dropout: float = 0.5
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, side: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                ActivationPReLU(outputs, side),
                nn.BatchNorm2d(outputs),
            ]

        stages, inputs, side = [], channels, size
        for width in (64, 128, 256, 512):
            pair = [*conv(inputs, width, side), *conv(width, width, side)]
            stages.append(nn.Sequential(*pair, nn.MaxPool2d(2), nn.Dropout(dropout)))
            inputs, side = width, side // 2
        self.stages = nn.Sequential(*stages)
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * side**2, 1024),
            ActivationPReLU(1024),
            nn.BatchNorm1d(1024),
            nn.Dropout(hidden_dropout),
        )
        self.head = nn.Linear(1024, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 1024)."""
        return self.hidden(self.stages(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class R4DNN(nn.Module):
    """R4's dense network: every pixel alone goes through four dense layers, then all are joined by one.

    A dense layer on the last axis of (N, 2304, 64) is a 1×1 convolution of (N, 64, 48, 48), and is written as that.
    9,893,767 parameters for gray 48×48 and seven classes: 9,893,255 trainable and 512 running statistics.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures.
        dropout: share dropped after each block; the report leaves it open.
    """

    def __init__(self, num_classes: int, channels: int = 1, size: int = 48, dropout: float = 0.25) -> None:
        super().__init__()

        def dense() -> list[nn.Module]:
            return [
                nn.Conv2d(64, 64, 1),
                ActivationPReLU(64, size),
                nn.BatchNorm2d(64),
                nn.Dropout(dropout),
            ]

        self.pixels = nn.Sequential(nn.Conv2d(channels, 64, 1), *dense(), *dense(), *dense())
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * size**2, 64), ActivationPReLU(64), nn.BatchNorm1d(64), nn.Dropout(dropout)
        )
        self.head = nn.Linear(64, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 64)."""
        return self.hidden(self.pixels(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
