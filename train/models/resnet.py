"""ResNet (arXiv 1512.03385) with torchvision's state-dict names, which are timm's as well.

    conv 7x7/2 -> [max-pool 3x3/2] -> layer1 -> layer2 -> layer3 -> layer4     strides 4, 8, 16, 32
    block: relu(x' + F(x)); F is two 3x3 (18, 34) or 1x1, 3x3, 1x1 (50) convolutions

Where a stage begins, the 3x3 convolution (the first of a basic block) and the projection of x
halve the sides. Without the max-pool all strides are half as long (GeoDTR); with `last_stride` 1
the last stage keeps its sides (University-1652). There is no head.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .config import ResNetName

STEM_WIDTH = 64


class Size(NamedTuple):
    """Blocks and channels per stage."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]


SIZES: dict[ResNetName, Size] = {
    "resnet18": Size((2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet34": Size((3, 4, 6, 3), (64, 128, 256, 512)),
    "resnet50": Size((3, 4, 6, 3), (256, 512, 1024, 2048)),
}


class ResNet(nn.Module):
    """The trunk: images in, one feature map a stage out."""

    def __init__(self, name: ResNetName, last_stride: int = 2, max_pool: bool = True) -> None:
        super().__init__()
        depths, self.widths = SIZES[name]
        block = Bottleneck if name == "resnet50" else BasicBlock
        self.max_pool = max_pool
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.layer1 = _stage(block, STEM_WIDTH, self.widths[0], depths[0], stride=1)
        self.layer2 = _stage(block, self.widths[0], self.widths[1], depths[1], stride=2)
        self.layer3 = _stage(block, self.widths[1], self.widths[2], depths[2], stride=2)
        self.layer4 = _stage(block, self.widths[2], self.widths[3], depths[3], last_stride)
        self.apply(_initialise)

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature maps (B, C_i, H/2^(i+2), W/2^(i+2)) of the stages, sides rounded up."""
        x = F.relu(self.bn1(self.conv1(images)))  # (B, 64, H/2, W/2)
        if self.max_pool:
            x = F.max_pool2d(x, 3, stride=2, padding=1)  # (B, 64, H/4, W/4)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return tuple(maps)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The last stage's feature map (B, C, H, W)."""
        return torch.as_tensor(self.forward_features(images)[-1])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the residual."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(below, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_below, H, W) to (B, C, H', W')."""
        y = F.relu(self.bn1(self.conv1(x)))  # (B, C, H', W')
        return F.relu(self.downsample(x) + self.bn2(self.conv2(y)))


class Bottleneck(nn.Module):
    """A 3x3 convolution at a quarter of the width between two of 1x1, and the residual."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        inner = width // 4
        self.conv1 = nn.Conv2d(below, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = _projection(below, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_below, H, W) to (B, C, H', W')."""
        y = F.relu(self.bn1(self.conv1(x)))  # (B, C/4, H, W)
        y = F.relu(self.bn2(self.conv2(y)))  # (B, C/4, H', W')
        return F.relu(self.downsample(x) + self.bn3(self.conv3(y)))


def _projection(below: int, width: int, stride: int) -> nn.Module:
    """What brings a block's input to the shape of its output."""
    if below == width and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(below, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
    )


def _stage(
    block: type[BasicBlock | Bottleneck], below: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    rest = [block(width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(below, width, stride), *rest)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
