"""Summarize a network: its layers in the order of execution, with shapes, parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

#: The index of the picture among the inputs of a step.
PICTURE = -1


@dataclass(frozen=True)
class Layer:
    """One step of a forward pass: a module without modules in it or, with an empty name, a function such as an addition.

    Attributes:
        name: the module's dotted name in the network; "" for a function.
        kind: the module's class ("Conv2d"), or the function ("add").
        detail: its settings, such as "3x3, stride 2".
        shape: its output without the batch: (C, H, W) or (D,).
        parameters: number of trainable weights; 0 if an earlier step counted them.
        statistics: running means and variances of a batch norm.
        multiply_adds: for one picture; counted for convolutions and linear layers, 0 for all others.
        inputs: indices in Summary.steps of the steps whose outputs it reads; PICTURE for the picture.
    """

    name: str
    kind: str
    detail: str
    shape: tuple[int, ...]
    parameters: int
    statistics: int
    multiply_adds: int
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """A network's forward pass for one picture of shape ``picture`` (channels, S, S)."""

    picture: tuple[int, int, int]
    steps: tuple[Layer, ...]
    parameters: int
    statistics: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the modules, without functions."""
        return tuple(step for step in self.steps if step.name)

    @property
    def multiply_adds(self) -> int:
        return sum(step.multiply_adds for step in self.steps)

    @property
    def megabytes(self) -> float:
        """Return the size of weights and running statistics as float32, in 10⁶ bytes."""
        return 4 * (self.parameters + self.statistics) / 1e6

    def to_json(self) -> dict[str, Any]:
        names = ("name", "kind", "detail", "shape", "parameters", "statistics", "multiply_adds")
        return {
            "input": list(self.picture),
            "layers": [{name: getattr(layer, name) for name in names} for layer in self.layers],
            "totals": {
                "parameters": self.parameters,
                "statistics": self.statistics,
                "parameters_and_statistics": self.parameters + self.statistics,
                "multiply_adds": self.multiply_adds,
                "megabytes": round(self.megabytes, 3),
            },
        }


@torch.no_grad()
def summarize_network(network: nn.Module, channels: int = 1, size: int = 48) -> Summary:
    """Run one black picture through the network and record its steps.

    Works on any device; a network built under ``torch.device("meta")`` needs neither memory nor time. The network's mode
    and hooks are restored, also after an error. Raises the network's own error if it cannot take a picture of
    (channels, size, size).
    """
    device = next(network.parameters()).device
    picture = torch.zeros(1, channels, size, size, device=device)
    modes = {module: module.training for module in network.modules()}
    recorder = _Recorder(picture)
    handles = []
    try:
        for name, module in network.named_modules():
            if not any(True for _ in module.children()):
                handles.append(module.register_forward_pre_hook(recorder.enter_module))
                handles.append(module.register_forward_hook(partial(recorder.leave_module, name)))
        network.eval()  # batch norm over a batch of one has no variance
        with recorder:
            network(picture)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return Summary((channels, size, size), tuple(recorder.steps), count_parameters(network), count_statistics(network))


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_statistics(network: nn.Module) -> int:
    """Return the number of running means and variances of batch norms, Keras's non-trainable parameters.

    Their counts of batches are left out.
    """
    return sum(_count_module_statistics(module) for module in network.modules())


class _Recorder(TorchFunctionMode):
    """Records a step for each module that runs, and for each function that runs outside of modules."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.steps: list[Layer] = []
        self._made_by = {id(picture): PICTURE}
        self._kept: list[Tensor] = [picture]  # keeps the tensors alive, so that their ids stay unique
        self._counted: set[int] = set()
        self._within = False

    def enter_module(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._within = True

    def leave_module(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._within = False
        if not isinstance(output, Tensor):
            return
        fresh = [parameter for parameter in module.parameters() if id(parameter) not in self._counted]
        statistics = 0 if id(module) in self._counted else _count_module_statistics(module)
        self._counted |= {id(module), *map(id, fresh)}
        parameters = sum(parameter.numel() for parameter in fresh)
        macs = count_multiply_adds(module, tuple(output.shape[1:]))
        self._add_step(
            name, type(module).__name__, _describe_module(module), parameters, statistics, macs, inputs, output
        )

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        if not self._within and isinstance(output, Tensor) and self._find_sources(args):
            self._add_step("", function.__name__.strip("_"), "", 0, 0, 0, args, output)
        return output

    def _add_step(
        self,
        name: str,
        kind: str,
        detail: str,
        parameters: int,
        statistics: int,
        macs: int,
        inputs: Iterable[Any],
        output: Tensor,
    ) -> None:
        sources = tuple(dict.fromkeys(self._find_sources(inputs)))
        self.steps.append(Layer(name, kind, detail, tuple(output.shape[1:]), parameters, statistics, macs, sources))
        if kind != "Identity":  # it returns its input tensor, which other steps read, too
            self._made_by[id(output)] = len(self.steps) - 1
            self._kept.append(output)

    def _find_sources(self, values: Iterable[Any]) -> list[int]:
        """Return the steps that made the tensors in ``values`` and in nested lists."""
        sources = []
        for value in values:
            if isinstance(value, (list, tuple)):
                sources += self._find_sources(value)
            elif isinstance(value, Tensor) and id(value) in self._made_by:
                sources.append(self._made_by[id(value)])
        return sources


def count_multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of one module for one output of ``shape`` (without the batch).

    Convolution: output values × kernel area × input channels / groups. Linear: output values × inputs. Biases, norms,
    activations and pools are not counted: they are a few percent, and batch norms are fused into convolutions.
    """
    outputs = 1
    for length in shape:
        outputs *= length
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return outputs * height * width * module.in_channels // module.groups
    if isinstance(module, nn.Linear):
        return outputs * module.in_features
    return 0


def _count_module_statistics(module: nn.Module) -> int:
    if not isinstance(module, _BatchNorm):
        return 0
    return sum(buffer.numel() for buffer in module.buffers(recurse=False) if buffer.is_floating_point())


def _describe_module(module: nn.Module) -> str:
    """Return the settings of a module for the layer table."""
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        kernel, stride = _as_pair(module.kernel_size), _as_pair(module.stride)
        usual = (1, 1) if isinstance(module, nn.Conv2d) else kernel
        parts = [f"{kernel[0]}x{kernel[1]}"]
        if stride != usual:
            parts.append(f"stride {stride[0]}" if stride[0] == stride[1] else f"stride {stride[0]}x{stride[1]}")
        if getattr(module, "groups", 1) > 1:
            parts.append(f"{module.groups} groups")
        return ", ".join(parts)
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"{module.p:g}"
    if isinstance(module, nn.LeakyReLU):
        return f"{module.negative_slope:g}"
    if isinstance(module, nn.PixelUnshuffle):
        return f"{module.downscale_factor}x{module.downscale_factor}"
    return ""


def _as_pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
