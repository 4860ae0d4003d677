"""Convolutions of small feature maps with many channels, computed as one matrix product on CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.training.hardware import Hardware

#: With at least this many weights and at most this many output positions, the matrix product is faster.
#: Measured by benchmarks/speed.py networks; at 6×6 positions it was slower.
_MIN_WEIGHTS, _MAX_POSITIONS = 256 * 256 * 9, 9


class ProductConv2d(nn.Conv2d):
    """nn.Conv2d whose forward and backward passes are matrix products if that is faster (im2col).

    A row is one output position of one picture, its columns are the input values under the kernel. oneDNN reorders
    inputs and weights for each pass, which takes most of the time if there are few positions.
    """

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        assert isinstance(padding, int)
        tall, wide = ((side + 2 * padding - kernel) // stride + 1 for side in images.shape[2:])
        if tall * wide > _MAX_POSITIONS:
            return super().forward(images)
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        covered = [
            padded[:, y : y + stride * tall : stride, x : x + stride * wide : stride][:, :tall, :wide]
            for y in range(kernel)
            for x in range(kernel)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(torch.cat(covered, dim=3), weight, self.bias).permute(0, 3, 1, 2)


def replace_large_convolutions(network: nn.Module, hardware: Hardware) -> nn.Module:
    """Replace the large convolutions of a network in place if that is faster: in bf16 on a CPU. Return the network.

    Weights, their names and the outputs (except for rounding) stay the same.
    """
    if hardware.device.type == "cpu" and hardware.dtype == torch.bfloat16:
        for module in network.modules():
            if type(module) is nn.Conv2d and _is_replaceable(module):
                module.__class__ = ProductConv2d
    return network


def _is_replaceable(convolution: nn.Conv2d) -> bool:
    """Return whether a convolution is large, square, without groups or dilation, and zero-padded."""
    plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    square = all(
        isinstance(pair, tuple) and len(set(pair)) == 1
        for pair in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    return plain and square and convolution.weight.numel() >= _MIN_WEIGHTS
