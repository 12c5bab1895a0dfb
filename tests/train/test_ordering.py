from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.train import ordering
from skyfix.train.ordering import best, similarities, standing

Rows = NDArray[np.float32]
Integers = NDArray[np.int64]


def units(rows: int, dimension: int, seed: int) -> Rows:
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension), np.float32)
    unit: Rows = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def naive_counts(query: Rows, gallery: Rows, right: Integers) -> Integers:
    """(3, Q, P) greater, equal, equal before; from the whole matrix, cell by cell."""
    whole = np.round(query.astype(np.float64) @ gallery.T.astype(np.float64), 7)
    counts = np.zeros((3, *right.shape), np.int64)
    for q, row in enumerate(whole):
        for p, item in enumerate(right[q]):
            if item >= 0:
                equal = row == row[item]
                counts[:, q, p] = (row > row[item]).sum(), equal.sum() - 1, equal[:item].sum()
    return counts


@st.composite
def tied_tests(draw: st.DrawFn) -> tuple[Rows, Rows, Integers]:
    """Descriptors of which many are equal, and right items of which some are absent."""
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    queries, items, columns = (draw(st.integers(1, top)) for top in (9, 30, 4))
    pool = units(draw(st.integers(1, 6)), 5, seed)
    query, gallery = (pool[rng.integers(0, len(pool), n)] for n in (queries, items))
    right = np.stack([rng.permutation(np.arange(-columns, items))[:columns] for _ in query])
    return query, gallery, np.maximum(right, -1)


@given(tied_tests(), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=60)
def test_counts_are_those_of_the_whole_matrix_whatever_the_blocks(
    case: tuple[Rows, Rows, Integers], query_rows: int, gallery_rows: int
) -> None:
    query, gallery, right = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "QUERY_ROWS", query_rows)
        patch.setattr(ordering, "GALLERY_ROWS", gallery_rows)
        found = standing(query, gallery, right)
    expected = naive_counts(query, gallery, right)
    assert np.array_equal(np.stack([found.greater, found.equal, found.equal_before]), expected)
    places = np.where(right >= 0, expected[0] + expected[2], -1)
    assert np.array_equal(found.places, places)


@given(tied_tests(), st.integers(1, 5), st.integers(1, 30))
@settings(max_examples=60)
def test_the_best_are_those_of_a_stable_sort_whatever_the_blocks(
    case: tuple[Rows, Rows, Integers], k: int, gallery_rows: int
) -> None:
    query, gallery, _ = case
    k = min(k, len(gallery))
    whole = np.round(query.astype(np.float64) @ gallery.T.astype(np.float64), 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "GALLERY_ROWS", gallery_rows)
        found = best(query, gallery, k)
    assert np.array_equal(found, np.argsort(-whole, axis=1, kind="stable")[:, :k])


def test_a_difference_that_float32_products_cannot_see_decides() -> None:
    gallery = np.repeat(units(1, 2048, 1), 3, axis=0)
    gallery[1, 7] = np.nextafter(gallery[1, 7], np.float32(2))  # a similarity 1e-10 to 1e-9 off
    gallery[2, 7] += np.float32(1e-4)
    query = gallery[:1].copy()
    query[0, 7] = 0.5
    exact = gallery.astype(np.float64) @ query[0].astype(np.float64)
    assert exact[0] < exact[1] < exact[2]
    assert best(query, gallery, 3).tolist() == [[2, 1, 0]]
    assert standing(query, gallery, np.array([[0]])).greater.tolist() == [[2]]


def test_equal_descriptors_tie_wherever_they_stand() -> None:
    gallery = units(300, 512, 2)
    gallery[[3, 150, 299]] = gallery[77]
    found = standing(gallery[77:78], gallery, np.array([[150, 77]]))
    assert found.greater.tolist() == [[0, 0]]
    assert found.equal.tolist() == [[3, 3]]
    assert found.places.tolist() == [[2, 1]]


def test_half_precision_memory_maps_are_ranked_as_they_are_stored(tmp_path: Path) -> None:
    query, gallery = (units(n, 64, n).astype(np.float16) for n in (20, 50))
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    right = np.arange(20)[:, None]
    whole = query.astype(np.float64) @ gallery.T.astype(np.float64)
    own = whole[np.arange(20), np.arange(20)]
    assert np.array_equal(
        standing(query, mapped, right).greater[:, 0], (whole > own[:, None]).sum(axis=1)
    )


def test_the_similarity_of_an_absent_item_is_infinite() -> None:
    query, gallery = units(2, 8, 0), units(3, 8, 1)
    found = similarities(query, gallery, np.array([[2], [-1]]))
    assert found[0, 0] == pytest.approx(float(query[0] @ gallery[2]), abs=1e-6)
    assert found[1, 0] == np.inf
