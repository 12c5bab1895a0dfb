from pathlib import Path

import numpy as np
import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.config import DatasetConfig, NeighbourConfig
from skyfix.train.data.plan import PAIRS_A_REFERENCE, Planner
from skyfix.train.data.sampling import Indices
from skyfix.train.data.sets import ImageSet, TrainSet

SIZES = {"drone": (32, 32), "satellite": (32, 32)}


def images(view: str, labels: list[int]) -> ImageSet:
    paths = tuple(Path(f"{view}/{index}.jpg") for index in range(len(labels)))
    return ImageSet(view, paths, np.array(labels))


def train_set(places: int, queries: int = 1) -> TrainSet:
    """Every place has one satellite image and so many drone images."""
    labels = [10 * place for place in range(places)]
    drone = images("drone", [label for label in labels for _ in range(queries)])
    pairs = np.stack([np.arange(places * queries), np.repeat(np.arange(places), queries)], axis=1)
    return TrainSet(
        {"drone": drone, "satellite": images("satellite", labels)}, "drone", "satellite", pairs
    )


def planner(train: TrainSet, batch: int, seed: int = 0, **config: object) -> Planner:
    settings = DatasetConfig(**({"name": "university1652", "input_px": SIZES} | config))  # type: ignore[arg-type]  # the keys are those of DatasetConfig
    return Planner(train, settings, batch, seed)


def rows(plan: Indices) -> list[tuple[int, ...]]:
    """All pairs of an epoch, in order of their numbers."""
    return sorted(map(tuple, plan.reshape(-1, plan.shape[2]).tolist()))


@pytest.mark.parametrize("sampling", ["shuffled", "unique"])
def test_an_epoch_shows_every_pair_once(sampling: str) -> None:
    train = train_set(24)
    plan = planner(train, 6, sampling=sampling).epoch(0, None)
    assert plan.shape == (4, 6, 2)
    assert rows(plan) == list(map(tuple, train.pairs.tolist()))


def test_an_incomplete_batch_is_left_out() -> None:
    plans = planner(train_set(25), 6)
    assert plans.epoch_steps == 4
    shown = rows(plans.epoch(0, None))
    assert len(shown) == len(set(shown)) == 24


def test_no_place_is_twice_in_a_batch_of_unique_places() -> None:
    train = train_set(12, queries=5)
    plans = planner(train, 10, sampling="unique")
    labels = train.views["drone"].labels
    for epoch in range(3):
        plan = plans.epoch(epoch, None)
        assert plan.shape == (6, 10, 2)  # topped up where the draw left pairs over
        assert all(len(set(labels[batch[:, 0]])) == 10 for batch in plan)


def test_views_drawn_alone_are_as_many_as_the_shortest_view_has() -> None:
    train = train_set(8, queries=4)
    plans = planner(train, 4, sampling="views")
    plan = plans.epoch(0, None)
    assert plans.views == ("drone", "satellite")
    assert plan.shape == (2, 4, 2)
    drone, satellite = plan.reshape(-1, 2).T
    assert sorted(satellite) == list(range(8))
    assert len(set(drone)) == 8
    assert drone.max() >= 8  # beyond the shortest view's numbers
    assert any(drone // 4 != satellite)  # a row's images show different places


def test_every_reference_comes_twice_with_any_of_its_queries() -> None:
    train = train_set(8, queries=5)
    plans = planner(train, 4, sampling="references")
    seen: set[int] = set()
    for epoch in range(10):
        plan = plans.epoch(epoch, None)
        query, reference = plan.reshape(-1, 2).T
        assert sorted(reference) == sorted([*range(8)] * PAIRS_A_REFERENCE)
        assert (query // 5 == reference).all()
        seen |= set(query.tolist())
    assert len(seen) > 30  # of 40: not always the same query


def test_neighbours_that_are_given_share_a_batch() -> None:
    couples = np.array([[place ^ 1] for place in range(16)])  # 0 and 1, 2 and 3...
    plans = planner(train_set(16), 4, neighbours=NeighbourConfig(range=1, select=2))
    for batch in plans.epoch(0, couples):
        shown = set(batch[:, 1].tolist())
        assert {place ^ 1 for place in shown} == shown
    apart = plans.epoch(0, None)  # without them, couples are torn
    assert any({place ^ 1 for place in batch} != set(batch) for batch in apart[:, :, 1].tolist())


@pytest.mark.parametrize("sampling", ["shuffled", "unique", "references", "views"])
def test_the_same_seed_and_epoch_give_the_same_plan_and_no_others_do(sampling: str) -> None:
    train = train_set(20, queries=3)
    first, again, other = (planner(train, 5, seed, sampling=sampling) for seed in (3, 3, 4))
    plan = first.epoch(7, None)
    assert (plan == again.epoch(7, None)).all()
    assert (plan != first.epoch(8, None)).any()
    assert (plan != other.epoch(7, None)).any()


def test_a_set_smaller_than_a_batch_is_refused_with_advice() -> None:
    with pytest.raises(InputError, match=r"batch of 13 .* has 12; --batch takes fewer"):
        _ = planner(train_set(12), 13).epoch_steps


def test_too_few_places_for_a_batch_of_unique_ones_are_refused_with_advice() -> None:
    plans = planner(train_set(3, queries=4), 6, sampling="unique")
    with pytest.raises(InputError, match=r"6 different places .* --batch takes fewer"):
        plans.epoch(0, None)


def test_a_view_that_has_no_input_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch shows satellite.*input_px sizes drone"):
        planner(train_set(4), 2, input_px={"drone": (32, 32)})


def test_a_view_that_the_data_set_lacks_is_refused() -> None:
    sizes = SIZES | {"street": (32, 32)}
    with pytest.raises(InputError, match=r"batch shows street, but the data set has drone, sat"):
        planner(train_set(4), 2, sampling="views", input_px=sizes)


def test_classes_are_the_labels_of_all_views_once() -> None:
    assert planner(train_set(4, queries=2), 2).classes.tolist() == [0, 10, 20, 30]
