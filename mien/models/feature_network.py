"""The interface that all networks share: features, and logits from them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class FeatureNetwork(Protocol):
    """A network that is ``head(features(images))``."""

    def features(self, images: Tensor) -> Tensor:
        """Return features (N, D) of images (N, C, S, S)."""

    def head(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D)."""
