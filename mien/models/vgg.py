"""Plain stacks of 3×3 convolutions: R1's final network, R3's and R5's (after Simonyan & Zisserman, "Very Deep
Convolutional Networks for Large-Scale Image Recognition", 2015)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def conv_norm_relu(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


class R1Final(nn.Module):
    """R1's final network, layer by layer as its report has it: 39,636,295 parameters for seven classes.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 8.
    """

    def __init__(self, num_classes: int, channels: int = 1, size: int = 48) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv_norm_relu(channels, 32), nn.MaxPool2d(2), nn.Dropout(0.1))
        self.conv2 = nn.Sequential(*conv_norm_relu(32, 64), nn.MaxPool2d(2), nn.Dropout(0.1))
        self.conv3 = nn.Sequential(
            nn.Conv2d(64, 256, 3, padding=1),
            nn.BatchNorm2d(256),  # no ReLU between these two, as written
            *conv_norm_relu(256, 256),
            nn.MaxPool2d(2),
        )

        def linear(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]

        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            *linear(256 * (size // 8) ** 2, 4096),
            *linear(4096, 256),
            *linear(256, 256),
        )
        self.head = nn.Linear(256, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 256)."""
        return self.hidden(self.conv3(self.conv2(self.conv1(images))))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class R3VGG(nn.Module):
    """R3's network: four convolutions, each followed by a max-pool, and four linear layers.

    24,890,373 parameters for its three channels and five classes.

    Args:
        num_classes: how many expressions.
        channels: R3 gave gray pictures as RGB.
        size: side of the pictures, a multiple of 16.
    """

    def __init__(self, num_classes: int, channels: int = 3, size: int = 48) -> None:
        super().__init__()
        widths = (64, 128, 256, 512)
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(*conv_norm_relu(inputs, width), nn.MaxPool2d(2))
                for inputs, width in zip((channels, *widths), widths, strict=False)
            )
        )
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(512 * (size // 16) ** 2, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 1024),
            nn.ReLU(),
            nn.Linear(1024, 256),
            nn.ReLU(),
        )
        self.head = nn.Linear(256, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, 256)."""
        return self.hidden(self.convolutions(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class VGG10(nn.Module):
    """R5's VGG: four modules of two convolutions and a max-pool, [linear, dropout, ReLU], linear: 8 + 2 layers.

    The sizes are chosen here.

    Args:
        num_classes: how many expressions.
        channels: 1 for gray, 3 for RGB.
        size: side of the pictures, a multiple of 16.
        widths: channels of each module; (32, 64, 128, 256) is the same network at half width.
        hidden: width of the first linear layer.
        dropout: share dropped after it.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        size: int = 48,
        widths: Sequence[int] = (64, 128, 256, 512),
        hidden: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*conv_norm_relu(inputs, width), *conv_norm_relu(width, width), nn.MaxPool2d(2))
                for inputs, width in zip((channels, *widths), widths, strict=False)
            )
        )
        inputs = widths[-1] * (size // 2 ** len(widths)) ** 2
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.Dropout(dropout), nn.ReLU())
        self.head = nn.Linear(hidden, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, channels, S, S) → (N, hidden)."""
        return self.hidden(self.stages(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
