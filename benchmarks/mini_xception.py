"""The yardstick: mini-XCEPTION, the small network that much of the field's software runs, re-made from its paper.

Arriaga, Valdenegro-Toro & Plöger, "Real-time Convolutional Neural Networks for Emotion and Gender Classification" (2017).
Its weights are random here: speed does not depend on them.
"""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution for each channel, then a 1×1 convolution over all, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Module(nn.Module):
    """Two separable convolutions and a max-pooling that halves the resolution, around a 1×1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
        self.path = nn.Sequential(
            separable(inputs, outputs), nn.ReLU(), separable(outputs, outputs), nn.MaxPool2d(3, stride=2, padding=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.shortcut(images) + self.path(images)


class MiniXception(nn.Module):
    """Gray (N, 1, S, S) → logits (N, classes); 56,951 trained weights for seven classes, 58,423 with batch norm's means and
    variances, at any S."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, 8):
            layers += [nn.Conv2d(inputs, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        widths = (8, 16, 32, 64, 128)
        layers += [Module(*pair) for pair in pairwise(widths)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(128, classes, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3))


def write(path: Path, size: int) -> int:
    """As ONNX, for crops of size × size; returns its number of weights, as its authors count them."""
    network = MiniXception().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision's absence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(2, 1, size, size),), str(path), input_names=["images"], output_names=["logits"],
                          dynamic_shapes={"images": {0: torch.export.Dim("N")}}, dynamo=True, verbose=False,
                          external_data=False)  # fmt: skip
    return sum(t.numel() for name, t in network.state_dict().items() if "num_batches" not in name)
