"""ConvNeXt (arXiv 2201.03545) with timm's state-dict names, cut after any stage.

    stem 4x4/4 -> [LayerNorm, 2x2/2] -> blocks -> ...        strides 4, 8, 16, 32
    block: x + gamma * fc2(gelu(fc1(norm(conv_dw_7x7(x)))))

timm writes the two maps of a block's MLP as linear layers (tiny to base) or as 1x1 convolutions
(atto to nano). Here they are linear layers in both cases; loading drops the two unit axes.

Maps are channels-last in memory: the permutations around the LayerNorm and the MLP are views.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

NORM_EPS = 1e-6  # timm and torchvision
INIT_STD = 0.02  # the paper's truncated normal
PAPER_LAYER_SCALE = 1e-6  # suits its 300 epochs; short runs from scratch want 0.1


class Size(NamedTuple):
    """Blocks and channels per stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


SIZES = {
    "convnext_atto": Size((2, 2, 6, 2), (40, 80, 160, 320)),
    "convnext_femto": Size((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnext_pico": Size((2, 2, 6, 2), (64, 128, 256, 512)),
    "convnext_nano": Size((2, 2, 8, 2), (80, 160, 320, 640)),
    "convnext_tiny": Size((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": Size((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": Size((3, 3, 27, 3), (128, 256, 512, 1024)),
}


class ConvNeXt(nn.Module):
    """The trunk: images in, one feature map a stage out."""

    def __init__(
        self,
        size: str,
        stages: int = 4,
        layer_scale: float = PAPER_LAYER_SCALE,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        depths, widths = SIZES[size].depths[:stages], SIZES[size].widths[:stages]
        self.widths = widths
        # from 0 at the first to `drop_path` at the last block of the whole network, cut or not
        last = sum(SIZES[size].depths) - 1
        rates = [drop_path * block / last for block in range(last + 1)]
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        narrower = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            Stage(below, width, layer_scale, rates[sum(depths[:i]) : sum(depths[: i + 1])])
            for i, (below, width) in enumerate(zip(narrower, widths, strict=True))
        )
        self.apply(_initialise)

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature maps (B, C_i, H/2^(i+2), W/2^(i+2)) of the stages, sides rounded down."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The last stage's feature map (B, C, H, W)."""
        return torch.as_tensor(self.forward_features(images)[-1])


class Stage(nn.Module):
    """Halve the sides where the width changes, then a row of blocks."""

    def __init__(self, below: int, width: int, layer_scale: float, rates: list[float]) -> None:
        super().__init__()
        self.downsample = (
            nn.Sequential(ChannelNorm(below), nn.Conv2d(below, width, 2, stride=2))
            if below != width
            else nn.Identity()
        )
        self.blocks = nn.Sequential(*(Block(width, layer_scale, rate) for rate in rates))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_below, H, W) to (B, C, H', W')."""
        return torch.as_tensor(self.blocks(self.downsample(x)))


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, a four times wider MLP, layer scale, residual."""

    def __init__(self, width: int, layer_scale: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)
        self.gamma = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        y = self._neighbours(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.mlp(self.norm(y), self.gamma)
        if self.training and self.drop_path:
            y = _dropped(y, self.drop_path)
        return torch.as_tensor(x + y.permute(0, 3, 1, 2))  # (B, C, H, W)

    def _neighbours(self, x: torch.Tensor) -> torch.Tensor:
        """The depthwise convolution; on a CPU its backward pass is three times slower in bf16."""
        if x.device.type != "cpu":
            return torch.as_tensor(self.conv_dw(x))
        with torch.autocast("cpu", enabled=False):
            return torch.as_tensor(self.conv_dw(x.float()))


class Mlp(nn.Module):
    """Two linear maps over the channels of (B, H, W, C), the second one scaled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape; `gamma` (C,) scales the second map's rows.

        Scaling weights instead of the result saves a pass over the map, and under autocast keeps
        the residual in the narrow type.
        """
        hidden = F.gelu(self.fc1(x))  # (B, H, W, 4C)
        return F.linear(hidden, self.fc2.weight * gamma[:, None], self.fc2.bias * gamma)

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: object
    ) -> None:
        """Take timm's 1x1 convolutions (out, in, 1, 1) as the linear maps they are."""
        for key in (f"{prefix}fc1.weight", f"{prefix}fc2.weight"):
            if key in state_dict and state_dict[key].ndim == 4:
                state_dict[key] = state_dict[key].flatten(1)
        super()._load_from_state_dict(state_dict, prefix, *args)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _dropped(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Stochastic depth (arXiv 1603.09382): zero whole images of (B, H, W, C), scale up the rest."""
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= rate
    return x * kept / (1 - rate)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
