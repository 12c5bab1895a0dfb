"""Scores against a naive second way: the whole matrix, one query at a time."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError
from skyfix.train.data import sets  # TestSet by name would be collected as a test
from skyfix.train.data.sets import ImageSet, Protocol
from skyfix.train.descriptors import Described
from skyfix.train.evaluate import (
    DescribedTest,
    Evaluation,
    VigorK,
    evaluate,
    has_truth,
    right_items,
)
from skyfix.train.metrics import average_precision, haversine_m

Rows = NDArray[np.float32]
Integers = NDArray[np.int64]


def units(rows: int, dimension: int, seed: int) -> Rows:
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension), np.float32)
    unit: Rows = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def image_set(
    view: str, labels: Integers, positions: NDArray[np.float64] | None = None
) -> ImageSet:
    paths = tuple(Path(f"{view}/{number}.jpg") for number in range(len(labels)))
    return ImageSet(view, paths, labels, positions)


def make_test(
    protocol: Protocol, query: Integers, gallery: Integers, truth: Integers | None = None
) -> sets.TestSet:
    return sets.TestSet(
        "t", image_set("drone", query), image_set("satellite", gallery), protocol, truth
    )


def scored(
    test: sets.TestSet,
    query: Rows,
    gallery: Rows,
    *,
    broken_query: tuple[int, ...] = (),
    broken_gallery: tuple[int, ...] = (),
    vigor_k: VigorK = "sample4geo",
) -> Evaluation:
    def described(rows: Rows, broken: tuple[int, ...], images: ImageSet) -> Described:
        kept = np.delete(np.arange(len(images)), list(broken))
        return Described(rows[kept], kept, tuple(images.paths[number] for number in broken))

    return evaluate(
        DescribedTest(
            test,
            described(query, broken_query, test.query),
            described(gallery, broken_gallery, test.gallery),
        ),
        vigor_k,
    )


def whole_matrix(query: Rows, gallery: Rows) -> NDArray[np.float64]:
    """Rounded so that equal descriptors have equal similarities."""
    products: NDArray[np.float64] = query.astype(np.float64) @ gallery.astype(np.float64).T
    rounded: NDArray[np.float64] = np.round(products, 7)
    return rounded


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Rows, Rows, Integers, Integers]:
    """Descriptors and labels with ties, junk (-1) and queries without a match."""
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    queries, items = draw(st.integers(1, 12)), draw(st.integers(2, 40))
    pool = units(draw(st.integers(2, 12)), 4, seed)
    query, gallery = (pool[rng.integers(0, len(pool), n)] for n in (queries, items))
    query_label, gallery_label = rng.integers(-1, 6, queries), rng.integers(-1, 5, items)
    query_label[0] = gallery_label[0] = 0  # one match at least
    return query, gallery, query_label, gallery_label


@given(labelled())
@settings(max_examples=80)
def test_class_scores_are_those_of_a_stable_sort_of_every_row(
    case: tuple[Rows, Rows, Integers, Integers],
) -> None:
    query, gallery, query_label, gallery_label = case
    found = scored(make_test("classes", query_label, gallery_label), query, gallery).scores
    hits = dict.fromkeys(("R@1", "R@5", "R@10", "R@1%"), 0)
    precision = 0.0
    for row, label in zip(whole_matrix(query, gallery), query_label, strict=True):
        order = np.argsort(-row, kind="stable")
        order = order[gallery_label[order] != -1]
        places = np.flatnonzero(gallery_label[order] == label)
        if label == -1 or not len(places):
            continue
        precision += average_precision(places)
        for name, k in zip(hits, (1, 5, 10, round(0.01 * len(gallery)) + 1), strict=True):
            hits[name] += places[0] < k
    assert found["AP"] == pytest.approx(100 * precision / len(query))
    for name, count in hits.items():
        assert found[name] == pytest.approx(100 * count / len(query))


@given(st.integers(0, 10_000), st.integers(4, 200), st.integers(1, 12))
@settings(max_examples=60)
def test_vigor_scores_are_those_of_the_whole_matrix(seed: int, items: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    pool = units(max(items // 2, 4), 3, seed)
    query = pool[rng.integers(0, len(pool), queries)]
    gallery = pool[rng.integers(0, len(pool), items)]
    truth = np.stack([rng.permutation(items)[:4] for _ in range(queries)])
    test = make_test("vigor", np.zeros(queries, int), np.arange(items), truth)
    found = scored(test, query, gallery)
    ranks, hits = [], []
    for row, (positive, *semi) in zip(whole_matrix(query, gallery), truth, strict=True):
        better = row > row[positive]
        ranks.append(int(better.sum()))
        hits.append(not np.delete(better, semi).any())
    assert found.scores["hit rate"] == pytest.approx(100 * np.mean(hits))
    for k in (1, 5, 10):
        assert found.scores[f"R@{k}"] == pytest.approx(100 * np.mean(np.array(ranks) < k))
    if items >= 100:
        k = items // 100
        assert found.scores["R@1%"] == pytest.approx(100 * np.mean(np.array(ranks) < k))


def test_a_semi_positive_ahead_misses_r_at_1_and_hits() -> None:
    gallery = np.eye(6, dtype=np.float32)
    query = np.array([[0.6, 0.8, 0, 0, 0, 0]], np.float32)  # the semi-positive 1 is ahead of 0
    test = make_test("vigor", np.zeros(1, int), np.arange(6), np.array([[0, 1, 2, 3]]))
    scores = scored(test, query, gallery).scores
    assert (scores["R@1"], scores["hit rate"], scores["R@5"]) == (0.0, 100.0, 100.0)


def test_one_percent_of_vigor_is_one_more_item_for_geodtr() -> None:
    gallery = units(200, 8, 0)
    order = np.argsort(-whole_matrix(gallery[:1], gallery)[0])
    truth = np.array([[order[2], order[5], order[6], order[7]]])  # the positive has rank 2
    test = make_test("vigor", np.zeros(1, int), np.arange(200), truth)
    ours, theirs = (scored(test, gallery[:1], gallery, vigor_k=k) for k in ("sample4geo", "geodtr"))
    assert (ours.one_percent_k, ours.scores["R@1%"]) == (2, 0.0)
    assert (theirs.one_percent_k, theirs.scores["R@1%"]) == (3, 100.0)


def test_ties_help_pairs_and_are_told() -> None:
    collapsed = np.repeat(units(1, 8, 0), 120, axis=0)
    test = make_test("pairs", np.arange(120), np.arange(120), np.arange(120)[:, None])
    found = scored(test, collapsed, collapsed)
    assert found.scores["R@1"] == 100.0
    assert found.tied_percent == 100.0
    apart = units(120, 64, 1)
    assert scored(test, apart, apart).tied_percent == 0.0


def test_ties_do_not_help_classes() -> None:
    collapsed = np.repeat(units(1, 8, 0), 120, axis=0)
    test = make_test("classes", np.arange(120), np.arange(120))
    assert scored(test, collapsed, collapsed).scores["R@1"] == pytest.approx(100 / 120)


def test_fewer_than_a_hundred_pairs_have_no_one_percent() -> None:
    rows = units(20, 64, 1)
    test = make_test("pairs", np.arange(20), np.arange(20), np.arange(20)[:, None])
    assert set(scored(test, rows, rows).scores) == {"R@1", "R@5", "R@10"}


def test_a_broken_right_image_is_a_miss_and_a_broken_query_is_left_out() -> None:
    rows = units(10, 64, 1)
    test = make_test("pairs", np.arange(10), np.arange(10), np.arange(10)[:, None])
    found = scored(test, rows, rows, broken_query=(2, 3), broken_gallery=(7,))
    assert (found.queries, found.gallery) == (8, 9)
    assert found.scores["R@1"] == pytest.approx(100 * 7 / 8)
    assert found.broken == ["drone/2.jpg", "drone/3.jpg", "satellite/7.jpg"]


def test_positions_are_scored_by_how_far_the_answers_lie() -> None:
    gallery = np.eye(12, dtype=np.float32)
    query = gallery[[0, 1]] * np.float32(0.8) + gallery[[3, 1]] * np.float32(0.6)
    places_deg = np.stack([np.full(12, 30.0), 120 + 0.0002 * np.arange(12)], axis=1)
    test = sets.TestSet(
        "t",
        image_set("drone", np.array([3, 1]), places_deg[[3, 1]]),
        image_set("satellite", np.arange(12), places_deg),
        "positions",
    )
    scores = scored(test, query / np.linalg.norm(query, axis=1, keepdims=True), gallery).scores
    assert scores["R@1"] == 50.0  # query 0 shows place 3 and finds place 0, three steps west
    away_m = float(haversine_m(places_deg[3], places_deg[0]))
    assert 55 < away_m < 60
    assert (scores["MA@50m"], scores["MA@100m"]) == (50.0, 100.0)
    assert scores["SDM@1"] == pytest.approx(100 * (1 + np.exp(-5000 * 0.0006)) / 2)
    assert {"SDM@3", "SDM@5", "SDM@10", "AP"} <= set(scores)


def test_positions_that_are_absent_are_asked_for() -> None:
    rows = units(5, 8, 0)
    with pytest.raises(InputError, match="position in degrees"):
        scored(make_test("positions", np.arange(5), np.arange(5)), rows, rows)


def test_a_challenge_has_no_scores() -> None:
    rows = units(5, 8, 0)
    test = make_test("classes", np.full(5, -1), np.full(5, -1))
    assert not has_truth(test)
    assert scored(test, rows, rows).scores == {}


def test_query_and_gallery_of_different_tests_are_refused() -> None:
    rows = units(5, 8, 0)
    with pytest.raises(InputError, match="no query has a right item"):
        scored(make_test("classes", np.arange(5), np.arange(5) + 50), rows, rows)


@given(st.lists(st.integers(-1, 4), min_size=1), st.lists(st.integers(-1, 4), min_size=1))
def test_right_items_are_the_gallery_items_of_the_label(
    query: list[int], gallery: list[int]
) -> None:
    for label, row in zip(query, right_items(np.array(query), np.array(gallery)), strict=True):
        expected = [i for i, other in enumerate(gallery) if other == label and label != -1]
        assert row[row >= 0].tolist() == expected
