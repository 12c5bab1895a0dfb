"""Attention whose cost grows with the number of tokens, not with its square (MFRGN).

    phi(x) = elu(x) + 1
    out_t = phi(q_t) . sum_s phi(k_s) v_s^T  /  (phi(q_t) . sum_s phi(k_s) + 1e-6)

Both sums are divided by the number of source tokens S, which leaves the quotient as it was but for
the small constant (1e-6 / S here): undivided, a thousand tokens leave the range of FP16.
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

EPSILON = 1e-6  # MFRGN
HEADS = 4
FEEDFORWARD = 1024  # the published code; the paper says 2048
DROPOUT = 0.3


def linear_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mix values (B, h, S, c) for queries (B, h, T, c) by keys (B, h, S, c)."""
    query, key = F.elu(query) + 1, F.elu(key) + 1
    count = key.shape[2]
    mean_key = key.mean(dim=2, keepdim=True)  # (B, h, 1, c)
    mean_outer = key.transpose(2, 3) @ (value / count)  # (B, h, c, c)
    weight = (query * mean_key).sum(dim=3, keepdim=True)  # (B, h, T, 1)
    return (query @ mean_outer) / (weight + EPSILON / count)  # (B, h, T, c)


class CrossLayer(nn.Module):
    """One layer of MFRGN's light transformer: tokens look at a source, normalised after sums."""

    def __init__(self, width: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.query_proj = nn.Linear(width, width)
        self.key_proj = nn.Linear(width, width)
        self.value_proj = nn.Linear(width, width)
        self.merge = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, FEEDFORWARD, bias=False),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(FEEDFORWARD, width, bias=False),
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for projection in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, tokens: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Update tokens (B, T, C) from a source (B, S, C)."""
        mixed = linear_attention(
            _heads(self.query_proj(tokens)),
            _heads(self.key_proj(source)),
            _heads(self.value_proj(source)),
        )
        message = self.merge(mixed.transpose(1, 2).flatten(2))  # (B, T, C)
        tokens = self.norm1(tokens + self.dropout(message))
        return torch.as_tensor(self.norm2(tokens + self.dropout(self.mlp(tokens))))


class CrossStack(nn.Module):
    """Layers that update one group of tokens from both groups."""

    def __init__(self, width: int, depth: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossLayer(width, dropout) for _ in range(depth))

    def forward(
        self, tokens: torch.Tensor, before: torch.Tensor | None, after: torch.Tensor | None
    ) -> torch.Tensor:
        """Update tokens (B, T, C); the source is [before; tokens; after] at every layer."""
        for layer in self.layers:
            parts = [part for part in (before, tokens, after) if part is not None]
            tokens = layer(tokens, torch.cat(parts, dim=1))
        return tokens


def _heads(x: torch.Tensor) -> torch.Tensor:
    batch, count, width = x.shape
    return x.reshape(batch, count, HEADS, width // HEADS).transpose(1, 2)  # (B, h, T, c)
