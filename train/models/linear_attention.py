"""Attention whose cost grows with the number of tokens, not with its square (MFRGN).

    phi(x) = elu(x) + 1
    out_t = phi(q_t) . sum_s phi(k_s) v_s^T  /  (phi(q_t) . sum_s phi(k_s) + 1e-6)

FP16: the published code divides the values by the number of source tokens S, and multiplies the
result by it, so that the sum of outer products stays in range; its denominator is left a sum,
which passes 65504 from about a thousand tokens on. Here both sums are means over the source. The
quotient stays as it was (the small constant is 1e-6 / S then), and so does the range of both.

Softmax attention, the published alternative, stands beside it for comparison:

    out_t = sum_s softmax_s(q_t . k_s / sqrt(c)) v_s        c = 32 channels a head
"""

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

EPSILON = 1e-6  # published code
HEADS = 4  # published code

AttentionName = Literal["linear", "softmax"]


def linear_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mix values (B, h, S, c) for queries (B, h, T, c) by keys (B, h, S, c)."""
    query, key = F.elu(query) + 1, F.elu(key) + 1
    count = key.shape[2]
    mean_key = key.mean(dim=2, keepdim=True)  # (B, h, 1, c)
    mean_outer = key.transpose(2, 3) @ (value / count)  # (B, h, c, c)
    weight = (query * mean_key).sum(dim=3, keepdim=True)  # (B, h, T, 1)
    return (query @ mean_outer) / (weight + EPSILON / count)  # (B, h, T, c)


def softmax_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mix values (B, h, S, c) for queries (B, h, T, c) by keys (B, h, S, c)."""
    logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])  # (B, h, T, S)
    return logits.softmax(dim=3) @ value  # (B, h, T, c)


class CrossLayer(nn.Module):
    """One layer of MFRGN's light transformer: tokens look at a source, normalised after sums."""

    def __init__(
        self, width: int, feedforward: int, dropout: float, attention: AttentionName = "linear"
    ) -> None:
        super().__init__()
        self.attention = linear_attention if attention == "linear" else softmax_attention
        self.query_proj = nn.Linear(width, width)
        self.key_proj = nn.Linear(width, width)
        self.value_proj = nn.Linear(width, width)
        self.merge = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, feedforward, bias=False),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width, bias=False),
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for projection in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, tokens: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Update tokens (B, T, C) from a source (B, S, C)."""
        mixed = self.attention(
            _heads(self.query_proj(tokens)),
            _heads(self.key_proj(source)),
            _heads(self.value_proj(source)),
        )  # (B, h, T, c)
        message = self.merge(mixed.transpose(1, 2).flatten(2))  # (B, T, C)
        tokens = self.norm1(tokens + self.dropout(message))
        return torch.as_tensor(self.norm2(tokens + self.dropout(self.mlp(tokens))))


class CrossStack(nn.Module):
    """Layers that update one group of tokens from both groups."""

    def __init__(
        self,
        width: int,
        depth: int,
        feedforward: int,
        dropout: float,
        attention: AttentionName = "linear",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CrossLayer(width, feedforward, dropout, attention) for _ in range(depth)
        )

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
