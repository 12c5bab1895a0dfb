"""MFRGN (ACM MM 2024), two views of their own heads, and its drone variant that shares all.

S1..S3 are the backbone's last three maps (strides 8, 16, 32), S4 a strided convolution of S3; all
are embedded to 128 channels (E1..E4). Backbone and embedding are shared by the views.

    global   F_L = 622 pooled tokens of E1 (pyramid_pooling.py), F_H = tokens of E2..E4;
             two layers update F_H from [F_L; F_H], one updates F_L; a linear map over the
             tokens leaves 14 rows of 128
    local    the updated tokens of each scale become a prompt as wide as S_i; it weighs the
             channels and places of S_i, whose mean over places is kept, and a linear map
             leaves 256
    descriptor = unit([global 1792; local 256])

Without pyramid pooling F_L holds all tokens of E1, with no norm of its own, and the local flow
weighs all places of S1. What is published of the code gives no kernel of the spatial weights for
that case; 9x9 and, for the street, 7x13 are read off the pooled tokens' 81x1 and 91x1, which are
these two laid flat, and continue the other scales' 7x7, 5x5, 3x3 and 7x13.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError, ModelError

from . import convnext, resnet
from .config import InputSizes, MFRGNConfig, MFRGNDroneConfig, PyramidName
from .convnext import ConvNeXt
from .linear_attention import CrossStack
from .network import Encoded, Network, square_px
from .pyramid_pooling import pyramid_pooling
from .recognise import backbone_in
from .resnet import ResNet

WIDTH = 128  # channels of the embedding
GLOBAL_ROWS = 14
LOCAL_WIDTH = 256
PROMPT_KERNEL = 5  # tokens
NORM_GROUPS = 32
STRIDES = (8, 16, 32)  # of S1..S3
BACKBONE = "backbone.backbone."
# the loss's temperature, which train/losses.py holds, and heads that no descriptor passes
UNUSED_OFFICIAL = ("logit_scale", f"{BACKBONE}head.", f"{BACKBONE}fc.")
OFFICIAL_BRANCHES = {"sat": "aerial", "grd": "ground"}
OFFICIAL_NORMS = {"norm1.": "aerial.norm1.", "norm2.": "ground.norm1."}

Grid = tuple[int, int]  # rows, columns


class Sampling(NamedTuple):
    """What a branch does with places."""

    cells: tuple[Grid, ...]  # of the poolings of S1
    kernels: tuple[Grid, ...]  # of the spatial weights of the scales; S1's is laid flat if pooled


AERIAL = Sampling(((1, 1), (6, 6), (12, 12), (21, 21)), ((9, 9), (7, 7), (5, 5), (3, 3)))
STREET = Sampling(((1, 1), (3, 12), (6, 24), (7, 63)), ((7, 13),) * 4)


class Branch(Network):
    """What follows the embedding, for views of one size: maps in, both flows' vectors out."""

    def __init__(
        self,
        config: MFRGNConfig | MFRGNDroneConfig,
        input_px: InputSizes,
        sampling: Sampling,
        rows: int = GLOBAL_ROWS,
    ) -> None:
        super().__init__(input_px)
        grids = pyramid_grids(config.backbone, next(iter(input_px.values())))
        widths = (*pyramid_widths(config.backbone), WIDTH)
        pooling = pyramid_pooling(sampling.cells, grids[0]) if config.pps else None
        kernels = list(sampling.kernels)
        if pooling is not None:
            grids = ((len(pooling), 1), *grids[1:])
            kernels[0] = (math.prod(kernels[0]), 1)
        self.grids = grids  # of the tokens, per scale
        self.register_buffer("pooling", pooling, persistent=False)
        self.pooling: torch.Tensor | None  # (622, H1*W1)
        self.norm1 = nn.Identity() if pooling is None else nn.LayerNorm(WIDTH)
        layer = (config.feedforward, config.dropout, config.attention)
        self.transformer_H = CrossStack(WIDTH, 2, *layer)
        self.transformer_L = CrossStack(WIDTH, 1, *layer)
        self.proj = nn.Linear(sum(math.prod(grid) for grid in grids), rows)
        self.proj_gl = nn.ModuleList(_prompt(width) for width in widths)
        self.ch = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths)
        self.sp = nn.ModuleList(
            nn.Conv2d(1, 1, kernel, padding=(kernel[0] // 2, kernel[1] // 2)) for kernel in kernels
        )
        self.proj_local = nn.Linear(sum(widths), LOCAL_WIDTH)

    def describe(self, raw: list[torch.Tensor], embedded: list[torch.Tensor]) -> torch.Tensor:
        """Both flows (B, rows * 128 + 256) from S1..S4 and E1..E4, each (B, C, H, W)."""
        groups = self._related([_tokens(x) for x in embedded])  # four of (B, T_i, 128)
        overall = self.proj(torch.cat(groups, dim=1).transpose(1, 2)).flatten(1)  # (B, 128 * rows)
        local = self.proj_local(
            torch.cat([self._weighed(i, raw[i], groups[i]) for i in range(len(raw))], dim=1)
        )  # (B, 256)
        return torch.cat([overall, local], dim=1)

    def _related(self, tokens: list[torch.Tensor]) -> list[torch.Tensor]:
        """Let the tokens of E1 and those of E2..E4 look at each other."""
        low = tokens[0] if self.pooling is None else self.pooling @ tokens[0]  # (B, T_1, 128)
        low = self.norm1(low)
        high = torch.cat(tokens[1:], dim=1)
        high = self.transformer_H(high, before=low, after=None)
        low = self.transformer_L(low, before=None, after=high)
        return [low, *high.split([part.shape[1] for part in tokens[1:]], dim=1)]

    def _weighed(self, scale: int, raw: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean over places of S*ch*sp + S, (B, C); ch (B, C) leaves the mean as a factor.

        S1 counts by its pooled cells. They are linear in its places, so the weights are pooled
        backwards instead: the cells of the wide raw map are never made.
        """
        prompt = self.proj_gl[scale](tokens.transpose(1, 2))  # (B, C, T)
        per_channel = self.ch[scale](prompt.mean(dim=2)[:, :, None, None]).sigmoid().flatten(1)
        peak = prompt.amax(dim=1, keepdim=True).unflatten(2, self.grids[scale])  # (B, 1, H, W)
        per_place = self.sp[scale](peak).sigmoid().flatten(1)  # (B, T)
        weights = torch.stack([per_place, torch.ones_like(per_place)], dim=2)  # (B, T, 2)
        weights = weights / per_place.shape[1]
        if scale == 0 and self.pooling is not None:
            weights = self.pooling.T @ weights  # (B, H1*W1, 2)
        means = raw.flatten(2) @ weights.to(raw.dtype)  # (B, C, 2)
        return torch.as_tensor(means[:, :, 0] * per_channel + means[:, :, 1])


class MFRGN(Network):
    """The two-view network (TimmModel): descriptors of 2048 dimensions."""

    def __init__(self, config: MFRGNConfig, input_px: InputSizes) -> None:
        super().__init__(input_px)
        if set(input_px) != {"ground", "aerial"}:
            raise InputError(
                f"mfrgn takes the input sizes of ground and aerial, not of {', '.join(input_px)}"
            )
        self.backbone = Trunk(config.backbone, config.layer_scale)
        self.embed = Embedding(config.backbone, input_px)
        self.aerial = Branch(config, {"aerial": input_px["aerial"]}, AERIAL)
        self.ground = Branch(config, {"ground": input_px["ground"]}, STREET)

    def encode(self, view: str, images: torch.Tensor) -> Encoded:
        """Encode images (B, 3, H, W) of "ground" or "aerial"."""
        branch = {"ground": self.ground, "aerial": self.aerial}[view]
        vector = branch.describe(*self.embed(self.backbone(images)))  # (B, 2048)
        return Encoded(F.normalize(vector.float(), dim=1))

    def encode_ground(self, images: torch.Tensor) -> Encoded:
        """Encode panoramas (B, 3, H, W)."""
        return self.encode("ground", images)

    def encode_aerial(self, images: torch.Tensor) -> Encoded:
        """Encode aerial images (B, 3, H, W)."""
        return self.encode("aerial", images)


class MFRGNDrone(Branch):
    """The drone variant (TimmModel_u): square images, one branch for all views."""

    def __init__(self, config: MFRGNDroneConfig, input_px: InputSizes) -> None:
        square_px(input_px)
        cells = tuple((count, count) for count in config.pooled_cells)
        super().__init__(config, input_px, AERIAL._replace(cells=cells), config.global_rows)
        self.backbone = Trunk(config.backbone, config.layer_scale)
        self.embed = Embedding(config.backbone, input_px)
        self.projection = (
            nn.Identity()
            if config.projection is None
            else nn.Linear(config.global_rows * WIDTH + LOCAL_WIDTH, config.projection)
        )

    def encode(self, view: str, images: torch.Tensor) -> Encoded:  # noqa: ARG002  views share all
        """Encode images (B, 3, P, P)."""
        vector = self.describe(*self.embed(self.backbone(images)))  # (B, rows * 128 + 256)
        return Encoded(F.normalize(self.projection(vector).float(), dim=1))


class Trunk(nn.Module):
    """The backbone one level down, where the published state dict has it."""

    def __init__(self, name: PyramidName, layer_scale: float) -> None:
        super().__init__()
        self.backbone: ConvNeXt | ResNet
        if name in resnet.SIZES:
            self.backbone = ResNet(name)
        else:
            self.backbone = ConvNeXt(name, layer_scale=layer_scale)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps S1..S3 of the last three stages."""
        return self.backbone.forward_features(images)[1:]


class Embedding(nn.Module):
    """Bring all scales to 128 channels, make S4, and add where each place is."""

    def __init__(self, backbone: PyramidName, input_px: InputSizes) -> None:
        super().__init__()
        widths = pyramid_widths(backbone)
        projections = [nn.Conv2d(width, WIDTH, 1) for width in widths]
        projections.append(nn.Conv2d(widths[-1], WIDTH, 3, stride=2, padding=1))
        self.input_proj = nn.ModuleList(
            nn.Sequential(projection, nn.GroupNorm(NORM_GROUPS, WIDTH))
            for projection in projections
        )
        finest = [pyramid_grids(backbone, size)[0] for size in input_px.values()]
        positions = sine_positions(max(h for h, _ in finest), max(w for _, w in finest))
        self.register_buffer("positions", positions, persistent=False)
        self.positions: torch.Tensor  # (128, H, W) of the largest map

    def forward(
        self, maps: tuple[torch.Tensor, ...]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """S1..S3 to S1..S4 and the embedded E1..E4."""
        projected = [
            projection(x) for projection, x in zip(self.input_proj, (*maps, maps[-1]), strict=True)
        ]
        embedded = [x + self.positions[:, : x.shape[2], : x.shape[3]] for x in projected]
        return [*maps, projected[-1]], embedded


def pyramid_widths(backbone: PyramidName) -> tuple[int, ...]:
    """Channels of S1..S3."""
    sizes = resnet.SIZES[backbone] if backbone in resnet.SIZES else convnext.SIZES[backbone]
    return sizes.widths[1:]


def pyramid_grids(backbone: PyramidName, size_px: tuple[int, int]) -> tuple[Grid, ...]:
    """Rows and columns of S1..S4; ResNets round sides up, ConvNeXts down, S4 always up."""
    if min(size_px) < STRIDES[-1]:
        raise InputError(f"MFRGN takes images of {STRIDES[-1]} px a side or more, not of {size_px}")
    up = backbone in resnet.SIZES
    sides = [
        [-(-side // stride) if up else side // stride for side in size_px] for stride in STRIDES
    ]
    sides.append([-(-side // 2) for side in sides[-1]])
    return tuple((height, width) for height, width in sides)


def sine_positions(height: int, width: int) -> torch.Tensor:
    """LoFTR's position code (128, H, W): sin x, cos x, sin y, cos y by turns; from 1."""
    frequency = torch.exp(torch.arange(0, WIDTH // 2, 2) * (-math.log(10000.0) / (WIDTH // 2)))
    x = frequency[:, None] * torch.arange(1, width + 1)  # (32, W)
    y = frequency[:, None] * torch.arange(1, height + 1)  # (32, H)
    code = torch.empty(WIDTH // 4, 4, height, width)
    code[:, 0], code[:, 1] = x.sin()[:, None, :], x.cos()[:, None, :]
    code[:, 2], code[:, 3] = y.sin()[:, :, None], y.cos()[:, :, None]
    return code.flatten(0, 1)


def state_from_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our state dict of a published one, of the two-view network or the drone's."""
    unused = UNUSED_OFFICIAL if _pools(state) else (*UNUSED_OFFICIAL, *OFFICIAL_NORMS)
    used = {key: value for key, value in state.items() if not key.startswith(unused)}
    if "proj_sat.weight" not in state:
        return used
    return {_our_name(key): value for key, value in used.items()}


def config_from_official(state: Mapping[str, torch.Tensor]) -> MFRGNConfig | MFRGNDroneConfig:
    """What the shapes of a published state dict tell; raises ModelError."""
    layer = "layers.0.mlp.0.weight"
    feedforward = len(_either(state, f"transformer_H.{layer}", f"transformer_sat_H.{layer}"))
    kind = MFRGNConfig if "proj_sat.weight" in state else MFRGNDroneConfig
    return kind(backbone=backbone_in(state, BACKBONE), pps=_pools(state), feedforward=feedforward)


def _pools(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether S1 is pooled: its spatial kernel is one token wide then."""
    return _either(state, "sp.0.weight", "sp_sat.0.weight").shape[3] == 1


def _either(state: Mapping[str, torch.Tensor], drone: str, two_views: str) -> torch.Tensor:
    for key in (drone, two_views):
        if key in state:
            return state[key]
    raise ModelError(f"this is no checkpoint of MFRGN: it has neither {drone} nor {two_views}")


def _our_name(key: str) -> str:
    """Published: proj_gl_sat.0..., transformer_grd_H...; ours: aerial.proj_gl.0..., and so on."""
    for norm, ours in OFFICIAL_NORMS.items():
        if key.startswith(norm):
            return ours + key.removeprefix(norm)
    found = re.match(r"(\w+)_(sat|grd)(_[HL])?\.", key)
    if found is None:
        return key
    part, view, group = found.groups(default="")
    return f"{OFFICIAL_BRANCHES[view]}.{part}{group}.{key[found.end() :]}"


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
