"""A residual network for 48×48 faces that starts at half resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class SlicedConv2d(nn.Conv2d):
    """A strided 1×1 convolution that takes every second pixel first: the same numbers by another way.

    With few channels, oneDNN's backward pass of nn.Conv2d over channels-last pictures hangs or aborts at random.
    """

    def forward(self, images: Tensor) -> Tensor:
        down, right = self.stride
        return F.conv2d(images[:, :, ::down, ::right], self.weight, self.bias)


def conv1x1(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    kind = nn.Conv2d if inputs % 8 == 0 == outputs % 8 else SlicedConv2d
    return kind(inputs, outputs, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al., "Deep Residual Learning for Image Recognition", 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, zero_init: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        if zero_init:
            nn.init.zeros_(self.norm2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        change = F.relu(self.norm1(self.conv1(images)))
        change = self.norm2(self.conv2(change))
        return F.relu(self.shortcut(images) + change)


class ResidualNet(nn.Module):
    """Space-to-depth stem, stages of basic blocks that halve the resolution, mean over positions, one linear layer.

    The stem folds 2×2 pixels into channels, so that no pixel is lost and every later layer costs a quarter of what it
    would at full resolution. Input (N, channels, S, S) with even S of any size; output logits (N, num_classes).

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        widths: channels of each stage; every stage after the first halves the resolution.
        blocks: basic blocks in each stage.
        dropout: share of features dropped before the linear layer.
        full_resolution: a plain stem instead, so that the first stage sees every pixel at four times the cost.
        zero_init: begin every block as its shortcut alone (Goyal et al., "Accurate, Large Minibatch SGD", 2017). A deeper
            network that is begun with the weights of a shallower one (``start.model``) then answers as that one at first.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        widths: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        dropout: float = 0.0,
        zero_init: bool = False,
        full_resolution: bool = False,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}: a stage has at least 1")
        self.stem = nn.Sequential(
            nn.Identity() if full_resolution else nn.PixelUnshuffle(2),
            conv3x3(channels if full_resolution else 4 * channels, widths[0]),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        stages, inputs = [], widths[0]
        for index, width in enumerate(widths):
            strides = [1 if index == 0 else 2] + [1] * (blocks - 1)
            stage = [
                BasicBlock(inputs if n == 0 else width, width, stride, zero_init) for n, stride in enumerate(strides)
            ]
            stages.append(nn.Sequential(*stage))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, S, S) → (N, D): what the last layer decides on."""
        return self.dropout(self.stages(self.stem(images)).mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
