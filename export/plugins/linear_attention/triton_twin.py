"""The executable specification of linear_attention.cu: the same two passes, in 40 lines of Triton.

    pass 1   outer (D, D) and weight (D) of a part of the source, in FP32
    pass 2   phi(q) . outer / (phi(q) . weight + epsilon) for a tile of queries

It runs under Triton's interpreter on a CPU (TRITON_INTERPRET=1), and on a GPU as it stands. It is
for checking, not for speed: the CUDA kernels are what engines run.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803 - kernels have Triton's own types, and constants in capitals

import torch
import triton
import triton.language as tl

TILE = 32  # rows at once


@triton.jit
def _phi(x):
    return tl.where(x > 0, x + 1, tl.exp(x))


@triton.jit
def _reduce(
    key,
    value,
    outer,
    weight,
    sources,
    rows,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    head, part, parts = tl.program_id(1), tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, WIDE)
    total, sums = tl.zeros((WIDE,), tl.float32), tl.zeros((WIDE, WIDE), tl.float32)
    last = tl.minimum((part + 1) * rows, sources)
    for first in range(part * rows, last, TILE):
        row = first + tl.arange(0, TILE)
        inside = (row < last)[:, None] & (channel < D)[None, :]
        at = (head * sources + row)[:, None] * D + channel[None, :]
        k = _phi(tl.load(key + at, mask=inside, other=float("-inf")).to(tl.float32))
        v = tl.load(value + at, mask=inside, other=0.0).to(tl.float32)
        sums += tl.dot(tl.trans(k), v, input_precision="ieee")
        total += tl.sum(k, axis=0)
    place = head * parts + part
    tl.store(outer + place * WIDE * WIDE + channel[:, None] * WIDE + channel[None, :], sums)
    tl.store(weight + place * WIDE + channel, total)


@triton.jit
def _apply(
    query,
    outer,
    weight,
    out,
    queries,
    parts,
    EPSILON: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    TILE: tl.constexpr,
):
    head = tl.program_id(1)
    channel, row = tl.arange(0, WIDE), tl.program_id(0) * TILE + tl.arange(0, TILE)
    total, sums = tl.zeros((WIDE,), tl.float32), tl.zeros((WIDE, WIDE), tl.float32)
    for part in range(parts):
        place = head * parts + part
        total += tl.load(weight + place * WIDE + channel)
        sums += tl.load(outer + place * WIDE * WIDE + channel[:, None] * WIDE + channel[None, :])
    inside = (row < queries)[:, None] & (channel < D)[None, :]
    at = (head * queries + row)[:, None] * D + channel[None, :]
    q = _phi(tl.load(query + at, mask=inside, other=0.0).to(tl.float32))
    share = tl.sum(q * total[None, :], axis=1) + EPSILON
    mixed = tl.dot(q, sums, input_precision="ieee") / share[:, None]
    tl.store(out + at, mixed.to(out.dtype.element_ty), mask=inside)


def linear_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    epsilon: float = 1e-6,
    parts: int = 2,
) -> torch.Tensor:
    """Mix values (B, h, S, D) for queries (B, h, T, D) by keys (B, h, S, D)."""
    batch, heads, queries, dimension = query.shape
    sources, wide = key.shape[2], max(16, triton.next_power_of_2(dimension))
    query, key, value = (x.contiguous() for x in (query, key, value))
    every = batch * heads
    outer = query.new_empty((every, parts, wide, wide), dtype=torch.float32)
    weight = query.new_empty((every, parts, wide), dtype=torch.float32)
    out = torch.empty_like(query)
    rows = triton.cdiv(sources, parts)
    _reduce[(parts, every)](key, value, outer, weight, sources, rows, dimension, wide, TILE)
    tiles = (triton.cdiv(queries, TILE), every)
    _apply[tiles](query, outer, weight, out, queries, parts, epsilon, dimension, wide, TILE)
    return out
