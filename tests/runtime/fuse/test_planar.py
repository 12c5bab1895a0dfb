"""Eight parameters of planar motion, against the projection of a rotated camera."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.fuse.planar import (
    COUNT,
    LOG_RATIO,
    SHIFT,
    TURN,
    moved,
    planar_fit,
    second_from_first,
    similarity_from_tracks,
)
from skyfix.runtime.sense.camera import enu_from_camera, pixel_from_ground
from skyfix.runtime.sense.simulator import Pose, tilted

Array = NDArray[np.float64]
NADIR = np.zeros((2, 2))
BLOCKS = np.arange(120) % 12


def seen_from(pose: Pose, ground_en_m: Array) -> Array:
    """Right and forward in heights, as a camera sees ground that claims to look straight down."""
    rotation = enu_from_camera(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)
    rays = pixel_from_ground(np.diag([1.0, -1.0, 1.0]), rotation, pose.height_m)
    return moved(rays, ground_en_m - (pose.east_m, pose.north_m))


@settings(max_examples=40)
@given(
    turn=st.floats(-170, 170), climb=st.floats(-0.2, 0.2), east=st.floats(-40, 40),
    north=st.floats(-40, 40), tilts=st.lists(st.floats(-9, 9), min_size=4, max_size=4),
)  # fmt: skip
def test_the_model_is_the_projection_of_two_tilted_cameras(
    turn: float, climb: float, east: float, north: float, tilts: list[float]
) -> None:
    first = tilted(Pose(0, 0.0, 0.0, 100.0, 0.0), tilts[1], tilts[0])
    second = tilted(Pose(1, east, north, 100 * math.exp(climb), turn), tilts[3], tilts[2])
    points = np.random.default_rng(0).uniform(-50, 50, (30, 2))
    centers = []
    for pose in (first, second):
        ahead = enu_from_camera(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)[:, 2]
        centers.append((pose.east_m, pose.north_m) - ahead[:2] / ahead[2] * pose.height_m)
    parameters = np.zeros(COUNT)
    parameters[SHIFT] = (centers[1] - centers[0]) / 100
    parameters[TURN], parameters[LOG_RATIO] = math.radians(turn), climb
    for index, (ahead_deg, aside_deg) in enumerate((tilts[1::-1], tilts[:1:-1])):
        tilt_deg = max(math.hypot(ahead_deg, aside_deg), 1e-12)
        tangent = math.tan(math.radians(tilt_deg)) / tilt_deg
        parameters[4 + 2 * index : 6 + 2 * index] = aside_deg * tangent, ahead_deg * tangent
    model = moved(second_from_first(parameters, NADIR), seen_from(first, points))
    assert model == pytest.approx(seen_from(second, points), abs=1e-9)


def planted(noise: float = 0.0, wrong: int = 0, seed: int = 0) -> tuple[Array, Array, Array]:
    """Tracks of a motion with tilt, some of them wrong, and its parameters."""
    draw = np.random.default_rng(seed)
    parameters = np.array([0.15, -0.2, 0.3, 0.05, 0.05, -0.03, 0.02, 0.06])
    first = draw.uniform(-0.6, 0.6, (120, 2)) * (1.0, 0.6)
    second = moved(second_from_first(parameters, NADIR), first)
    second = second + draw.normal(0, noise, second.shape)
    second[:wrong] = draw.uniform(-0.6, 0.6, (wrong, 2))
    return first, second, parameters


def test_planted_parameters_are_found_among_wrong_tracks() -> None:
    first, second, parameters = planted(noise=2e-4, wrong=40)
    start = similarity_from_tracks(first, second, 0.03)
    assert start is not None
    fit = planar_fit(first, second, NADIR, start, 0.03, BLOCKS)
    assert fit is not None
    assert not fit.inliers[:40].any()
    assert fit.inliers[40:].mean() > 0.95
    assert fit.parameters[:4] == pytest.approx(parameters[:4], abs=3e-3)


def test_the_covariance_is_the_scatter_of_repeated_fits() -> None:
    fits = []
    for seed in range(60):
        first, second, parameters = planted(noise=1e-3, seed=seed)
        fit = planar_fit(first, second, NADIR, parameters, 0.03, BLOCKS)
        assert fit is not None
        fits.append((fit.parameters[:4] - parameters[:4], np.diag(fit.covariance)[:4]))
    errors, variances = np.array(fits).transpose(1, 0, 2)
    assert np.sqrt((errors**2 / variances).mean(axis=0)) == pytest.approx(np.ones(4), abs=0.35)


def test_errors_that_neighbours_share_widen_the_covariance() -> None:
    first, second, parameters = planted()
    column, row = np.floor((first / (0.6, 0.36) + 1) / 2 * (4, 3)).astype(np.intp).T
    blocks, draw = 4 * row + column, np.random.default_rng(3)
    variances: list[list[float]] = [[], []]
    for _ in range(20):
        for kind, error in enumerate(
            (draw.normal(0, 2e-3, (12, 2))[blocks], draw.normal(0, 2e-3, second.shape))
        ):
            fit = planar_fit(first, second + error, NADIR, parameters, 0.03, blocks)
            assert fit is not None
            variances[kind].append(float(np.trace(fit.covariance[:2, :2])))
    assert np.median(variances[0]) > 3 * np.median(variances[1])


def test_points_in_one_place_have_no_similarity() -> None:
    point = np.full((30, 2), 0.1)
    start = similarity_from_tracks(point, point, 0.03)
    assert start is None or np.isfinite(start).all()
