"""Attribution: how much each pixel of a face supports a class. METHODS maps a name to its function.

Every function takes ``(network, inputs, targets, **options)``: a network in evaluation mode whose weights need no
gradient, inputs float32 (N, C, H, W), normalized, targets int64 (N,); it returns float32 (N, H, W). Call
them through `explain`, which checks, freezes the network and works through many faces batch by batch. In the formulas x
is the input, c the class that is asked for and S_c(x) its logit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.core.errors import UsageError
from mien.explanation.gradcam import grad_cam
from mien.explanation.gradients import gradient, guided_backprop, integrated_gradients, normalized_gradient, smoothgrad
from mien.explanation.guard import freeze_network
from mien.explanation.occlusion import lime, occlusion

Method = Callable[..., Tensor]

METHODS: dict[str, Method] = {
    "gradient": gradient,
    "normalized-gradient": normalized_gradient,
    "smoothgrad": smoothgrad,
    "integrated-gradients": integrated_gradients,
    "grad-cam": grad_cam,
    "guided-backprop": guided_backprop,
    "occlusion": occlusion,
    "lime": lime,
}

#: Meaning of positive values, for methods that also have negative ones.
SIGNED = {
    "normalized-gradient": "a brighter pixel would raise the logit by more than the mean pixel would",
    "guided-backprop": "a brighter pixel would raise the logit",
    "integrated-gradients": "the pixel speaks for the class",
    "occlusion": "the place speaks for the class",
    "lime": "the superpixel speaks for the class",
}


def compute_importance(maps: np.ndarray, method: str) -> np.ndarray:
    """Return maps (N, H, W) whose largest values are the most important pixels.

    The sign of guided backprop is the direction of a change of brightness, so its magnitude counts. The normalized
    gradient keeps its sign, since R4 kept its largest values.
    """
    return np.abs(maps) if method == "guided-backprop" else maps


def compute_attributions(
    network: nn.Module,
    inputs: Tensor | np.ndarray,
    targets: Tensor | np.ndarray,
    method: str,
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
    **options: Any,
) -> np.ndarray:
    """Compute attribution maps of faces, NumPy float32 (N, H, W).

    The network's mode, gradients and hooks are restored, also after an error. A face's map does not depend on the other
    faces of its batch.

    Args:
        network: gives logits (N, K); on any device.
        inputs: float32 (N, C, H, W), normalized as the network is given them.
        targets: int (N,), the class whose logit is explained, in 0..K-1.
        method: a key of METHODS.
        batch_size: faces at a time.
        advance: called with the number of faces that were finished, for a progress bar.
        options: of the method: ``samples``, ``noise`` and ``seed`` of smoothgrad, ``baseline`` of integrated-gradients,
            occlusion and lime, ``layer`` of grad-cam, ``window`` and ``stride`` of occlusion, ``samples``, ``segments``
            and ``seed`` of lime.

    Raises UsageError for an unknown method, for Grad-CAM of a network without convolutions, and ValueError for shapes.
    """
    if method not in METHODS:
        raise UsageError(f"method '{method}'", "is unknown", f"choose from {', '.join(METHODS)}")
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
    if inputs.ndim != 4 or targets.shape != (len(inputs),):
        raise ValueError(
            f"needs inputs (N, C, H, W) and targets (N,), not {tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    maps = np.empty((len(inputs), *inputs.shape[2:]), np.float32)
    with freeze_network(network):
        for start in range(0, len(inputs), batch_size):
            rows = slice(start, start + batch_size)
            some = inputs[rows].detach().to(device, torch.float32)
            which = targets[rows].to(device, torch.int64)
            maps[rows] = METHODS[method](network, some, which, **options).detach().cpu().numpy()
            if advance is not None:
                advance(len(some))
    return maps
