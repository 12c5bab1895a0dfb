"""Pyramid pooling sampling: adaptive mean poolings of a map as one constant matrix.

Along each axis, cell i of n covers floor(i side / n) up to ceil((i + 1) side / n), as torch's
adaptive pooling has it; ONNX has no such pooling where n does not divide the side.
"""

from collections.abc import Iterable

import torch


def pyramid_pooling(cells: Iterable[tuple[int, int]], grid: tuple[int, int]) -> torch.Tensor:
    """The poolings of a row-major map (H, W) to each of `cells` (rows, columns): (T, H*W)."""
    height, width = grid
    return torch.cat(
        [torch.kron(_cells(rows, height), _cells(columns, width)) for rows, columns in cells]
    )


def _cells(count: int, side: int) -> torch.Tensor:
    """Means over the cells of one axis (count, side)."""
    means = torch.zeros(count, side)
    for cell in range(count):
        first, stop = cell * side // count, -(-(cell + 1) * side // count)
        means[cell, first:stop] = 1 / (stop - first)
    return means
