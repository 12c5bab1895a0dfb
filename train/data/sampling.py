"""Which pairs make a batch: pure functions over indices, seeded by a numpy Generator.

A batch's other pairs are its negatives, so what shares a batch decides what is learnt: a place
twice is a wrong negative, and places that look or lie alike are the hard ones. Pairs are rows of
(N, 2): index of the query's, index of the reference's image. Batches hold row numbers.

Sample4Geo's batches: a seed pair brings `select` of its neighbours, half of them the nearest, half
drawn from the rest of its list, until the batch is full; every pair once an epoch.
"""

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MAX_FAILURES = 1024  # Sample4Geo: so many pairs in a row that do not fit end the epoch
UNIVERSITY_MAX_FAILURES = 512  # its University-1652 code

Indices = NDArray[np.int64]


def shuffled_batches(
    count: int, size: int, rng: np.random.Generator, drop_last: bool = False
) -> list[Indices]:
    """All rows once, in a random order; the last batch may be smaller unless it is dropped."""
    order = rng.permutation(count)
    batches = [order[start : start + size] for start in range(0, count, size)]
    return [batch for batch in batches if len(batch) == size or not drop_last]


def independent_batches(
    counts: Mapping[str, int], size: int, rng: np.random.Generator
) -> list[dict[str, Indices]]:
    """Each view's images shuffled on their own; an epoch ends with the shortest view.

    University-1652's baseline: an incomplete last batch is left out.
    """
    views = [shuffled_batches(count, size, rng, drop_last=True) for count in counts.values()]
    return [dict(zip(counts, batch, strict=True)) for batch in zip(*views, strict=False)]


def one_pair_a_reference(pairs: Indices, times: int, rng: np.random.Generator) -> Indices:
    """Rows of an epoch: every covered reference `times` times, each time with any of its queries.

    GeoDTR+ trains on VIGOR so, with two times.
    """
    epoch = []
    for _ in range(times):
        order = rng.permutation(len(pairs))
        _, first = np.unique(pairs[order, 1], return_index=True)
        epoch.append(order[first])
    return rng.permutation(np.concatenate(epoch))


def unique_batches(
    labels: Indices,
    size: int,
    rng: np.random.Generator,
    max_failures: int = UNIVERSITY_MAX_FAILURES,
) -> list[Indices]:
    """Every row at most once, no label twice in a batch; an incomplete last batch is dropped.

    Args:
        labels: (N,) what must not repeat: the building, or the reference of a pair.
        size: of every batch.
        rng: decides the order.
        max_failures: rows in a row that do not fit before the epoch ends.
    """
    epoch = _Epoch(labels, size, rng)
    while epoch.pool and epoch.failures < max_failures:
        epoch.seed()
    return epoch.batches


def neighbour_batches(
    pairs: Indices,
    neighbours: Indices,
    size: int,
    select: int,
    rng: np.random.Generator,
    max_failures: int = MAX_FAILURES,
) -> list[Indices]:
    """Batches of seeds and their neighbours; every pair at most once, no reference twice a batch.

    Args:
        pairs: (N, 2). Where several queries share a reference (VIGOR), one of them joins a batch.
        neighbours: (N, K) references for each pair, nearest first. Of a table by reference these
            are the rows pairs[:, 1], of a table by query the rows pairs[:, 0].
        size: of every batch; an incomplete last one is dropped.
        select: neighbours that a seed brings: half the first of its list, half of the others.
        rng: decides the order.
        max_failures: seeds in a row that do not fit before the epoch ends.
    """
    epoch = _Epoch(pairs[:, 1], size, rng)
    half = select // 2
    while epoch.pool and epoch.failures < max_failures:
        seed = epoch.seed()
        if seed is None:
            continue
        near, far = neighbours[seed, :half], neighbours[seed, half:]
        drawn = rng.choice(far, min(half, len(far)), replace=False)
        for label in [*near.tolist(), *drawn.tolist()]:
            if not epoch.taken:  # the batch is full and gone
                break
            epoch.add_of(label)
    return epoch.batches


class _Epoch:
    """An epoch under way: what waits, what has been used, the batch that grows."""

    def __init__(self, labels: Indices, size: int, rng: np.random.Generator) -> None:
        order: list[int] = rng.permutation(len(labels)).tolist()
        self.labels: list[int] = labels.tolist()
        self.size = size
        self.pool = deque(order)
        self.waiting: dict[int, list[int]] = {}  # label -> rows that no batch has had
        for row in order:
            self.waiting.setdefault(self.labels[row], []).append(row)
        self.used = bytearray(len(labels))
        self.taken: set[int] = set()  # labels of the batch that grows
        self.batch: list[int] = []
        self.batches: list[Indices] = []
        self.failures = 0

    def seed(self) -> int | None:
        """Take the next row of the pool into the batch; None where it does not fit."""
        row = self.pool.popleft()
        label = self.labels[row]
        if not self.used[row] and label not in self.taken:
            self.waiting[label].remove(row)
            self._add(row, label)
            return row
        if not self.used[row]:
            self.pool.append(row)  # its label is in the batch: later
        self.failures += 1
        return None

    def add_of(self, label: int) -> None:
        """Take a row of this label, if the batch has none of it and one is waiting."""
        if label not in self.taken and self.waiting.get(label):
            self._add(self.waiting[label].pop(), label)

    def _add(self, row: int, label: int) -> None:
        self.used[row] = True
        self.taken.add(label)
        self.batch.append(row)
        self.failures = 0
        if len(self.batch) == self.size:
            self.batches.append(np.array(self.batch, np.int64))
            self.batch, self.taken = [], set()
