"""ResNet-18 as R1 and R2 used it, and R5's residual networks of 17 and 25 layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mien.models.residual import BasicBlock, conv3x3


class ResNet18(nn.Module):
    """Four stages of two basic blocks with 64, 128, 256 and 512 channels (He et al., 2016), for 48×48 faces.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        stem: "7x7", as published: 7×7 convolution with stride 2, then a max-pool, so the stages see 12×12 (R1);
            "3x3": 3×3 convolution with stride 2 and no pool, so they see 24×24 (R2). Neither report says; chosen here.
        dropout: share of features dropped before the linear layer.
    """

    def __init__(
        self, num_classes: int, channels: int = 1, stem: Literal["7x7", "3x3"] = "7x7", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if stem == "7x7":
            self.stem = nn.Sequential(
                nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        else:
            self.stem = nn.Sequential(conv3x3(channels, 64, stride=2), nn.BatchNorm2d(64), nn.ReLU())
        self.stages = nn.Sequential(
            nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1)),
            nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1)),
            nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1)),
            nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1)),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 512)."""
        return self.dropout(self.stages(self.stem(images)).mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class LeakyBlock(nn.Module):
    """Two 3×3 convolutions around an identity, with LeakyReLU(.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = conv3x3(width, width), nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        change = F.leaky_relu(self.norm1(self.conv1(images)), 0.1)
        return F.leaky_relu(images + self.norm2(self.conv2(change)), 0.1)


class LeakyResNet(nn.Module):
    """R5's residual networks: LeakyReLU(.1), a stem of two convolutions, four stages, three linear layers.

    A stage is a strided convolution and ``blocks`` residual blocks of two convolutions: 2 + 4 (1 + 2 blocks) + 3 layers,
    17 with one block and 25 with two. Widths and the linear layers' sizes are chosen here.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 16.
        blocks: residual blocks in each stage.
        widths: channels of each stage; the stem has half of the first.
        dropout: share dropped after each of the two hidden linear layers.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        size: int = 48,
        blocks: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            return [conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]

        stem = widths[0] // 2
        self.stem = nn.Sequential(*conv(channels, stem), *conv(stem, stem))
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*conv(inputs, width, stride=2), *(LeakyBlock(width) for _ in range(blocks)))
                for inputs, width in zip((stem, *widths), widths, strict=False)
            )
        )
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * (size // 2 ** len(widths)) ** 2, 512),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
            nn.Linear(512, 256),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(256, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 256)."""
        return self.hidden(self.stages(self.stem(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
