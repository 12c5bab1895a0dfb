import numpy as np
import pytest

from skyfix.runtime.fuse.integrity import (
    Offset,
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
    covariance = center_covariance([place(0.0, 1.0)], 0.0, 500.0, 3.0)
    assert covariance == pytest.approx(np.eye(2) * (4.0 + 9.0))


def test_errors_of_place_and_map_fall_into_the_ellipse_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    errors = rng.normal(0, 2.0, (20_000, 2)) + rng.normal(0, 1.5, (20_000, 2))
    inverse = np.linalg.inv(center_covariance([place(0.0, 1.0)], 0.0, 500.0, 1.5))
    squared = np.einsum("ni,ij,nj->n", errors, inverse, errors)
    for share, bound in ((0.68, 2.279), (0.95, 5.991)):  # chi-square, 2 degrees of freedom
        assert np.mean(squared <= bound) == pytest.approx(share, abs=0.01)


def test_a_rival_stretches_the_ellipse_towards_itself_by_its_weight() -> None:
    covariance = center_covariance([place(0.0, 0.9), place(100.0, 0.1)], 0.0, 500.0, 0.0)
    assert covariance[0, 0] - covariance[1, 1] == pytest.approx(0.1 * 100.0**2)


def test_what_is_unexplained_widens_it_in_all_directions() -> None:
    covariance = center_covariance([place(0.0, 0.9)], 0.1, 300.0, 0.0)
    assert covariance[0, 0] == pytest.approx(covariance[1, 1])
    assert covariance[0, 0] > 0.1 * 300.0**2


@pytest.mark.parametrize("sure", [0.96, 0.98, 0.999])
def test_a_sure_leaders_larger_ellipse_holds_95_percent_of_all_errors(sure: float) -> None:
    """Drawn: the leader's own errors, and those of frames that lie at the rival."""
    rng = np.random.default_rng(3)
    errors = rng.normal(0, 2.0, (40_000, 2))
    errors[rng.random(len(errors)) > sure] += (5000.0, 0.0)
    places = [place(0.0, sure), place(5000.0, 1 - sure)]
    inverse = np.linalg.inv(center_covariance(places, 0.0, 9000.0, 0.0))
    squared = np.einsum("ni,ij,nj->n", errors, inverse, errors)
    assert np.mean(squared <= 5.991) == pytest.approx(0.95, abs=0.005)


def test_a_rival_close_by_stays_in_the_ellipse_where_that_is_the_smaller_one() -> None:
    near = center_covariance([place(0.0, 0.951), place(10.0, 0.049)], 0.0, 500.0, 0.0)
    assert near[0, 0] == pytest.approx(4.0 + 0.049 * 10.0**2)


def test_the_drone_is_as_uncertain_as_its_cameras_tilt() -> None:
    below = Offset(np.zeros(2), np.array([[0.0, 100.0], [-100.0, 0.0]]))  # heading east
    tilt_cov = np.diag([0.02**2, 0.08**2])  # right, forward
    added = drone_covariance(np.eye(2), below, tilt_cov, np.diag([10.0**2, 0.1**2]))
    assert added == pytest.approx(np.eye(2) + np.diag([8.0**2, 2.0**2]))


def test_an_oblique_cameras_drone_is_as_uncertain_as_its_heading_and_height() -> None:
    """Against draws of both: the offset turned clockwise and stretched."""
    offset = np.array([30.0, 80.0])
    attitude_cov = np.array([[1.5**2, 0.01], [0.01, 0.02**2]])
    rng = np.random.default_rng(0)
    turn_deg, log_scale = rng.multivariate_normal(np.zeros(2), attitude_cov, 100_000).T
    along = np.exp(log_scale) * np.exp(-1j * np.radians(turn_deg)) * complex(*offset)
    drawn = np.cov(along.real, along.imag)
    ahead = Offset(offset, np.zeros((2, 2)))
    stated = drone_covariance(np.zeros((2, 2)), ahead, np.zeros((2, 2)), attitude_cov)
    assert stated == pytest.approx(drawn, rel=0.03, abs=0.05)


def test_a_place_anywhere_in_a_window_spreads_as_the_uniform_distribution() -> None:
    east = np.random.default_rng(0).uniform(0, 300, 200_000)
    assert spread_of((slice(5, 35), slice(0, 30)), 10.0) == pytest.approx(east.std(), rel=0.01)


def test_the_margin_is_to_the_best_rival() -> None:
    assert margin([place(0, 0.6), place(9, 0.3), place(20, 0.1)]) == pytest.approx(0.3)
    assert margin([place(0, 0.6)]) == pytest.approx(0.6)
