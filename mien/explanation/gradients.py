"""Attribution by gradients of a class logit with respect to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: A constant to compare with: a number or a tensor that fits (N, C, H, W), in units of the inputs.
Baseline = float | Tensor | None


def compute_target_logits(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return S_c(x): the logit of each picture's target, (N,)."""
    return network(inputs).gather(1, targets[:, None])[:, 0]


def compute_input_gradient(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return ∂S_c/∂x, (N, C, H, W). In evaluation mode no picture's logit depends on another picture."""
    inputs = inputs.detach().requires_grad_()
    return torch.autograd.grad(compute_target_logits(network, inputs, targets).sum(), inputs)[0]


def make_baseline(inputs: Tensor, baseline: Baseline) -> Tensor:
    """Return the baseline in the shape of the inputs; by default a uniform gray with each picture's mean.

    The mean keeps the brightness, which does not depend on the expression, and works with any normalization.
    """
    if baseline is None:
        return inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)
    return torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).expand_as(inputs)


def gradient(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """max over channels of |∂S_c/∂x| (Simonyan et al., "Deep Inside Convolutional Networks", 2014). Never negative."""
    return compute_input_gradient(network, inputs, targets).abs().amax(dim=1)


def normalized_gradient(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """g = ∂S_c/∂x summed over channels, minus its mean, over its standard deviation, over its maximum (R4's wording).

    Signed, and at most 1. Dividing by the maximum undoes the standard deviation: only the mean's place is moved, so
    that pixels are ordered as by the signed gradient.
    """
    values = compute_input_gradient(network, inputs, targets).sum(dim=1)
    values = values - values.mean(dim=(1, 2), keepdim=True)
    values = values / values.std(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return values / values.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def smoothgrad(
    network: nn.Module, inputs: Tensor, targets: Tensor, *, samples: int = 32, noise: float = 0.15, seed: int = 0
) -> Tensor:
    """max over channels of |1/n Σᵢ ∂S_c/∂x (x + εᵢ)| (Smilkov et al., "SmoothGrad", 2017). Never negative.

    Args:
        samples: n, how many noisy copies.
        noise: the standard deviation of εᵢ over the range of each picture's values.
        seed: of the noise; all pictures get the same, so that none depends on its neighbors.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (inputs.amax(dim=(1, 2, 3), keepdim=True) - inputs.amin(dim=(1, 2, 3), keepdim=True))
    total = torch.zeros_like(inputs)
    for _ in range(samples):
        epsilon = torch.randn(1, *inputs.shape[1:], generator=generator).to(inputs)
        total += compute_input_gradient(network, inputs + spread * epsilon, targets)
    return (total / samples).abs().amax(dim=1)


def integrated_gradients(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = None,
    tolerance: float = 0.01,
    steps: int = 30,
    most_steps: int = 1000,
) -> Tensor:
    """(x − b) · ∫₀¹ ∂S_c/∂x (b + a (x − b)) da, summed over channels (Sundararajan et al., "Axiomatic Attribution",
    2017).

    Signed. The integral is a mean at midpoints. Completeness, Σ map = S_c(x) − S_c(b), is checked for each picture;
    where it is missed by more than ``tolerance`` of that difference (of 0.1, where it is smaller), the number of steps
    triples: the old midpoints are among the new ones.

    Args:
        baseline: b; default: the picture's mean.
        steps: how many midpoints at first; most_steps: no more than this.
    """
    base = make_baseline(inputs, baseline)
    with torch.no_grad():
        gained = compute_target_logits(network, inputs, targets) - compute_target_logits(network, base, targets)
    total = torch.zeros_like(inputs)  # of the gradients at all midpoints so far
    maps = torch.empty_like(inputs)
    unfinished = torch.arange(len(inputs), device=inputs.device)  # the pictures whose sum is not complete yet
    fresh: Sequence[int] = range(steps)
    while len(unfinished):
        x, b = inputs[unfinished], base[unfinished]
        for step in fresh:
            total[unfinished] += compute_input_gradient(
                network, b + (step + 0.5) / steps * (x - b), targets[unfinished]
            )
        maps[unfinished] = (x - b) * total[unfinished] / steps
        missed = (maps[unfinished].sum(dim=(1, 2, 3)) - gained[unfinished]).abs()
        unfinished = unfinished[missed > tolerance * gained[unfinished].abs().clamp_min(0.1)]
        steps *= 3
        if steps > most_steps:
            break
        fresh = [step for step in range(steps) if step % 3 != 1]
    return maps.sum(dim=1)


def guided_backprop(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """∂S_c/∂x where every ReLU passes back only positive gradients (Springenberg et al., "Striving for Simplicity",
    2015).

    Summed over channels, signed. R_in = [x > 0] · max(R_out, 0) at each ReLU, be it a module or a function; leaky ones
    and PReLUs keep their slopes: R_in = f'(x) · max(R_out, 0).
    """
    with _GuidedReLUs():
        inputs = inputs.detach().requires_grad_()
        score = compute_target_logits(network, inputs, targets).sum()
    return torch.autograd.grad(score, inputs)[0].sum(dim=1)


class _GuidedReLUs(TorchFunctionMode):
    """Registers a hook on the output of every rectifier inside, also of functions.

    The hooks belong to the tensors of one forward pass; the network does not change.
    """

    RECTIFIERS = frozenset(
        {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.leaky_relu, F.prelu, torch.prelu, Tensor.prelu}
    )

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in self.RECTIFIERS and output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp_min(0))
        return output
