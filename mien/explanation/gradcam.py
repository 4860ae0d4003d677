"""Grad-CAM: the positions of the last feature map that determine the class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.core.errors import UsageError
from mien.explanation.gradients import compute_target_logits
from mien.explanation.guard import find_module, list_feature_maps, record_outputs
from mien.models.ensemble import Ensemble


def grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, *, layer: str | None = None) -> Tensor:
    """L = ReLU(Σ_k α_k A^k), with α_k the mean over positions of ∂S_c/∂A^k (Selvaraju et al., "Grad-CAM", 2017).

    A^k is channel k of a layer's output; L is drawn out to the size of the picture (bilinear) and never negative. Of an
    ensemble the sums of all members are added before the ReLU: the gradient of the common logit weighs them.

    Args:
        layer: the dotted name of a module that gives feature maps; default: the last one as fine as the last
            convolution's output.

    Raises UsageError if the network has no convolution, or the layer no feature map.
    """
    names = [layer] if layer else find_last_feature_maps(network, inputs)
    for name in names:
        find_module(network, name)
    with record_outputs(network, names) as outputs:
        # The weights need no gradient, so the picture must require one for autograd to build a graph.
        score = compute_target_logits(network, inputs.detach().requires_grad_(), targets).sum()
    maps = [outputs[name] for name in names if name in outputs]
    if len(maps) < len(names) or any(each.ndim != 4 for each in maps):
        raise UsageError(f"layer '{layer}'", "gives no feature map", "choose a convolution")
    total = inputs.new_zeros(len(inputs), 1, *inputs.shape[2:])
    for activations, slopes in zip(maps, torch.autograd.grad(score, maps), strict=True):
        weights = slopes.mean(dim=(2, 3), keepdim=True)  # α, (N, K, 1, 1)
        cam = (weights * activations).sum(dim=1, keepdim=True)
        total += F.interpolate(cam, size=inputs.shape[2:], mode="bilinear", align_corners=False)
    return total[:, 0].relu()


def find_last_feature_maps(network: nn.Module, images: Tensor) -> list[str]:
    """Return the module that Grad-CAM uses by default: one name, or one for each member of an ensemble.

    It is the last to finish with an output as fine as the last convolution's: behind that convolution's norm, rectifier
    and shortcut, but in front of a pool.
    """
    shapes = list_feature_maps(network, images)
    names = []
    for prefix, member in list_members(network):
        modules = dict(member.named_modules(prefix=prefix))
        ours = [name for name in shapes if name in modules]
        convolutions = [index for index, name in enumerate(ours) if isinstance(modules[name], nn.Conv2d)]
        if not convolutions:
            raise UsageError("grad-cam", "needs a convolution, and this network has none", "choose another `method`")
        fineness = shapes[ours[convolutions[-1]]][1:]
        names.append([name for name in ours[convolutions[-1] :] if shapes[name][1:] == fineness][-1])
    return names


def list_members(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return (dotted name, network) of all members of an ensemble, recursively; of any other network itself."""
    if not isinstance(network, Ensemble):
        return [(prefix, network)]
    inner = f"{prefix}." if prefix else ""
    return [
        member
        for index, each in enumerate(network.networks)
        for member in list_members(each, f"{inner}networks.{index}")
    ]
