"""R1's second network: AlexNet cut to the size of a face crop."""

from __future__ import annotations

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Five convolutions and three linear layers with dropout (Krizhevsky et al., 2012), without batch norm.

    Widths are AlexNet's own for one GPU (64, 192, 384, 256, 256); the first filters are 5×5 with stride 2 and the linear
    layers 1,024 wide, because a face here has 48 pixels and not 224.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 16.
        dropout: share dropped before each of the first two linear layers.
    """

    def __init__(self, num_classes: int, channels: int = 1, size: int = 48, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 5, stride=2, padding=2),  # (N, 64, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2),  # (N, 192, 12, 12)
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),  # (N, 384, 6, 6)
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 256, 3, 3)
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(256 * (size // 16) ** 2, 1024),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(1024, 1024),
            nn.ReLU(),
        )
        self.head = nn.Linear(1024, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 1024)."""
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
