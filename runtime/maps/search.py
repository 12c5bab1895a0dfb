"""Which tiles of a pack look like the query: int8 dot products, by window or over the whole pack.

    score = query_scale * shard_scale * (query_int8 . tile_int8)

Only rows of the window are touched, so the cost grows with the window and not with the map.
numkong's packed product takes the int8 codes as they lie in the pack, which numpy would have to
cast first, and serves one variant of the query and many in the same call.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numkong
import numpy as np
from numpy.typing import NDArray

from .pack import Shard, TilePack
from .quantise import quantised

THREADS = 2  # of a search over many tiles: the cores that a frame is budgeted for
SHARED_TILES = 50_000  # fewer are found sooner than a thread is started

Scores = NDArray[np.float32]


def window_scores(pack: TilePack, query: Scores, rows: slice, columns: slice) -> Scores:
    """Cosine similarity of every tile in a window, (rows, columns); -inf where there is no tile.

    Args:
        pack: an opened pack.
        query: unit descriptor (D,), or variants of one query (Q, D): the best one counts.
        rows: rows of the pack's grid, as `Grid.window` gives them.
        columns: columns of the pack's grid.
    """
    return best_scores(pack, np.atleast_2d(query), rows, columns)[0]


def pack_scores(pack: TilePack, query: Scores) -> Scores:
    """`window_scores` over the whole grid."""
    return window_scores(pack, query, slice(0, pack.grid.rows), slice(0, pack.grid.columns))


def best_scores(
    pack: TilePack, queries: Scores, rows: slice, columns: slice
) -> tuple[Scores, NDArray[np.intp]]:
    """The best similarity of any variant (Q, D) at every tile of a window, and which variant's."""
    top, bottom, _ = rows.indices(pack.grid.rows)
    left, right, _ = columns.indices(pack.grid.columns)
    shape = (max(0, bottom - top), max(0, right - left))
    best, which = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.intp)
    codes, scales = zip(*map(quantised, queries), strict=True)
    packed = numkong.dots_pack(np.stack(codes), dtype="int8")
    query_scale = np.array(scales, np.float32)

    def compare(shard: Shard) -> None:
        """One shard's tiles, into their own part of the answer."""
        row0, row1 = max(top, shard.row0), min(bottom, shard.row0 + shard.rows)
        column0, column1 = max(left, shard.column0), min(right, shard.column0 + shard.columns)
        if row0 >= row1 or column0 >= column1:
            return
        here = (
            slice(row0 - shard.row0, row1 - shard.row0),
            slice(column0 - shard.column0, column1 - shard.column0),
        )
        products = np.concatenate(
            [np.asarray(numkong.dots_packed(run, packed)) for run in _runs(shard, *here)]
        )  # (tiles, Q) int32
        highest, variant = _highest(products, query_scale * np.float32(shard.scale))
        valid = shard.valid[here]
        there = (slice(row0 - top, row1 - top), slice(column0 - left, column1 - left))
        best[there] = np.where(valid, highest.reshape(valid.shape), -np.inf)
        which[there] = variant.reshape(valid.shape)

    if best.size < SHARED_TILES:
        for shard in pack.shards:
            compare(shard)
    else:  # numkong and numpy let the other threads run meanwhile
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(compare, pack.shards))
    return best, which


def _highest(
    products: NDArray[np.int32], scales: NDArray[np.float32]
) -> tuple[Scores, NDArray[np.intp]]:
    """The highest product of each tile (tiles, Q) by its query's scale, and the first such query.

    A row for each query: numpy takes the greatest of a few long rows many numbers at a time, that
    of many short ones one row at a time.
    """
    scaled = np.multiply(cv2.transpose(products), scales[:, None], dtype=np.float32)
    highest = scaled.max(axis=0)
    to_the_last = np.arange(len(scales), 0, -1, dtype=np.uint16)
    first = ((scaled == highest) * to_the_last[:, None]).max(axis=0)
    return highest, len(scales) - first.astype(np.intp)


def _runs(shard: Shard, rows: slice, columns: slice) -> Iterator[NDArray[np.int8]]:
    """Contiguous descriptors of a window in a shard: one run, or one for each row."""
    if columns == slice(0, shard.columns):
        yield shard.descriptors[rows.start * shard.columns : rows.stop * shard.columns]
        return
    for row in range(rows.start, rows.stop):
        first = row * shard.columns
        yield shard.descriptors[first + columns.start : first + columns.stop]
