import math

import numpy as np
import pytest

from skyfix.runtime.fuse.integrity import (
    MAP_STD_M,
    center_covariance,
    drone_covariance,
    margin,
    spread_of,
)
from skyfix.runtime.types import Hypothesis


def place(east_m: float, weight: float) -> Hypothesis:
    cov = np.eye(2) * 4.0
    return Hypothesis(east_m, 0.0, weight, 0.5, 0.6, cov, 0.0, 0.0, np.eye(2))


def test_a_clear_leader_keeps_its_own_covariance_and_the_maps() -> None:
    covariance = center_covariance([place(0.0, 1.0)], 0.0, 500.0)
    assert covariance == pytest.approx(np.eye(2) * (4.0 + MAP_STD_M**2))


def test_a_rival_stretches_the_ellipse_towards_itself_by_its_weight() -> None:
    covariance = center_covariance([place(0.0, 0.9), place(100.0, 0.1)], 0.0, 500.0)
    assert covariance[0, 0] - covariance[1, 1] == pytest.approx(0.1 * 100.0**2)


def test_what_is_unexplained_widens_it_in_all_directions() -> None:
    covariance = center_covariance([place(0.0, 0.9)], 0.1, 300.0)
    assert covariance[0, 0] == pytest.approx(covariance[1, 1])
    assert covariance[0, 0] > 0.1 * 300.0**2


def test_the_drone_is_as_uncertain_as_its_cameras_tilt() -> None:
    added = drone_covariance(np.zeros((2, 2)), 100.0, 5.0)
    assert math.sqrt(added[0, 0]) == pytest.approx(100 * math.tan(math.radians(5)))


def test_a_place_anywhere_in_a_window_spreads_as_the_uniform_distribution() -> None:
    east = np.random.default_rng(0).uniform(0, 300, 200_000)
    assert spread_of((slice(5, 35), slice(0, 30)), 10.0) == pytest.approx(east.std(), rel=0.01)


def test_the_margin_is_to_the_best_rival() -> None:
    assert margin([place(0, 0.6), place(9, 0.3), place(20, 0.1)]) == pytest.approx(0.3)
    assert margin([place(0, 0.6)]) == pytest.approx(0.6)
