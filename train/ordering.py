"""Order by similarity between two long lists of unit descriptors, without their whole matrix.

Blocks of the float32 product decide all but near ties. What lies within NEAR of the similarity
that it is compared with is computed again in float64 and put on a grid of 2^-30, so that equal
descriptors tie whatever block, thread or machine computed them, and ranks do not depend on these.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float16] | NDArray[np.float32]  # (N, D) unit rows, perhaps memory-mapped
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Block = NDArray[np.float32]

GRID = 2.0**30  # similarities that agree to 1e-9 tie: a thousandth of float32's own rounding
NEAR = 4e-6  # 20 times the largest error that float32 products of 4096 numbers show
QUERY_ROWS = 1024  # of a block: 32 MB of similarities with
GALLERY_ROWS = 8192
GATHERED = 4096  # rows that are computed again at once: 64 MB a side at 2048 numbers
GATHER_COST = 16  # a gathered float64 product costs this many times one of a matrix product


@dataclass(frozen=True)
class Standing:
    """Where the right items of each query stand among the gallery; 0 where there is none."""

    right: Integers  # (Q, P) indices into the gallery, -1 = none
    similarity: Floats  # (Q, P), inf = none
    greater: Integers  # (Q, P) items that are more similar than this one
    equal: Integers  # (Q, P) other items that are as similar
    equal_before: Integers  # (Q, P) those of them that come before it in the gallery

    @property
    def places(self) -> Integers:
        """(Q, P) from 0 in the stable order, -1 where there is no item."""
        return np.where(self.right >= 0, self.greater + self.equal_before, -1)


def standing(query: Descriptors, gallery: Descriptors, right: Integers) -> Standing:
    """Count for each right item what is ahead of it.

    Args:
        query: (Q, D).
        gallery: (M, D).
        right: (Q, P) the right items of each query, -1 where there are fewer than P.
    """
    similarity = similarities(query, gallery, right)
    counts = np.zeros((3, *right.shape), np.int64)
    for rows in _blocks(len(query), QUERY_ROWS):
        own = _single(query[rows])
        for columns in _blocks(len(gallery), GALLERY_ROWS):
            block = _Products(own, _single(gallery[columns]))
            for p in range(right.shape[1]):
                index = right[rows, p] - columns.start
                counts[:, rows, p] += _ahead(block, similarity[rows, p], index)
    greater, equal, equal_before = counts
    return Standing(right, similarity, greater, equal - (right >= 0), equal_before)


def similarities(query: Descriptors, gallery: Descriptors, items: Integers) -> Floats:
    """Similarity of each query to its items (Q, P) of the gallery, inf where those are -1."""
    similarity = np.full(items.shape, np.inf)
    i, p = np.nonzero(items >= 0)
    similarity[i, p] = _pair_similarities(query, gallery, i, items[i, p])
    return similarity


def best(query: Descriptors, gallery: Descriptors, k: int) -> Integers:
    """(Q, k) indices of the most similar items, best first; ties keep the gallery's order."""
    result = np.empty((len(query), k), np.int64)
    for rows in _blocks(len(query), QUERY_ROWS):
        own = _single(query[rows])
        kept = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        for columns in _blocks(len(gallery), GALLERY_ROWS):
            block = _Products(own, _single(gallery[columns]))
            i, j, similarity = _candidates(block, k)
            found = (i, j + columns.start, similarity)
            i, j, similarity = (np.concatenate(pair) for pair in zip(kept, found, strict=True))
            kept = _first_of_each(i, j, similarity, k)
        result[rows] = kept[1].reshape(len(own), k)
    return result


class _Products:
    """Similarities of a block of queries with a block of the gallery."""

    def __init__(self, query: Block, gallery: Block) -> None:
        self.query = query  # (q, D)
        self.gallery = gallery  # (m, D)
        self.rough: Block = query @ gallery.T  # (q, m)

    def exact(self, i: Integers, j: Integers) -> Floats:
        """Similarities (n,) of pairs on the grid."""
        if GATHER_COST * len(i) > self.rough.size:  # nearly all tie: the network has collapsed
            everything = self.query.astype(np.float64) @ self.gallery.T.astype(np.float64)
            return _on_grid(everything[i, j])
        return _pair_similarities(self.query, self.gallery, i, j)


def _ahead(block: _Products, similarity: Floats, index: Integers) -> Integers:
    """Count (3, q) of what is greater, equal, and equal before `index` (column) in a block."""
    certain = block.rough > (similarity + NEAR).astype(np.float32)[:, None]  # (q, m)
    possible = block.rough > (similarity - NEAR).astype(np.float32)[:, None]  # (q, m)
    i, j = np.nonzero(possible ^ certain)
    exact = block.exact(i, j)
    equal = exact == similarity[i]
    near = [i[exact > similarity[i]], i[equal], i[equal & (j < index[i])]]
    counts = np.stack([np.bincount(found, minlength=len(similarity)) for found in near])
    counts[0] += np.count_nonzero(certain, axis=1)
    return counts


def _candidates(block: _Products, k: int) -> tuple[Integers, Integers, Floats]:
    """Row, column and similarity of a block's cells that may be among their row's best k."""
    last = max(block.rough.shape[1] - k, 0)
    limit = np.partition(block.rough, last, axis=1)[:, last]  # (q,) the k-th best
    i, j = np.nonzero(block.rough >= (limit - 2 * NEAR)[:, None])
    return i, j, block.exact(i, j)


def _first_of_each(
    i: Integers, j: Integers, similarity: Floats, k: int
) -> tuple[Integers, Integers, Floats]:
    """The best k cells of each row i, by row and then best first."""
    order = np.lexsort((j, -similarity, i))
    i, j, similarity = i[order], j[order], similarity[order]
    kept = np.arange(len(i)) - np.searchsorted(i, i) < k
    return i[kept], j[kept], similarity[kept]


def _pair_similarities(a: Descriptors, b: Descriptors, i: Integers, j: Integers) -> Floats:
    """Similarities (n,) of rows i of a with rows j of b, on the grid."""
    parts = [
        np.einsum("nd,nd->n", a[i[part]].astype(np.float64), b[j[part]].astype(np.float64))
        for part in _blocks(len(i), GATHERED)
    ]
    return _on_grid(np.concatenate([np.empty(0), *parts]))


def _on_grid(similarity: Floats) -> Floats:
    return np.round(similarity * GRID) / GRID


def _single(rows: Descriptors) -> Block:
    return np.asarray(rows, np.float32)


def _blocks(length: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, length)) for start in range(0, length, rows))
