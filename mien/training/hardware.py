"""The device and the precision of a training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mien.core.errors import RecipeError


@dataclass(frozen=True)
class Hardware:
    """Device and data type in which a network runs."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto") -> Hardware:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            chosen = torch.device(device)
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            raise RecipeError(
                f"`run.device={device}`", "is not available on this machine", "use cpu or auto"
            ) from error
        if precision == "auto":
            precision = "bf16" if _has_fast_bf16(chosen) else "fp32"
        return cls(chosen, torch.bfloat16 if precision == "bf16" else torch.float32)

    @property
    def precision(self) -> str:
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def move_network(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, channels last in memory."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype == torch.bfloat16)


def _has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16 natively; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
