import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skyfix.train.data import neighbours
from skyfix.train.data.neighbours import most_similar, nearest_by_position

EARTH_RADIUS_M = 6_371_000.0


def haversine_m(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lat_1, lon_1, lat_2, lon_2 = np.radians([*one, *other])
    part = np.sin((lat_2 - lat_1) / 2) ** 2
    part += np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    return float(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(part)))


@pytest.fixture(params=[100, 8_000_000])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block for all, or many."""
    monkeypatch.setattr(neighbours, "BLOCK_CELLS", request.param)


@pytest.mark.usefixtures("_blocks")
def test_neighbours_on_the_globe_are_those_by_haversine() -> None:
    rng = np.random.default_rng(0)
    towns = rng.uniform([-60, -180], [70, 180], (4, 2))
    positions = (towns[:, None] + rng.normal(0, 0.01, (4, 15, 2))).reshape(60, 2)
    found = nearest_by_position(positions, "degrees", 10)
    for row in range(60):
        distance = [haversine_m(positions[row], other) for other in positions]
        distance[row] = np.inf
        assert found[row].tolist() == np.argsort(distance)[:10].tolist()


def test_a_degree_of_longitude_is_short_in_the_north() -> None:
    positions = np.array([[60.0, 10.0], [60.0, 10.0018], [60.001, 10.0]])  # 100 m east, 111 m north
    assert nearest_by_position(positions, "degrees", 1)[0] == 1
    assert nearest_by_position(positions, "metres", 1)[0] == 2


def test_places_a_metre_apart_are_told_apart() -> None:
    lat = 47.0 + np.array([0.0, 1.0, 2.1, 3.3, 4.6]) / 111_195
    positions = np.stack([lat, np.full(5, 8.5)], axis=1)
    assert nearest_by_position(positions, "degrees", 4)[0].tolist() == [1, 2, 3, 4]
    assert nearest_by_position(positions, "degrees", 4)[4].tolist() == [3, 2, 1, 0]


@pytest.mark.usefixtures("_blocks")
def test_neighbours_in_metres_are_those_by_brute_force() -> None:
    positions = np.random.default_rng(1).uniform(0, 5000, (70, 2))
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distance, np.inf)
    found = nearest_by_position(positions, "metres", 12)
    assert found.tolist() == distance.argsort(axis=1)[:, :12].tolist()


def test_another_image_of_the_same_place_is_a_neighbour_but_not_the_image_itself() -> None:
    positions = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert nearest_by_position(positions, "metres").tolist() == [[1, 2], [0, 2], [0, 1]]


def unit(count: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


@pytest.mark.usefixtures("_blocks")
def test_similar_references_are_those_by_brute_force_without_the_true_ones() -> None:
    query, reference = unit(33, 0), unit(40, 1)
    truth = np.full((33, 4), -1)  # -1 stands for none
    truth[:, 0] = np.arange(33)
    truth[::2, 1:] = np.stack([np.arange(34, 37)] * 17)
    found = most_similar(query, reference, truth, 7)
    for row in range(33):
        similarity = (reference @ query[row]).numpy()
        similarity[[place for place in truth[row] if place >= 0]] = -np.inf
        assert found[row].tolist() == np.argsort(-similarity)[:7].tolist()


def test_a_true_reference_never_appears_however_many_are_asked_for() -> None:
    found = most_similar(unit(5, 0), unit(5, 0), np.arange(5)[:, None], 128)
    assert found.shape == (5, 4)
    assert all(row not in found[row] for row in range(5))


def test_a_query_without_a_known_truth_hides_nothing() -> None:
    reference = unit(6, 3)
    assert most_similar(reference[5:], reference, np.array([[-1]]), 1).tolist() == [[5]]
