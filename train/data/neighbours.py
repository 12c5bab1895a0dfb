"""Who is near whom: on the map (GPS sampling) or in the descriptors (dynamic similarity sampling).

Places lie 2 R asin(sqrt(h)) apart, h = sin^2(dlat/2) + cos lat cos lat' sin^2(dlon/2) (haversine,
radians). Of unit vectors u, v towards the places, 4 h = |u - v|^2: the order needs no
trigonometry a pair, and differences keep it exact for places a metre apart. (The published code
hands degrees to a function that expects radians, so that its lists are not quite by distance.)
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .sampling import Indices

RANGE = 128  # neighbours kept for each, published
BLOCK_CELLS = 8_000_000  # distances held at once: 64 MB


def nearest_by_position(
    positions: NDArray[np.float64],
    metric: Literal["degrees", "metres"],
    count: int = RANGE,
) -> Indices:
    """The nearest others (N, K) of each place, nearest first; K = count, less where N is small.

    Args:
        positions: (N, 2) latitude and longitude in degrees, or metres of a projection.
        metric: which of the two.
        count: neighbours of each.
    """
    points = _on_sphere(positions) if metric == "degrees" else positions  # (N, 3) or (N, 2)
    total = len(points)
    count = min(count, total - 1)
    block = max(1, BLOCK_CELLS // total)
    found = np.empty((total, count), np.int64)
    for start in range(0, total, block):
        rows = np.arange(start, min(start + block, total))
        squared = np.zeros((len(rows), total))
        for axis in range(points.shape[1]):
            squared += (points[rows, axis, None] - points[None, :, axis]) ** 2
        squared[np.arange(len(rows)), rows] = np.inf  # not itself; another at its place may be
        found[rows] = _smallest(squared, count)
    return found


def most_similar(
    query: torch.Tensor, reference: torch.Tensor, truth: Indices, count: int = RANGE
) -> Indices:
    """The most similar references (Q, K) of each query but the true ones, most similar first.

    Args:
        query: (Q, D) unit descriptors, on any device.
        reference: (R, D) on the same one.
        truth: (Q, P) each query's true references; -1 stands for none.
        count: neighbours of each; fewer where the references are few.
    """
    count = min(count, len(reference) - truth.shape[1])
    block = max(1, BLOCK_CELLS // len(reference))
    true = torch.from_numpy(truth).to(query.device)
    found = []
    for start in range(0, len(query), block):
        similarity = query[start : start + block] @ reference.T  # (b, R)
        right = true[start : start + block]  # (b, P)
        row, slot = (right >= 0).nonzero(as_tuple=True)
        similarity[row, right[row, slot]] = -torch.inf
        found.append(similarity.topk(count, dim=1).indices.cpu())
    return torch.cat(found).numpy()


def _on_sphere(positions_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (N, 3) towards the places."""
    lat, lon = np.radians(positions_deg).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _smallest(values: NDArray[np.float64], count: int) -> Indices:
    """Columns (b, count) of each row's smallest values, smallest first, ties by column."""
    columns = np.argpartition(values, count - 1, axis=1)[:, :count]
    columns.sort(axis=1)
    order = np.take_along_axis(values, columns, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
