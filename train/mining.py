"""What a run learns of its data between epochs: its score, and which places look alike."""

from pathlib import Path

import numpy as np
import torch

from skyfix.runtime.errors import InputError

from .config import NeighbourConfig
from .data.neighbours import most_similar, nearest_by_position
from .data.sampling import Indices
from .data.sets import TestSet, TrainSet
from .descriptors import Describer
from .evaluate import describe_test, evaluate, has_truth

NO_TRUTH = -1


def chosen_test(tests: tuple[TestSet, ...], name: str | None) -> TestSet | None:
    """The test of that name, or the first one; None where there is none. Raises InputError."""
    known = [test for test in tests if has_truth(test) and name in {None, test.name}]
    if name is not None and not known:
        names = ", ".join(test.name for test in tests) or "none"
        raise InputError(f"the data set has no test {name!r} with answers; it has {names}")
    return known[0] if known else None


def score(test: TestSet, describer: Describer, folder: Path) -> float:
    """R@1 in percent."""
    return evaluate(describe_test(describer, test, folder, _silent)).scores["R@1"]


def neighbours_by_position(train_set: TrainSet, config: NeighbourConfig | None) -> Indices | None:
    """The nearest references (N, K) of each pair's own one on the map; None without positions."""
    references = train_set.views[train_set.reference]
    if config is None or not config.by_position or references.positions is None:
        return None
    nearest = nearest_by_position(references.positions, references.metric, config.range)
    return nearest[train_set.pairs[:, 1]]


def neighbours_by_similarity(
    train_set: TrainSet, config: NeighbourConfig, describer: Describer, folder: Path
) -> Indices:
    """The references (N, K) that look most like each pair's query, its own ones left out."""
    described = [
        describer.describe(train_set.views[view], folder / f"{view}.npy", _silent)
        for view in (train_set.query, train_set.reference)
    ]
    query, reference = (torch.from_numpy(np.array(part.rows)) for part in described)
    row_of = [
        _rows(len(train_set.views[view]), part.kept)
        for view, part in zip((train_set.query, train_set.reference), described, strict=True)
    ]
    truth = _truth(train_set, row_of[0], row_of[1], len(query))
    similar = most_similar(query, reference, truth, config.range)  # of the images that were read
    similar = described[1].kept[similar]
    return similar[row_of[0][train_set.pairs[:, 0]]]


def _rows(images: int, kept: Indices) -> Indices:
    """Each image's row among those that were read; of a broken one the first."""
    rows = np.zeros(images, np.int64)
    rows[kept] = np.arange(len(kept))
    return rows


def _truth(train_set: TrainSet, query: Indices, reference: Indices, queries: int) -> Indices:
    """Right references (Q, P) of each query that was read, -1 where there are fewer."""
    right: list[list[int]] = [[] for _ in range(queries)]
    for own, other in train_set.pairs:
        right[query[own]].append(int(reference[other]))
    truth = np.full((queries, max(map(len, right))), NO_TRUTH)
    for row, items in enumerate(right):
        truth[row, : len(items)] = items
    return truth


def _silent(_images: int) -> None:
    """No bar: the epochs' own one stands."""
