"""Conversion of a face crop to the input tensor of a network: one specification for training, export and runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Weights of red, green and blue in gray pictures: ITU-R BT.601 luma, as in Pillow and OpenCV.
LUMA = (0.299, 0.587, 0.114)

#: Side of a ten-crop crop as a share of the picture's side: 44 of 48 pixels.
TEN_CROP = 44 / 48


#: The largest input of a network, in pixels a side. A damaged model file may contain any number.
MAX_SIZE = 2048


@dataclass(frozen=True)
class Preprocessing:
    """Size, channels, mean and standard deviation of a network's input; stored in every model file.

    ``mean`` and ``std`` have one value a channel, for pixels in 0..1. ``framing`` names the convention by which the
    training faces were cropped; each detector converts its boxes to such crops. Without ``color``, pictures are converted to
    gray, and a network of 3 channels gets the gray picture three times.
    """

    size: int = 48
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    framing: str = "fer2013"
    color: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if not 8 <= self.size <= MAX_SIZE or self.channels not in (1, 3):
            values = f"{self.size} and {self.channels}"
            raise ValueError(f"preprocessing needs a size of 8 to {MAX_SIZE:,} and 1 or 3 channels, not {values}")
        if self.color and self.channels != 3:
            raise ValueError("color needs 3 channels")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean {self.mean} and std {self.std} need one value for each of {self.channels} channels")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    def to_tensor(self, images: np.ndarray) -> np.ndarray:
        """Convert crops uint8 (N, H, W) gray or (N, H, W, 3) RGB to the input float32 (N, channels, size, size)."""
        images = self.convert_color(images)
        if images.shape[1:3] != (self.size, self.size):
            shape = (len(images), self.size, self.size, *images.shape[3:])
            images = np.array([resize(image, self.size) for image in images], np.uint8).reshape(shape)
        # Each of the 256 pixel values is normalized once and then looked up: faster than arithmetic on all pixels.
        scale = np.float32(1 / 255) / np.asarray(self.std, np.float32)
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        values = np.arange(256, dtype=np.float32)[:, None] * scale - shift  # (256, channels)
        tensor = np.empty((len(images), self.channels, self.size, self.size), np.float32)
        for channel in range(self.channels):
            pixels = images if images.ndim == 3 else images[..., channel]  # every channel gets the gray picture
            np.take(values[:, channel], pixels, out=tensor[:, channel], mode="clip")
        return tensor

    def convert_color(self, images: np.ndarray) -> np.ndarray:
        """Keep the colors of pictures uint8 (..., H, W[, 3]) if the network was trained on colors, else convert them to gray."""
        return images if self.color else convert_to_gray(images)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """Return what `to_json` made these values of; older files say ``colour`` for ``color``."""
        return cls(**{"color" if name == "colour" else name: value for name, value in values.items()})


def convert_to_gray(images: np.ndarray) -> np.ndarray:
    """Convert RGB uint8 (..., H, W, 3) to gray uint8 (..., H, W). Gray pictures (..., H, W) are returned unchanged."""
    if images.ndim < 3 or images.shape[-1] != 3:
        return images
    return np.round(images @ np.asarray(LUMA, np.float32)).astype(np.uint8)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a picture uint8 (H, W) or (H, W, 3) to (size, size[, 3]): area averages to shrink it, bilinear to enlarge it."""
    import cv2

    shrinks = image.shape[0] >= size and image.shape[1] >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
