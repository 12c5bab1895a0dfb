import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.train.evaluate import right_items
from skyfix.train.metrics import (
    average_precision,
    haversine_m,
    k_of_geodtr_vigor,
    k_of_pairs,
    k_of_university,
    mean_average_precision,
    recall,
    sdm,
    within,
)
from skyfix.train.ordering import standing

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "university1652_metric.npz"


@pytest.mark.real
def test_recall_and_ap_equal_the_official_ones() -> None:
    if not GOLDEN.is_file():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    golden = np.load(GOLDEN)
    right = right_items(golden["query_label"], golden["gallery_label"])
    places = standing(golden["query"], golden["gallery"], right).places
    first = np.where(places >= 0, places, 10**6).min(axis=1)
    for k, official in enumerate(golden["cmc"], start=1):
        assert recall(first, k) == pytest.approx(100 * official, abs=1e-5)  # float32 there
    assert recall(first, k_of_university(60)) == pytest.approx(golden["recall_at_1_percent"])
    assert recall(first, 5) == pytest.approx(golden["recall_at_5"])
    assert mean_average_precision(places) == pytest.approx(golden["ap"], abs=1e-9)


@pytest.mark.parametrize(("place", "expected"), [(0, 1.0), (1, 1 / 4), (2, 1 / 6)])
def test_the_ap_of_one_right_item_at_rank_1_2_3(place: int, expected: float) -> None:
    assert average_precision(np.array([place])) == pytest.approx(expected)


def test_the_ap_is_the_area_under_the_drawn_precision_curve() -> None:
    places = np.array([0, 3, 4, 9])
    drawn = 0.0
    for i, place in enumerate(places):
        before = i / place if place else 1.0
        drawn += (before + (i + 1) / (place + 1)) / 2 * (1 / len(places))
    assert average_precision(places) == pytest.approx(drawn)


def test_a_query_without_a_right_item_adds_nothing_to_ap_and_recall_but_counts() -> None:
    assert mean_average_precision(np.array([[0, -1], [-1, -1]])) == pytest.approx(50.0)
    assert recall(np.array([0, 4]), 1, queries=4) == pytest.approx(25.0)


def test_a_rank_equal_to_k_is_no_hit() -> None:
    assert recall(np.array([4, 5]), 5) == pytest.approx(50.0)


def test_k_of_one_percent_is_each_benchmarks_own() -> None:
    assert k_of_pairs(8884) == 88
    assert (k_of_pairs(90618), k_of_geodtr_vigor(90618)) == (906, 907)
    assert (k_of_university(951), k_of_university(51355)) == (11, 515)


def test_sdm_weighs_the_first_items_most() -> None:
    origin = np.zeros((1, 2))
    near_first = np.array([[[0.0, 0.0], [1.0, 0.0]]])  # the second is a degree away: worth nothing
    assert sdm(origin, near_first, 1) == pytest.approx(100.0)
    assert sdm(origin, near_first, 2) == pytest.approx(100 * 1.0 / 1.5)
    assert sdm(origin, near_first[:, ::-1], 2) == pytest.approx(100 * 0.5 / 1.5)


def test_sdm_falls_to_1_e_within_a_5000th_of_a_degree() -> None:
    away = np.array([[[0.6 / 5000, 0.8 / 5000]]])
    assert sdm(np.zeros((1, 2)), away, 1) == pytest.approx(100 / math.e)


def test_a_degree_of_the_equator_is_111_3_km_and_half_of_it_at_60_degrees_north() -> None:
    degree_m = 2 * math.pi * 6378137 / 360
    equator = haversine_m(np.array([0.0, 8.0]), np.array([0.0, 9.0]))
    assert float(equator) == pytest.approx(degree_m)
    short = haversine_m(np.array([60.0, 8.0]), np.array([60.0, 8.0001]))
    assert float(short) == pytest.approx(degree_m / 2 * 1e-4, rel=1e-6)


@given(
    st.tuples(st.floats(-89, 89), st.floats(-180, 180)),
    st.tuples(st.floats(-89, 89), st.floats(-180, 180)),
)
def test_haversine_is_the_angle_between_unit_vectors(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    def vector(lat_deg: float, lon_deg: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        lat, lon = math.radians(lat_deg), math.radians(lon_deg)
        return np.array(
            [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
        )

    u, v = vector(*a), vector(*b)
    angle = math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v))
    # arcsin loses digits near the antipode: 0.2 m there
    assert float(haversine_m(np.array(a), np.array(b))) == pytest.approx(angle * 6378137, abs=0.5)


def test_ma_counts_the_queries_within_the_limit() -> None:
    query = np.zeros((2, 2))
    first = np.array([[0.0, 4 / 111319.0], [0.0, 6 / 111319.0]])  # 4 and 6 m east
    assert within(query, first, 5) == pytest.approx(50.0)
    assert within(query, first, 7) == pytest.approx(100.0)
