"""Several networks as one: a weighted mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """logits = log Σᵢ wᵢ softmax(logitsᵢ / Tᵢ), so that a softmax over them gives the weighted mean of probabilities.

    Takes gray pictures in 0..1 and gives each member its own normalization and number of channels. Its features are
    those of all members, side by side.

    Args:
        networks: the members, each ``head(features(images))`` over the same classes.
        members: for each its ``mean``, ``std`` (one value a channel) and ``temperature``.
        weights: positive, summing to 1.
    """

    def __init__(
        self, networks: Sequence[nn.Module], members: Sequence[dict[str, Any]], weights: Sequence[float]
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.weights = list(weights)
        self.temperatures = [float(member["temperature"]) for member in members]
        for index, member in enumerate(members):
            # Known from the arguments, so they are not part of the stored state.
            for what in ("mean", "std"):
                values = torch.tensor(member[what], dtype=torch.float32).view(1, -1, 1, 1)
                self.register_buffer(f"{what}{index}", values, persistent=False)
        # A member may be an ensemble itself.
        self.widths = [n.width if isinstance(n, Ensemble) else n.head.in_features for n in networks]
        self.width = sum(self.widths)

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, S, S) → (N, ΣD)."""
        return torch.cat(
            [
                network.features((images - getattr(self, f"mean{index}")) / getattr(self, f"std{index}"))
                for index, network in enumerate(self.networks)
            ],
            dim=1,
        )

    def head(self, features: Tensor) -> Tensor:
        """(N, ΣD) → logits (N, K)."""
        parts = features.split(self.widths, dim=1)
        log_p = [
            torch.log_softmax(network.head(part) / temperature, dim=1) + torch.log(torch.tensor(weight))
            for network, part, weight, temperature in zip(
                self.networks, parts, self.weights, self.temperatures, strict=True
            )
        ]
        return torch.logsumexp(torch.stack(log_p), dim=0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
