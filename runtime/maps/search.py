"""Which tiles of a pack look like the query: int8 dot products, by window or over the whole pack.

    score = query_scale * shard_scale * (query_int8 . tile_int8)

Only rows of the window are touched, so the cost grows with the window and not with the map.
numkong's packed product serves one query and many: 200,000 tiles x 256 take 5 ms for one and 8 ms
for 18 on one x86 core; its pairwise `cdist` takes 3.5 and 34 ms, numpy with a cast 50 and 74 ms.
"""

from collections.abc import Iterator

import numkong
import numpy as np
from numpy.typing import NDArray

from ..geo import Grid
from ..types import Candidates
from .pack import Shard, TilePack
from .quantise import quantised

Scores = NDArray[np.float32]


def window_scores(pack: TilePack, query: Scores, rows: slice, columns: slice) -> Scores:
    """Cosine similarity of every tile in a window, (rows, columns); -inf where there is no tile.

    Args:
        pack: an opened pack.
        query: unit descriptor (D,), or variants of one query (Q, D): the best one counts.
        rows: rows of the pack's grid, as `Grid.window` gives them.
        columns: columns of the pack's grid.
    """
    best: Scores = variant_scores(pack, np.atleast_2d(query), rows, columns).max(axis=0)
    return best


def pack_scores(pack: TilePack, query: Scores) -> Scores:
    """`window_scores` over the whole grid."""
    return window_scores(pack, query, slice(0, pack.grid.rows), slice(0, pack.grid.columns))


def variant_scores(pack: TilePack, queries: Scores, rows: slice, columns: slice) -> Scores:
    """Cosine similarity of every tile to every variant (Q, D) of the query, (Q, rows, columns)."""
    top, bottom, _ = rows.indices(pack.grid.rows)
    left, right, _ = columns.indices(pack.grid.columns)
    shape = (len(queries), max(0, bottom - top), max(0, right - left))
    scores = np.full(shape, -np.inf, np.float32)
    codes, scales = zip(*map(quantised, queries), strict=True)
    packed = numkong.dots_pack(np.stack(codes), dtype="int8")
    query_scale = np.array(scales, np.float32)[:, None]
    for shard in pack.shards:
        row0, row1 = max(top, shard.row0), min(bottom, shard.row0 + shard.rows)
        column0, column1 = max(left, shard.column0), min(right, shard.column0 + shard.columns)
        if row0 >= row1 or column0 >= column1:
            continue
        here = (
            slice(row0 - shard.row0, row1 - shard.row0),
            slice(column0 - shard.column0, column1 - shard.column0),
        )
        products = np.concatenate(
            [np.asarray(numkong.dots_packed(run, packed)) for run in _runs(shard, *here)]
        )  # (tiles, Q) int32
        cosine = products.T * (query_scale * np.float32(shard.scale))
        valid = shard.valid[here]
        scores[:, row0 - top : row1 - top, column0 - left : column1 - left] = np.where(
            valid, cosine.reshape(-1, *valid.shape), -np.inf
        )
    return scores


def candidates_from_scores(
    grid: Grid,
    scores: Scores,
    count: int,
    separation_m: float,
    corner: tuple[int, int] = (0, 0),
) -> Candidates:
    """The best tiles that lie at least `separation_m` apart, by descending score.

    Args:
        grid: the pack's grid.
        scores: (rows, columns) of the whole grid or of a window; -inf where there is no tile.
        count: at most this many; fewer where the scores run out.
        separation_m: a tile nearer to a better one is left out.
        corner: row and column of the grid where the scores begin.
    """
    flat = _best_first(scores.ravel(), count * _cells_within(separation_m / grid.step_m))
    row, column = np.divmod(flat, scores.shape[1])
    index = (row + corner[0]) * grid.columns + column + corner[1]
    east, north = grid.en_from_index(index)
    chosen: list[int] = []
    left = np.arange(flat.size)
    while left.size and len(chosen) < count:
        first = int(left[0])
        chosen.append(first)
        left = left[1:]
        left = left[np.hypot(east[left] - east[first], north[left] - north[first]) >= separation_m]
    return Candidates(
        index=index[chosen], east_m=east[chosen], north_m=north[chosen],
        score=scores.ravel()[flat[chosen]],
    )  # fmt: skip


def _runs(shard: Shard, rows: slice, columns: slice) -> Iterator[NDArray[np.int8]]:
    """Contiguous descriptors of a window in a shard: one run, or one for each row."""
    if columns == slice(0, shard.columns):
        yield shard.descriptors[rows.start * shard.columns : rows.stop * shard.columns]
        return
    for row in range(rows.start, rows.stop):
        first = row * shard.columns
        yield shard.descriptors[first + columns.start : first + columns.stop]


def _cells_within(radius_cells: float) -> int:
    """At least as many cells as one choice can put aside."""
    return (2 * int(radius_cells) + 1) ** 2


def _best_first(scores: Scores, count: int) -> NDArray[np.int64]:
    """Indices of the `count` largest finite scores, descending."""
    finite = np.flatnonzero(np.isfinite(scores))
    if finite.size > count:
        finite = finite[np.argpartition(-scores[finite], count - 1)[:count]]
    return finite[np.argsort(-scores[finite], kind="stable")].astype(np.int64)
