"""The network of mien's face detector."""

from __future__ import annotations

from torch import Tensor, nn

#: Answers of each cell: the logit of a face, its center's offset right and down, and the logarithm of its side.
ANSWERS = 4

#: The first logit of every cell: a face is expected in one cell of a hundred, so that the first steps are calm
#: (Lin et al., "Focal Loss for Dense Object Detection", 2017).
_PRIOR_LOGIT = -4.6


class FaceNet(nn.Module):
    """A fully convolutional face detector of one scale: one answer for every 8 × 8 pixels of luminance.

    A stem of stride 8 and residual blocks (He et al., "Deep Residual Learning", 2016) of plain 3 × 3 convolutions: on
    processors they train faster than depthwise ones, and the network is small enough. It sees 15 + 16 × depth pixels and
    answers to faces of a narrow range of sizes; the caller shows it the picture at several scales.

    width    channels of the blocks
    depth    number of blocks
    """

    def __init__(self, width: int = 48, depth: int = 5) -> None:
        super().__init__()
        self.arguments = {"width": width, "depth": depth}
        self.stem = nn.Sequential(
            *_convolve(1, width // 2, kernel=7, stride=4), *_convolve(width // 2, width, kernel=3, stride=2)
        )
        self.blocks = nn.ModuleList(nn.Sequential(*_convolve(width, width, kernel=3, stride=1)) for _ in range(depth))
        self.head = nn.Sequential(*_convolve(width, width, kernel=1, stride=1), nn.Conv2d(width, ANSWERS, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        last.bias.data[0] = _PRIOR_LOGIT

    def forward(self, luminance: Tensor) -> Tensor:
        """Return float32 (N, 4, H / 8, W / 8) for uint8 or float luminance in 0..255, (N, 1, H, W)."""
        features = self.stem((luminance.float() - 128) / 64)
        for block in self.blocks:
            features = features + block(features)
        answers: Tensor = self.head(features)
        return answers


def _convolve(channels: int, filters: int, *, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    ]
