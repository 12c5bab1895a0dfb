"""GeoDTR+ (arXiv 2308.09624) for a drone: square pictures, one branch for both views.

    raw r = backbone(image)                  (B, C, H, W), stride 16
    layout p = GLE(r)                        (B, HW, K) in (0, 1): where each descriptor looks
    f[c, k] = sum over places of r[c] p[k]   (B, C*K), channel-major, then unit length

K geometric layout descriptors (GLD) p are made by a transformer over all places. The
counterfactual descriptor takes layouts drawn from U(0, 1) in their stead; a loss drives the two
apart, so that layouts must carry what descriptors depend on.

The GLE is the published one, version 2, with its parameter names. The published network has one
backbone and one GLE a view. Ours, for patches of one ground area under two skies, are the sharing,
the norm behind the backbone and the centring of layouts: a layout's mean over all places weighs
the mean colour of the patch, which is what season and sensor change, and before training that
mean outweighs all that tells one place from another.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .backbones import PAPER_LAYER_SCALE, ChannelNorm, ConvNeXt
from .encoded import Encoded

STRIDE_PX = 16  # the published cut: stem and three stages
STAGES = 3
LAYERS = 2  # the published run's settings
HEADS = 4
FEEDFORWARD = 512
DROPOUT = 0.3
BOTTLENECK_STD = 0.005  # the published initial values of the bottleneck
BOTTLENECK_BIAS = 0.1
LAYOUT_LOGIT_STD = 2.0  # ours: the sigmoid then spreads over most of (0, 1)


class GeoDTRDrone(nn.Module):
    """Descriptors of C*K dimensions, or of `projection` where given."""

    def __init__(
        self,
        size: str = "tiny",
        input_px: int = 256,
        layouts: int = 8,
        projection: int | None = None,
        bottleneck: bool = True,
        feedforward: int = FEEDFORWARD,
        dropout: float = DROPOUT,
        layer_scale: float = PAPER_LAYER_SCALE,
    ) -> None:
        super().__init__()
        self.backbone = ConvNeXt(size, STAGES, layer_scale)
        width, places = self.backbone.widths[-1], (input_px // STRIDE_PX) ** 2
        self.norm = ChannelNorm(width)
        self.GLE = GeometricLayoutExtractor(
            width, places, layouts, bottleneck, feedforward, dropout
        )
        if bottleneck:  # layouts start as K different pictures, not as K constants
            nn.init.normal_(self.GLE.b2, std=LAYOUT_LOGIT_STD)
        self.projection = (
            nn.Linear(width * layouts, projection) if projection is not None else nn.Identity()
        )

    def forward(self, images: torch.Tensor) -> Encoded:
        """Encode images (B, 3, P, P); layouts and counterfactuals come while training."""
        raw = self.norm(self.backbone(images)).flatten(2)  # (B, C, HW)
        layout = self.GLE(raw.transpose(1, 2))  # (B, HW, K)
        descriptor = self._described(raw, layout)
        if not self.training:
            return Encoded(descriptor)
        return Encoded(descriptor, layout, self._described(raw, torch.rand_like(layout)))

    def _described(self, raw: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        centred = layout - layout.mean(dim=1, keepdim=True)  # (B, HW, K)
        product = torch.bmm(raw, centred.to(raw.dtype))  # (B, C, K)
        return F.normalize(self.projection(product.flatten(1)).float(), dim=1)


class GeometricLayoutExtractor(nn.Module):
    """The published SCGeoLayoutExtractor: features of all places to K maps in (0, 1)."""

    def __init__(
        self,
        width: int,
        places: int,
        layouts: int,
        bottleneck: bool,
        feedforward: int = FEEDFORWARD,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        self.pe = PositionEmbedding(places, width, dropout)
        self.transformer_encoder = Encoder(width, feedforward, dropout)
        self.pointwise = nn.Linear(width, layouts)
        self.bottleneck = bottleneck
        if bottleneck:
            self._add_bottleneck(layouts, places, places // 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, HW, C) to layouts (B, HW, K)."""
        maps = self.pointwise(self.transformer_encoder(self.pe(features)))  # (B, HW, K)
        return torch.sigmoid(self._squeezed(maps) if self.bottleneck else maps)

    def _add_bottleneck(self, layouts: int, places: int, inner: int) -> None:
        """Each layout's own two affine maps HW -> HW/2 -> HW, with nothing in between."""
        self.w1 = nn.Parameter(torch.randn(layouts, places, inner) * BOTTLENECK_STD)
        self.b1 = nn.Parameter(torch.full((1, layouts, inner), BOTTLENECK_BIAS))
        self.w2 = nn.Parameter(torch.randn(layouts, inner, places) * BOTTLENECK_STD)
        self.b2 = nn.Parameter(torch.full((1, layouts, places), BOTTLENECK_BIAS))

    def _squeezed(self, maps: torch.Tensor) -> torch.Tensor:
        rows = maps.permute(2, 0, 1)  # (K, B, HW)
        inner = torch.bmm(rows, self.w1) + self.b1.transpose(0, 1)  # (K, B, HW/2)
        outer = torch.bmm(inner, self.w2) + self.b2.transpose(0, 1)  # (K, B, HW)
        return outer.permute(1, 2, 0)  # (B, HW, K)


class PositionEmbedding(nn.Module):
    """A learned vector a place, added; then dropout."""

    def __init__(self, places: int, width: int, dropout: float) -> None:
        super().__init__()
        self.pe = nn.Parameter(torch.zeros(1, places, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, HW, C) to the same shape."""
        return torch.as_tensor(self.dropout(features + self.pe))


class Encoder(nn.Module):
    """torch's TransformerEncoder by names and numbers, without the fused path that no ONNX has."""

    def __init__(self, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(EncoderLayer(width, feedforward, dropout) for _ in range(LAYERS))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to the same shape."""
        return torch.as_tensor(self.norm(self.layers(tokens)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with its residual, normalised after the sum."""

    def __init__(self, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to the same shape."""
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens)))
        inner = self.dropout(F.gelu(self.linear1(tokens)))  # (B, T, F)
        return torch.as_tensor(self.norm2(tokens + self.dropout(self.linear2(inner))))


class SelfAttention(nn.Module):
    """torch's MultiheadAttention by names and numbers."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to the same shape."""
        batch, count, width = tokens.shape
        joint = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        heads = joint.reshape(batch, count, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C/heads)
        similarity = query @ key.transpose(2, 3) / math.sqrt(width // HEADS)
        weights = self.dropout(similarity.softmax(dim=-1))  # (B, heads, T, T)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, count, width)
        return torch.as_tensor(self.out_proj(mixed))
