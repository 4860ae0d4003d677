"""Networks that can be trained. MODELS maps a name to its class; every network gives logits, and features before them."""

from __future__ import annotations

from typing import Any

from torch import nn

from mien.core.errors import ModelError
from mien.models.residual import ResidualNet

#: Name → class. Call with ``num_classes`` and the network's own arguments: ``MODELS["residual"](num_classes=7)``.
MODELS: dict[str, type[nn.Module]] = {
    "residual": ResidualNet,
}


def build(name: str, **arguments: Any) -> nn.Module:
    """A fresh network by name; an unknown name lists the choices, an unknown argument is named."""
    if name not in MODELS:
        raise ModelError(f"network '{name}'", "is unknown", f"choose one of {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**arguments)
    except TypeError as error:
        raise ModelError(f"network '{name}'", f"does not take these arguments ({error})", "see its docstring") from error
