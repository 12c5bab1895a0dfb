"""Score a network on a test: describe query and gallery, rank, count as the benchmark does.

    protocol    right items                         scores
    pairs       one a query                         R@1, 5, 10, 1% by optimistic rank
    vigor       the positive, semi-positives not    besides, the hit rate: R@1 without these three
    classes     all of the query's label            R@1, 5, 10, 1% and AP by stable places
    positions   as classes                          besides, SDM@K and MA@m of DenseUAV

Images that could not be read are left out; a query whose right items are all among them misses.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError

from . import metrics
from .data.sets import ImageSet, TestSet
from .descriptors import Described, Describer, Report
from .ordering import Descriptors, best, similarities, standing

RECALL_AT = (1, 5, 10)
SDM_AT = (1, 3, 5, 10)
WITHIN_M = (5, 10, 20, 50, 100)
BY_CLASS = frozenset({"classes", "positions"})

# K of R@1% on VIGOR: GeoDTR's code takes one more than Sample4Geo's and MFRGN's
VigorK = Literal["sample4geo", "geodtr"]
Integers = NDArray[np.int64]
Scores = dict[str, float]  # "R@1" -> percent


class Evaluation(msgspec.Struct, frozen=True):
    """What a network scores on a test; `scores` is empty where the truth is not public."""

    test: str
    queries: int
    gallery: int
    scores: dict[str, float]  # percent
    one_percent_k: int  # K of R@1%
    tied_percent: float  # queries whose right item ties with others: their ranks are optimistic
    broken: list[str]  # images that could not be read


@dataclass(frozen=True)
class DescribedTest:
    """A test whose query and gallery are described."""

    test: TestSet
    query: Described
    gallery: Described

    @property
    def readable(self) -> TestSet:
        """The test without the images that could not be read."""
        return part_of(self.test, self.query.kept, self.gallery.kept)


def describe_test(
    describer: Describer, test: TestSet, folder: Path, report: Report
) -> DescribedTest:
    """Write both sets' descriptors into a folder."""
    stem = "".join(letter if letter.isalnum() else "_" for letter in test.name)
    query = describer.describe(test.query, folder / f"{stem}.query.npy", report)
    gallery = describer.describe(test.gallery, folder / f"{stem}.gallery.npy", report)
    return DescribedTest(test, query, gallery)


def evaluate(described: DescribedTest, vigor_k: VigorK = "sample4geo") -> Evaluation:
    """Score a described test; raises InputError where its truth names nothing in the gallery."""
    test = described.readable
    k = one_percent_k(test, vigor_k)
    scores, tied_percent = Scores(), 0.0
    if has_truth(test):
        query, gallery = described.query.rows, described.gallery.rows
        if test.protocol in BY_CLASS:
            scores = class_scores(test, query, gallery, k)
        else:
            scores, tied_percent = pair_scores(test, query, gallery, k)
    broken = [str(path) for path in (*described.query.broken, *described.gallery.broken)]
    return Evaluation(
        test.name, len(test.query), len(test.gallery), scores, k, tied_percent, broken
    )


def has_truth(test: TestSet) -> bool:
    """Whether right answers are known at all; those of challenges are not public."""
    if test.protocol in BY_CLASS:
        return bool((test.query.labels >= 0).any())
    return test.truth is not None


def one_percent_k(test: TestSet, vigor_k: VigorK) -> int:
    """K of R@1% as the test's benchmark has it."""
    if test.protocol in BY_CLASS:
        return metrics.k_of_university(len(test.gallery))
    if test.protocol == "vigor" and vigor_k == "geodtr":
        return metrics.k_of_geodtr_vigor(len(test.gallery))
    return metrics.k_of_pairs(len(test.gallery))


def pair_scores(
    test: TestSet, query: Descriptors, gallery: Descriptors, k: int
) -> tuple[Scores, float]:
    """R@K by optimistic rank, and percent of the queries whose right item ties with another.

    VIGOR's semi-positives count as wrong for R@K, and not at all for the hit rate.
    """
    assert test.truth is not None
    ranked = standing(query, gallery, _checked(test, test.truth[:, :1]))
    found = ranked.right[:, 0] >= 0
    ranks, total = ranked.greater[:, 0], len(test.query)
    scores = _recalls(ranks[found], total, k)
    if test.protocol == "vigor":
        others = similarities(query, gallery, test.truth[:, 1:])  # (Q, 3), inf where none
        ahead = ((others > ranked.similarity) & (test.truth[:, 1:] >= 0)).sum(axis=1)
        scores["hit rate"] = metrics.recall((ranks - ahead)[found], 1, total)
    return scores, 100.0 * float(np.mean(ranked.equal[:, 0] > 0))


def class_scores(test: TestSet, query: Descriptors, gallery: Descriptors, k: int) -> Scores:
    """R@K of the first of all right items, and the trapezoidal AP, by stable places.

    Gallery items of label -1 are junk and leave before places are counted.
    """
    (known,) = np.nonzero(test.gallery.labels >= 0)
    if len(known) < len(test.gallery):
        gallery, test = gallery[known], part_of(test, np.arange(len(test.query)), known)
    right = _checked(test, right_items(test.query.labels, test.gallery.labels))
    places = standing(query, gallery, right).places  # (Q, P)
    first = np.where(right >= 0, places, len(test.gallery)).min(axis=1)
    scores = _recalls(first[first < len(test.gallery)], len(test.query), k)
    scores["AP"] = metrics.mean_average_precision(places)
    return scores | (_distance_scores(test, query, gallery) if test.protocol == "positions" else {})


def right_items(query: Integers, gallery: Integers) -> Integers:
    """(Q, P) items of each query's label, in their order, -1 where there are fewer than P.

    Args:
        query: (Q,) labels; -1 is the label of nothing.
        gallery: (M,) labels.
    """
    order = np.argsort(gallery, kind="stable")
    first = np.searchsorted(gallery[order], query, "left")
    count = np.where(query >= 0, np.searchsorted(gallery[order], query, "right") - first, 0)
    column = np.arange(max(int(count.max(initial=0)), 1))
    item = order[np.minimum(first[:, None] + column, len(order) - 1)]  # (Q, P)
    return np.where(column < count[:, None], item, -1)


def part_of(test: TestSet, query: Integers, gallery: Integers) -> TestSet:
    """The test of these query and gallery images only; truth that is gone becomes -1."""
    truth = test.truth
    if truth is not None:
        number = np.full(len(test.gallery) + 1, -1)  # the last one is where -1 points
        number[gallery] = np.arange(len(gallery))
        truth = number[truth[query]]
    return replace(
        test, query=_only(test.query, query), gallery=_only(test.gallery, gallery), truth=truth
    )


def _distance_scores(test: TestSet, query: Descriptors, gallery: Descriptors) -> Scores:
    """SDM@K and MA@m of DenseUAV."""
    own_deg, all_deg = test.query.positions, test.gallery.positions
    if own_deg is None or all_deg is None or test.gallery.metric != "degrees":
        raise InputError(f"{test.name}: distances need every image's position in degrees")
    deepest = min(max(SDM_AT), len(test.gallery))
    found_deg = all_deg[best(query, gallery, deepest)]  # (Q, K, 2)
    scores = {f"SDM@{k}": metrics.sdm(own_deg, found_deg, k) for k in SDM_AT if k <= deepest}
    return scores | {f"MA@{m}m": metrics.within(own_deg, found_deg[:, 0], m) for m in WITHIN_M}


def _checked(test: TestSet, right: Integers) -> Integers:
    if not (right >= 0).any():
        raise InputError(
            f"{test.name}: no query has a right item in the gallery. Do both folders belong to "
            "the same test?"
        )
    return right


def _only(images: ImageSet, kept: Integers) -> ImageSet:
    return replace(
        images,
        paths=tuple(images.paths[number] for number in kept),
        labels=images.labels[kept],
        positions=None if images.positions is None else images.positions[kept],
    )


def _recalls(ranks: Integers, queries: int, k: int) -> Scores:
    scores = {f"R@{at}": metrics.recall(ranks, at, queries) for at in RECALL_AT}
    if k:  # one percent of fewer than 100 pairs is none of them
        scores["R@1%"] = metrics.recall(ranks, k, queries)
    return scores
