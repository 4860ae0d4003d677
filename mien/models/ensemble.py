"""An ensemble as one network: the weighted mean of the members' probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mien.models.feature_network import FeatureNetwork


class Ensemble(nn.Module):
    """logits = log Σᵢ wᵢ softmax(logitsᵢ / Tᵢ), so that a softmax over them gives the weighted mean of probabilities.

    Takes gray pictures in 0..1 and gives each member its own normalization and number of channels. Its features are
    those of all members, concatenated.

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
            # The arguments define them, so they are not part of the stored state.
            for what in ("mean", "std"):
                values = torch.tensor(member[what], dtype=torch.float32).view(1, -1, 1, 1)
                self.register_buffer(f"{what}{index}", values, persistent=False)
        self.widths = [_count_features(network) for network in networks]
        self.width: int = sum(self.widths)

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, S, S) → (N, ΣD)."""
        return torch.cat(
            [
                cast(FeatureNetwork, network).features(
                    (images - getattr(self, f"mean{index}")) / getattr(self, f"std{index}")
                )
                for index, network in enumerate(self.networks)
            ],
            dim=1,
        )

    def head(self, features: Tensor) -> Tensor:
        """(N, ΣD) → logits (N, K)."""
        parts = features.split(self.widths, dim=1)
        log_p = [
            torch.log_softmax(cast(FeatureNetwork, network).head(part) / temperature, dim=1)
            + torch.log(torch.tensor(weight))
            for network, part, weight, temperature in zip(
                self.networks, parts, self.weights, self.temperatures, strict=True
            )
        ]
        return torch.logsumexp(torch.stack(log_p), dim=0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def _count_features(network: nn.Module) -> int:
    """Return D of a member's features (N, D); a member may be an ensemble itself."""
    if isinstance(network, Ensemble):
        return network.width
    assert isinstance(network.head, nn.Linear)
    return network.head.in_features
