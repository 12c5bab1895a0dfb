"""The layout extractors of GeoDTR and GeoDTR+: where in a feature map each descriptor looks.

    version 1 (GeoDTR)    s = largest feature of each place, c = its channel / C        (B, HW)
                          t = A1_k s, a row a descriptor; + hardtanh(P_k c + e_k)       (B, K, HW/2)
                          p = hardtanh(A2_k transformer(t))                             in [-1, 1]
    version 2 (GeoDTR+)   t = linear(transformer(features + e)), tokens are the places  (B, HW, K)
                          p = sigmoid(A2_k A1_k t_k), A: HW -> HW/2 -> HW               in (0, 1)

A1, A2 are affine maps of each descriptor's own, with nothing in between; version 2 has them as an
option ("bottleneck"). Parameter names are the published ones.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

MAP_STD = 0.005  # published initial values of the maps A and P
MAP_BIAS = 0.1


class SaliencyLayoutExtractor(nn.Module):
    """Version 1: the K descriptors are the transformer's tokens."""

    def __init__(
        self, places: int, layouts: int, layers: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        inner = places // 2
        self.w1, self.b1 = _map((places, layouts, inner)), _bias(layouts, inner)
        self.w2, self.b2 = _map((inner, layouts, places)), _bias(layouts, places)
        self.tr_module = (
            IndexAwareEncoder(places, layouts, layers, heads, feedforward, dropout)
            if layers
            else None
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, HW, C) to layouts (B, HW, K)."""
        saliency, channel = features.max(dim=2)  # (B, HW)
        rows = _mapped_each(saliency, self.w1) + self.b1  # (B, K, HW/2)
        if self.tr_module is not None:
            rows = self.tr_module(rows, (channel / features.shape[2]).to(rows.dtype))
        outer = torch.bmm(rows.transpose(0, 1), self.w2.transpose(0, 1))  # (K, B, HW)
        return F.hardtanh(outer.permute(1, 2, 0) + self.b2.transpose(1, 2))  # (B, HW, K)

    def random_like(self, layouts: torch.Tensor) -> torch.Tensor:
        """Layouts (B, HW, K) from U(-1, 1), the range of the hardtanh."""
        return torch.rand_like(layouts) * 2 - 1


class IndexAwareEncoder(nn.Module):
    """A position code made of each place's strongest channel; then a transformer."""

    def __init__(
        self, places: int, layouts: int, layers: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        width = places // 2
        self.pos_encoder = IndexAwareEmbedding(places, layouts, width, dropout)
        self.transformer_encoder = Encoder(width, feedforward, dropout, layers, heads)

    def forward(self, rows: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
        """Rows (B, K, HW/2) and channels (B, HW) in 0..1 to the rows' shape."""
        return torch.as_tensor(self.transformer_encoder(self.pos_encoder(rows, channel)))


class IndexAwareEmbedding(nn.Module):
    """Add a squashed linear map of the channels; then dropout."""

    def __init__(self, places: int, layouts: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = _map((places, layouts, width))
        self.embedding_parameter = nn.Parameter(torch.zeros(1, layouts, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
        """Rows (B, K, HW/2) and channels (B, HW) to the rows' shape."""
        code = F.hardtanh(_mapped_each(channel, self.linear) + self.embedding_parameter)
        return torch.as_tensor(self.dropout(rows + code))


class GeometricLayoutExtractor(nn.Module):
    """Version 2 (SCGeoLayoutExtractor): the places are the transformer's tokens.

    Published checkpoints hold the bottleneck's maps also where it is not in use; so does this,
    without training them.
    """

    def __init__(
        self,
        width: int,
        places: int,
        layouts: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        bottleneck: bool = True,
        normalize: bool = False,
        orthogonalize: bool = False,
    ) -> None:
        super().__init__()
        inner = places // 2
        self.bottleneck, self.normalize, self.orthogonalize = bottleneck, normalize, orthogonalize
        self.pe = PositionEmbedding(places, width, dropout) if layers else nn.Identity()
        self.transformer_encoder = (
            Encoder(width, feedforward, dropout, layers, heads) if layers else nn.Identity()
        )
        self.pointwise = nn.Linear(width, layouts)
        self.w1, self.b1 = _map((layouts, places, inner)), _bias(layouts, inner)
        self.w2, self.b2 = _map((layouts, inner, places)), _bias(layouts, places)
        for parameter in (self.w1, self.b1, self.w2, self.b2):
            parameter.requires_grad_(bottleneck)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, HW, C) to layouts (B, HW, K)."""
        maps = self.pointwise(self.transformer_encoder(self.pe(features)))  # (B, HW, K)
        if self.bottleneck:
            maps = self._squeezed(maps)
        if self.normalize and self.orthogonalize:
            return orthonormal_columns(maps.float())
        return F.normalize(maps, dim=1) if self.normalize else torch.sigmoid(maps)

    def random_like(self, layouts: torch.Tensor) -> torch.Tensor:
        """Layouts (B, HW, K) from U(0, 1), the sigmoid's range; of unit length where these are."""
        drawn = torch.rand_like(layouts)
        return F.normalize(drawn, dim=1) if self.normalize else drawn

    def _squeezed(self, maps: torch.Tensor) -> torch.Tensor:
        """Each layout's own two affine maps HW -> HW/2 -> HW."""
        rows = maps.permute(2, 0, 1)  # (K, B, HW)
        inner = torch.bmm(rows, self.w1) + self.b1.transpose(0, 1)  # (K, B, HW/2)
        outer = torch.bmm(inner, self.w2) + self.b2.transpose(0, 1)  # (K, B, HW)
        return outer.permute(1, 2, 0)  # (B, HW, K)


def orthonormal_columns(columns: torch.Tensor) -> torch.Tensor:
    """Q of the QR decomposition of (B, M, N), M > N, with LAPACK's signs; ONNX knows no QR.

    A Householder reflection a column; Q is the reflections applied, last one first, to the unit
    matrix.
    """
    rows, count = columns.shape[1:]
    unit = torch.eye(rows, count, dtype=columns.dtype, device=columns.device)  # (M, N)
    normals: list[torch.Tensor] = []
    for k in range(count):
        column = columns[:, :, k : k + 1]  # (B, M, 1)
        for normal in normals:
            column = _reflected(column, normal)
        rest = torch.where(torch.arange(rows, device=columns.device)[:, None] < k, 0, column)
        length = torch.linalg.vector_norm(rest, dim=1, keepdim=True)  # (B, 1, 1)
        signed = torch.where(rest[:, k : k + 1] < 0, -length, length)
        normals.append(F.normalize(rest + signed * unit[:, k : k + 1], dim=1))
    q = unit.expand(columns.shape[0], rows, count)  # (B, M, N)
    for normal in reversed(normals):
        q = _reflected(q, normal)
    return q


def _reflected(x: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Mirror the columns of (B, M, N) at the plane with this normal (B, M, 1)."""
    return x - 2 * normal * (normal * x).sum(dim=1, keepdim=True)


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

    def __init__(
        self, width: int, feedforward: int, dropout: float, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(EncoderLayer(width, feedforward, dropout, heads) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to the same shape."""
        return torch.as_tensor(self.norm(self.layers(tokens)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with its residual, normalised after the sum."""

    def __init__(self, width: int, feedforward: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, dropout, heads)
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

    def __init__(self, width: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.heads = heads
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
        heads = joint.reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C/heads)
        similarity = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = self.dropout(similarity.softmax(dim=-1))  # (B, heads, T, T)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, count, width)
        return torch.as_tensor(self.out_proj(mixed))


def _map(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * MAP_STD)


def _bias(layouts: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.full((1, layouts, width), MAP_BIAS))


def _mapped_each(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rows (B, I) by each descriptor's own map, weights (I, K, J), to (B, K, J)."""
    return (x @ weights.flatten(1)).reshape(-1, *weights.shape[1:])
