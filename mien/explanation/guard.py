"""Inspect a network without changing it: mode, gradients and hooks are restored, also after an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from mien.core.errors import UsageError


@contextmanager
def freeze_network(network: nn.Module) -> Iterator[nn.Module]:
    """Set evaluation mode and disable gradients of the weights inside the block.

    Gradients with respect to inputs work inside, even if the caller disabled gradients. Each module's mode and each
    parameter's ``requires_grad`` are restored at the end; ``grad`` does not change.
    """
    modes = {module: module.training for module in network.modules()}
    gradient_flags = {parameter: parameter.requires_grad for parameter in network.parameters()}
    try:
        network.eval()
        for parameter in gradient_flags:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield network
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in gradient_flags.items():
            parameter.requires_grad_(requires_grad)


class _StopForward(Exception):
    """Raised inside a forward pass after the last requested layer."""


@contextmanager
def record_outputs(network: nn.Module, names: Sequence[str], *, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules, by their dotted names, during the forward passes inside.

    With ``stop`` the forward pass ends as soon as all of them have run (`run_until_layer` handles the exception).
    """
    outputs: dict[str, Tensor] = {}
    handles = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs[name] = output
            if stop and len(outputs) == len(names):
                raise _StopForward

        return hook

    try:
        for name in names:
            handles.append(find_module(network, name).register_forward_hook(keep(name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def run_until_layer(network: nn.Module, images: Tensor, name: str) -> Tensor:
    """Return the output of one module for ``images`` (N, C, H, W), without computing later layers."""
    with record_outputs(network, [name], stop=True) as outputs, suppress(_StopForward):
        network(images)
    return outputs[name]


def find_module(network: nn.Module, name: str) -> nn.Module:
    """Return a module by its dotted name. Raises UsageError with the network's convolutions for an unknown name."""
    modules = dict(network.named_modules())
    if name not in modules or not name:
        layers = [each for each, module in modules.items() if isinstance(module, nn.Conv2d)]
        hint = f"choose one of {', '.join(layers)}" if layers else "use a network with convolutions; this one has none"
        raise UsageError(f"layer '{name}'", "is not in this network", hint)
    return modules[name]


def list_feature_maps(network: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the modules with feature maps (N, C, H, W) in the order of execution: name → (C, H, W)."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                shapes[name] = tuple(output.shape[1:])

        return hook

    try:
        for name, module in network.named_modules():
            if name:
                handles.append(module.register_forward_hook(keep(name)))
        with torch.no_grad():
            network(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return shapes
