"""VGG-16 with batch norm (arXiv 1409.1556) with torchvision's state-dict names (vgg16_bn).

    five times: two or three of [conv 3x3, batch norm, relu], then max-pool 2x2/2      stride 32

Only the convolutions: the three fully connected layers are left out.
"""

from collections.abc import Iterator

import torch
from torch import nn

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, channels


class VGG16(nn.Module):
    """The trunk: images in, the last feature map out."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = tuple(width for _, width in STAGES)
        self.features = nn.Sequential(*_layers())
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, 512, H/32, W/32), sides rounded down."""
        return torch.as_tensor(self.features(images))


def _layers() -> Iterator[nn.Module]:
    below = 3
    for depth, width in STAGES:
        for _ in range(depth):
            yield nn.Conv2d(below, width, 3, padding=1)
            yield nn.BatchNorm2d(width)
            yield nn.ReLU(inplace=True)
            below = width
        yield nn.MaxPool2d(2, stride=2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
