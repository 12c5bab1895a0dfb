"""MFRGN (ACM MM 2024) for a drone: square pictures, everything shared between the views.

The published TimmModel_u, with its parameter names. S1..S3 are the backbone's last three maps
(strides 8, 16, 32), S4 a strided convolution of S3; all are embedded to 128 channels (E1..E4).

    global   F_L = 622 pooled tokens of E1 (1x1, 6x6, 12x12, 21x21 cells), F_H = tokens of E2..E4;
             two layers update F_H from [F_L; F_H], one updates F_L; a linear map over the
             tokens leaves 14 rows of 128
    local    the updated tokens of each scale become a prompt as wide as S_i; it weighs the
             channels and places of S_i, whose mean over places is kept, and a linear map
             leaves 256
    descriptor = unit([global 1792; local 256])
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .backbones import PAPER_LAYER_SCALE, ConvNeXt
from .encoded import Encoded
from .linear_attention import DROPOUT, CrossStack

WIDTH = 128  # channels of the embedding
GLOBAL_ROWS = 14
LOCAL_WIDTH = 256
POOLED_CELLS = (1, 6, 12, 21)  # cells a side of the four poolings
POOLED_TOKENS = sum(cells * cells for cells in POOLED_CELLS)  # 622
PROMPT_KERNEL = 5  # tokens
PLACE_KERNELS = ((81, 1), (7, 7), (5, 5), (3, 3))  # of the spatial weights, per scale
NORM_GROUPS = 32
# the loss's temperature, which train/losses.py holds, and a norm that no descriptor passes
UNUSED_OFFICIAL = ("logit_scale", "backbone.backbone.head.norm.weight",
                   "backbone.backbone.head.norm.bias")  # fmt: skip


class MFRGNDrone(nn.Module):
    """Descriptors of 2048 dimensions."""

    def __init__(
        self,
        size: str = "tiny",
        input_px: int = 384,
        dropout: float = DROPOUT,
        layer_scale: float = PAPER_LAYER_SCALE,
    ) -> None:
        super().__init__()
        self.backbone = Trunk(size, layer_scale)
        narrow = self.backbone.backbone.widths[1:]
        widths = (*narrow, WIDTH)
        self.sides = (input_px // 8, input_px // 16, input_px // 32, -(-(input_px // 32) // 2))
        tokens = POOLED_TOKENS + sum(side * side for side in self.sides[1:])
        self.embed = Embedding(narrow, self.sides)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.transformer_H = CrossStack(WIDTH, 2, dropout)
        self.transformer_L = CrossStack(WIDTH, 1, dropout)
        self.proj = nn.Linear(tokens, GLOBAL_ROWS)
        self.proj_gl = nn.ModuleList(_prompt(width) for width in widths)
        self.ch = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths)
        self.sp = nn.ModuleList(
            nn.Conv2d(1, 1, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
            for kernel in PLACE_KERNELS
        )
        self.proj_local = nn.Linear(sum(widths), LOCAL_WIDTH)
        self.register_buffer("pooling", pyramid_pooling(self.sides[0]), persistent=False)
        self.pooling: torch.Tensor  # (622, H1*W1)

    def forward(self, images: torch.Tensor) -> Encoded:
        """Encode images (B, 3, P, P)."""
        maps = self.backbone(images)  # S1..S3
        raw, embedded = self.embed(maps)  # S1..S4, E1..E4, each (B, C, H, W)
        groups = self._related([_tokens(x) for x in embedded])  # four of (B, T_i, 128)
        overall = self.proj(torch.cat(groups, dim=1).transpose(1, 2)).flatten(1)  # (B, 1792)
        local = self.proj_local(
            torch.cat([self._weighed(i, raw[i], groups[i]) for i in range(len(raw))], dim=1)
        )  # (B, 256)
        return Encoded(F.normalize(torch.cat([overall, local], dim=1).float(), dim=1))

    def _related(self, tokens: list[torch.Tensor]) -> list[torch.Tensor]:
        """Let the pooled tokens of E1 and those of E2..E4 look at each other."""
        low = self.norm1(self.pooling @ tokens[0])  # (B, 622, 128)
        high = torch.cat(tokens[1:], dim=1)
        high = self.transformer_H(high, before=low, after=None)
        low = self.transformer_L(low, before=None, after=high)
        return [low, *high.split([part.shape[1] for part in tokens[1:]], dim=1)]

    def _weighed(self, scale: int, raw: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean over places of S*ch*sp + S, (B, C); ch (B, C) leaves the mean as a factor.

        S1 counts by its 622 pooled cells. They are linear in its places, so the weights are
        pooled backwards instead: the cells of the wide raw map are never made.
        """
        prompt = self.proj_gl[scale](tokens.transpose(1, 2))  # (B, C, T)
        per_channel = self.ch[scale](prompt.mean(dim=2)[:, :, None, None]).sigmoid().flatten(1)
        peak = prompt.amax(dim=1, keepdim=True)  # (B, 1, T)
        side = self.sides[scale]
        shape = (POOLED_TOKENS, 1) if scale == 0 else (side, side)
        per_place = self.sp[scale](peak.unflatten(2, shape)).sigmoid().flatten(1)  # (B, T)
        weights = torch.stack([per_place, torch.ones_like(per_place)], dim=2)  # (B, T, 2)
        weights = weights / per_place.shape[1]
        if scale == 0:
            weights = self.pooling.T @ weights  # (B, H1*W1, 2)
        means = raw.flatten(2) @ weights.to(raw.dtype)  # (B, C, 2)
        return torch.as_tensor(means[:, :, 0] * per_channel + means[:, :, 1])

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: object
    ) -> None:
        """Pass over what published checkpoints hold beside the network."""
        for name in UNUSED_OFFICIAL:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Trunk(nn.Module):
    """The backbone one level down, where the published state dict has it."""

    def __init__(self, size: str, layer_scale: float) -> None:
        super().__init__()
        self.backbone = ConvNeXt(size, layer_scale=layer_scale)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps of the last three stages."""
        return self.backbone.forward_features(images)[1:]


class Embedding(nn.Module):
    """Bring all scales to 128 channels, make S4, and add where each place is."""

    def __init__(self, widths: tuple[int, ...], sides: tuple[int, ...]) -> None:
        super().__init__()
        projections = [nn.Conv2d(width, WIDTH, 1) for width in widths]
        projections.append(nn.Conv2d(widths[-1], WIDTH, 3, stride=2, padding=1))
        self.input_proj = nn.ModuleList(
            nn.Sequential(projection, nn.GroupNorm(NORM_GROUPS, WIDTH))
            for projection in projections
        )
        self.register_buffer("positions", sine_positions(max(sides)), persistent=False)
        self.positions: torch.Tensor  # (128, S, S)

    def forward(
        self, maps: tuple[torch.Tensor, ...]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """S1..S3 to S1..S4 and the embedded E1..E4."""
        projected = [
            projection(x) for projection, x in zip(self.input_proj, (*maps, maps[-1]), strict=True)
        ]
        embedded = [x + self.positions[:, : x.shape[2], : x.shape[3]] for x in projected]
        return [*maps, projected[-1]], embedded


def pyramid_pooling(side: int) -> torch.Tensor:
    """The four adaptive mean poolings of a square map as one matrix (622, side^2).

    Along each axis, cell i of n covers floor(i side / n) up to ceil((i + 1) side / n), as torch's
    adaptive pooling has it; ONNX has no such pooling where n does not divide the side.
    """
    blocks = []
    for cells in POOLED_CELLS:
        axis = torch.zeros(cells, side)
        for cell in range(cells):
            first, stop = cell * side // cells, -(-(cell + 1) * side // cells)
            axis[cell, first:stop] = 1 / (stop - first)
        blocks.append(torch.kron(axis, axis))
    return torch.cat(blocks)


def sine_positions(side: int) -> torch.Tensor:
    """LoFTR's position code (128, side, side): sin x, cos x, sin y, cos y by turns; from 1."""
    frequency = torch.exp(torch.arange(0, WIDTH // 2, 2) * (-math.log(10000.0) / (WIDTH // 2)))
    angle = frequency[:, None] * torch.arange(1, side + 1)  # (32, side)
    code = torch.empty(WIDTH // 4, 4, side, side)
    code[:, 0], code[:, 1] = angle.sin()[:, None, :], angle.cos()[:, None, :]
    code[:, 2], code[:, 3] = angle.sin()[:, :, None], angle.cos()[:, :, None]
    return code.flatten(0, 1)


def _prompt(width: int) -> nn.Sequential:
    """Tokens (B, 128, T) to a prompt (B, C, T)."""
    return nn.Sequential(
        nn.Conv1d(WIDTH, WIDTH, PROMPT_KERNEL, padding=PROMPT_KERNEL // 2),
        nn.BatchNorm1d(WIDTH),
        nn.Conv1d(WIDTH, width, PROMPT_KERNEL, padding=PROMPT_KERNEL // 2),
        nn.GELU(),
        nn.BatchNorm1d(width),
    )


def _tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, HW, C)
