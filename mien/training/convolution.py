"""Convolutions of small pictures with many channels as one product of matrices, which is what they are on a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.training.hardware import Hardware

#: From so many weights on, and up to so many places that the kernel is laid on, the product is the faster way.
#: benchmarks/speed.py networks measures what it brings; at 6×6 places it was slower.
_MIN_WEIGHTS, _MAX_POSITIONS = 256 * 256 * 9, 9


class ProductConv2d(nn.Conv2d):
    """nn.Conv2d whose forward and backward passes are products of matrices where that is faster (im2col).

    The rows are the places that the kernel is laid on in all pictures of the batch, the columns what it covers there. A
    library that lays out pictures and weights anew for each pass spends most of its time on that when there are few places.
    """

    def forward(self, images: Tensor) -> Tensor:
        (kernel, _), (stride, _), (padding, _) = self.kernel_size, self.stride, self.padding
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
    """The same network, its large convolutions replaced in place where the hardware gains by it: bf16 on a processor.

    Weights, their names and what comes out (but for rounding) stay as they are.
    """
    if hardware.device.type == "cpu" and hardware.dtype == torch.bfloat16:
        for module in network.modules():
            if type(module) is nn.Conv2d and _is_replaceable(module):
                module.__class__ = ProductConv2d
    return network


def _is_replaceable(convolution: nn.Conv2d) -> bool:
    """Many weights, square, undivided, padded with zeros."""
    plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    square = all(
        isinstance(pair, tuple) and len(set(pair)) == 1
        for pair in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    return plain and square and convolution.weight.numel() >= _MIN_WEIGHTS
