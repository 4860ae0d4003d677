"""A convolution as a product of matrices: the same numbers and gradients as torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mien.models import build_network
from mien.training.convolution import ProductConv2d, replace_large_convolutions
from mien.training.hardware import Hardware


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (2, 1), (6, 2), (5, 2), (1, 1), (12, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_product_is_the_convolution(side: int, stride: int, kernel: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 8, kernel, stride, kernel // 2)
    product = copy.deepcopy(plain)
    product.__class__ = ProductConv2d
    images = torch.randn(4, 6, side, side)
    made = []
    for convolution in (plain, product):
        given = images.clone().requires_grad_()
        answers = convolution(given)
        (answers**2).sum().backward()
        made.append((answers, given.grad, convolution.weight.grad, convolution.bias.grad))
    for theirs, ours in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_only_large_convolutions_are_replaced_and_only_where_that_pays() -> None:
    network = build_network("r1-resnet18", num_classes=7)
    names = set(network.state_dict())
    replace_large_convolutions(network, Hardware.choose("cpu", "fp32"))
    assert not any(isinstance(module, ProductConv2d) for module in network.modules())
    replace_large_convolutions(network, Hardware.choose("cpu", "bf16"))
    replaced = [module for module in network.modules() if isinstance(module, ProductConv2d)]
    assert {module.out_channels for module in replaced} == {256, 512}
    assert all(module.kernel_size == (3, 3) for module in replaced)
    assert set(network.state_dict()) == names


def test_divided_and_dilated_convolutions_stay() -> None:
    kept = nn.Sequential(
        nn.Conv2d(1024, 1024, 3, groups=2), nn.Conv2d(256, 256, 3, dilation=2), nn.Conv2d(256, 256, 3, padding="same")
    )
    replace_large_convolutions(kept, Hardware.choose("cpu", "bf16"))
    assert [type(module) for module in kept] == [nn.Conv2d] * 3
