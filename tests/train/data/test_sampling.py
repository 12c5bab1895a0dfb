import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.train.data.sampling import (
    independent_batches,
    neighbour_batches,
    one_pair_a_reference,
    shuffled_batches,
    unique_batches,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(batches: list[NDArray[np.int64]]) -> list[int]:
    return [int(row) for batch in batches for row in batch]


def test_shuffled_batches_hold_every_row_once() -> None:
    batches = shuffled_batches(103, 10, rng())
    assert [len(batch) for batch in batches] == [10] * 10 + [3]
    assert sorted(flat(batches)) == list(range(103))
    assert flat(batches) != sorted(flat(batches))
    assert len(shuffled_batches(103, 10, rng(), drop_last=True)) == 10


def test_views_are_shuffled_alone_and_the_shortest_ends_the_epoch() -> None:
    batches = independent_batches({"satellite": 21, "drone": 500, "street": 40}, 8, rng())
    assert len(batches) == 2
    assert [len(batch["drone"]) for batch in batches] == [8, 8]
    for view in ("satellite", "drone", "street"):
        rows = flat([batch[view] for batch in batches])
        assert len(set(rows)) == 16
    assert set(flat([b["satellite"] for b in batches])) != set(flat([b["drone"] for b in batches]))


def test_every_covered_reference_comes_twice_with_any_of_its_queries() -> None:
    references = np.repeat([3, 5, 8, 13], [1, 2, 5, 3])
    pairs = np.stack([np.arange(11), references], axis=1)
    drawn: set[int] = set()
    for seed in range(60):
        rows = one_pair_a_reference(pairs, 2, rng(seed))
        assert sorted(references[rows].tolist()) == [3, 3, 5, 5, 8, 8, 13, 13]
        drawn.update(rows.tolist())
    assert drawn == set(range(11))


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=120),
    size=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_no_label_comes_twice_in_a_batch_and_no_row_twice_in_an_epoch(
    labels: list[int], size: int, seed: int
) -> None:
    numbers = np.array(labels)
    batches = unique_batches(numbers, size, rng(seed))
    rows = flat(batches)
    assert len(rows) == len(set(rows))
    for batch in batches:
        assert len(batch) == size
        assert len(set(numbers[batch])) == size


def test_a_university_epoch_has_the_published_length() -> None:
    buildings = np.repeat(np.arange(701), 54)  # every drone image of the training set
    started = time.perf_counter()
    batches = unique_batches(buildings, 128, rng(1))
    assert sum(len(batch) for batch in batches) == 37_760  # of 37,854
    assert time.perf_counter() - started < 10


def clusters(count: int, of: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One-to-one pairs in groups of look-alikes; references are numbered from the end."""
    total = count * of
    pairs = np.stack([np.arange(total), total - 1 - np.arange(total)], axis=1)
    group = np.arange(total) // of
    neighbours = np.stack(
        [
            [pairs[other, 1] for other in np.flatnonzero(group == group[row]) if other != row]
            for row in range(total)
        ]
    )
    return pairs, neighbours


def test_planted_clusters_end_in_the_same_batch() -> None:
    pairs, neighbours = clusters(10, 9)
    batches = neighbour_batches(pairs, neighbours, 18, 8, rng())
    assert len(batches) == 5
    for batch in batches:
        _, members = np.unique(batch // 9, return_counts=True)
        assert members.tolist() == [9, 9]


def test_a_seed_brings_its_nearest_half_and_draws_the_other() -> None:
    total, select = 400, 8
    pairs = np.stack([np.arange(total), np.arange(total)], axis=1)
    neighbours = (np.arange(total)[:, None] + np.arange(1, 33)) % total
    drawn: set[int] = set()
    for seed in range(40):
        batch = neighbour_batches(pairs, neighbours, select + 1, select, rng(seed))[0]
        ahead = (batch[1:] - batch[0]) % total
        assert ahead[:4].tolist() == [1, 2, 3, 4]
        assert len(set(ahead.tolist())) == 8
        drawn.update(ahead[4:].tolist())
    assert min(drawn) == 5
    assert max(drawn) == 32
    assert len(drawn) > 24


@given(seed=st.integers(0, 99), size=st.integers(2, 20), select=st.integers(2, 12))
def test_every_pair_comes_at_most_once_and_a_reference_once_a_batch(
    seed: int, size: int, select: int
) -> None:
    random = rng(seed)
    references = random.integers(0, 40, 90)  # several queries share one (VIGOR)
    pairs = np.stack([np.arange(90), references], axis=1)
    neighbours = np.stack([random.permutation(40)[:16] for _ in range(90)])
    batches = neighbour_batches(pairs, neighbours, size, select, random)
    rows = flat(batches)
    assert len(rows) == len(set(rows))
    for batch in batches:
        assert len(set(references[batch].tolist())) == len(batch) == size


def test_queries_that_share_a_reference_all_get_their_turn() -> None:
    references = np.repeat(np.arange(20), 3)
    pairs = np.stack([np.arange(60), references], axis=1)
    neighbours = np.stack([np.delete(np.arange(20), ref)[:8] for ref in references])
    batches = neighbour_batches(pairs, neighbours, 4, 2, rng(2))
    assert len(flat(batches)) >= 52


def test_an_epoch_ends_after_so_many_failures() -> None:
    labels = np.zeros(5000, np.int64)  # nothing fits beside the first
    labels[-1] = 1
    assert unique_batches(labels, 3, rng(), max_failures=512) == []
    # ten of eleven rows are of one label: the other label's are soon used up
    many = np.array([0] * 300 + [1] * 3)
    patient = unique_batches(many, 2, rng(4), max_failures=10_000)
    assert len(patient) == 3
    assert len(unique_batches(many, 2, rng(4), max_failures=2)) < 3


@pytest.mark.parametrize("seed", [1, 2])
def test_batches_follow_the_seed(seed: int) -> None:
    pairs, neighbours = clusters(6, 9)
    first = flat(neighbour_batches(pairs, neighbours, 12, 6, rng(seed)))
    assert first == flat(neighbour_batches(pairs, neighbours, 12, 6, rng(seed)))
    assert first != flat(neighbour_batches(pairs, neighbours, 12, 6, rng(seed + 1)))


def test_an_epoch_of_a_large_set_is_planned_in_seconds() -> None:
    total = 35_532  # CVUSA
    pairs = np.stack([np.arange(total), np.arange(total)], axis=1)
    neighbours = (np.arange(total)[:, None] + rng().integers(1, 500, (total, 128))) % total
    started = time.perf_counter()
    batches = neighbour_batches(pairs, neighbours, 128, 64, rng())
    assert time.perf_counter() - started < 10
    assert len(batches) > 0.97 * total / 128
