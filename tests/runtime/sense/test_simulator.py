import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.errors import InputError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera, enu_from_camera
from skyfix.runtime.sense.ortho import patch_from_frame
from skyfix.runtime.sense.simulator import (
    Conditions,
    Pose,
    Simulator,
    center_from_pose,
    render,
    route_from_waypoints,
    tilted,
)
from skyfix.runtime.types import Patch, Telemetry

CAMERA = Camera(320, 240, np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), np.zeros(0))
CALM = Conditions(appearance=0, flicker=0, tilt_std_deg=0, yaw_std_deg=0, height_std=0)


def ramp_raster() -> Raster:
    """Red grows with east, green with north: a colour is a position."""
    index = np.arange(256)
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 0] = index[None, :]
    image[..., 1] = index[::-1, None]
    return Raster(image, np.ones((256, 256), bool), LocalFrame(0, 0), -256.0, 256.0, 2.0)


@settings(max_examples=40, deadline=None)
@given(
    east=st.floats(-60, 60), north=st.floats(-60, 60), yaw=st.floats(-180, 180),
    pitch=st.floats(-90, -70), roll=st.floats(-10, 10),
)  # fmt: skip
def test_the_images_centre_shows_the_ground_that_the_optical_axis_hits(
    east: float, north: float, yaw: float, pitch: float, roll: float
) -> None:
    pose = Pose(0, east, north, 120.0, yaw, pitch, roll)
    picture = render(ramp_raster(), CAMERA, pose)
    forward_m = 120.0 * math.tan(math.radians(pitch + 90))
    expected_east = east + forward_m * math.sin(math.radians(yaw))
    expected_north = north + forward_m * math.cos(math.radians(yaw))
    red, green, _ = picture[119:121, 159:161].astype(float).mean(axis=(0, 1))
    assert (red + 0.5) * 2 - 256 == pytest.approx(expected_east, abs=2.5)
    assert (green + 0.5) * 2 - 256 == pytest.approx(expected_north, abs=2.5)
    assert center_from_pose(CAMERA, pose) == pytest.approx((expected_east, expected_north))


@settings(max_examples=20, deadline=None)
@given(yaw=st.floats(-180, 180), pitch=st.floats(-90, -75), height=st.floats(80, 160))
def test_ortho_undoes_what_the_renderer_did(yaw: float, pitch: float, height: float) -> None:
    raster = ramp_raster()
    pose = Pose(0, 10.0, -20.0, height, yaw, pitch)
    frame = np.ascontiguousarray(render(raster, CAMERA, pose)[..., ::-1])
    patch = patch_from_frame(frame, CAMERA, Telemetry(0, yaw, pitch, 0.0, height), 32, 2.0)
    assert isinstance(patch, Patch)
    east, north = center_from_pose(CAMERA, pose)
    window = raster.read(east - 32, north + 32, (32, 32), 2.0)
    inner = patch.valid & window.valid
    difference = np.abs(patch.image.astype(int) - window.image.astype(int)).max(axis=2)[inner]
    assert np.percentile(difference, 95) <= 2


def test_the_map_ends_in_black() -> None:
    picture = render(ramp_raster(), CAMERA, Pose(0, 256.0, 0.0, 120.0, 0.0))
    assert picture[:, 180:].max() == 0
    assert picture[:, :140, 0].min() > 100


def test_a_lens_bends_a_straight_line() -> None:
    raster = ramp_raster()
    image = raster.image.copy()
    image[:] = 0
    image[:, 158] = 255
    line = Raster(image, raster.valid, raster.frame, raster.west_m, raster.north_m, 2.0)
    barrel = Camera(320, 240, CAMERA.matrix, np.array([-0.3, 0.0, 0.0, 0.0]))
    pose = Pose(0, 0.0, 0.0, 120.0, 0.0)
    columns = [
        np.average(np.arange(320), weights=render(line, camera, pose)[row, :, 0] + 1e-9)
        for camera in (CAMERA, barrel)
        for row in (5, 120)
    ]
    assert columns[0] == pytest.approx(columns[1], abs=0.5)
    assert columns[3] - columns[2] > 3  # bent towards the middle in the corner


def test_the_same_seed_flies_the_same_flight_and_another_one_does_not() -> None:
    route = route_from_waypoints(np.array([[-50.0, 0.0], [50.0, 0.0]]), 120.0, 10.0, 2.0)
    stormy = Conditions(appearance=1.0)
    flights = [
        [sight.frame.image for sight in Simulator(ramp_raster(), CAMERA, stormy, seed).fly(route)]
        for seed in (1, 1, 2)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(flights[0], flights[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(flights[0], flights[2], strict=True))


def test_errors_stand_in_the_telemetry_and_not_in_the_picture() -> None:
    route = route_from_waypoints(np.array([[-50.0, 0.0], [50.0, 0.0]]), 120.0, 10.0, 1.0)
    wrong = Conditions(appearance=0, flicker=0, tilt_std_deg=0, yaw_std_deg=10, height_std=0.1)
    clean = list(Simulator(ramp_raster(), CAMERA, CALM, 3).fly(route))
    noisy = list(Simulator(ramp_raster(), CAMERA, wrong, 3).fly(route))
    for a, b in zip(clean, noisy, strict=True):
        assert np.array_equal(a.frame.image, b.frame.image)
        assert a.telemetry.yaw_deg == pytest.approx(90.0)
    yaw_errors = [sight.telemetry.yaw_deg - 90 for sight in noisy]
    assert 2 < float(np.std(yaw_errors)) < 25


def test_a_route_keeps_speed_and_points_its_nose_ahead() -> None:
    route = route_from_waypoints(np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]]), 90.0, 5.0, 1.0)
    assert len(route) == 14
    assert [pose.yaw_deg for pose in route[:6]] == [90.0] * 6
    assert route[-1].yaw_deg == 0.0
    assert (route[10].east_m, route[10].north_m) == pytest.approx((30.0, 20.0))
    assert route[3].time_ns == 3_000_000_000


@settings(max_examples=30, deadline=None)
@given(yaw=st.floats(-180, 180), ahead=st.floats(-8, 8), aside=st.floats(-8, 8))
def test_a_tilt_moves_the_centre_and_keeps_the_images_top(
    yaw: float, ahead: float, aside: float
) -> None:
    pose = tilted(Pose(0, 0.0, 0.0, 100.0, yaw), ahead, aside)
    east, north = center_from_pose(CAMERA, pose)
    top, right = math.radians(yaw), math.radians(yaw + 90)
    reach_m = (
        100 * math.tan(math.radians(math.hypot(ahead, aside))) / max(math.hypot(ahead, aside), 1e-9)
    )
    assert east * math.sin(top) + north * math.cos(top) == pytest.approx(ahead * reach_m, abs=1e-6)
    assert east * math.sin(right) + north * math.cos(right) == pytest.approx(
        aside * reach_m, abs=1e-6
    )
    axes = enu_from_camera(pose.yaw_deg, pose.pitch_deg, pose.roll_deg)
    image_top = -axes[:2, 1]
    turn = math.atan2(image_top[0], image_top[1]) - top
    assert abs(math.remainder(turn, 2 * math.pi)) < math.radians(0.6)


def test_a_pose_that_cannot_look_down_is_refused() -> None:
    with pytest.raises(InputError, match="height_range"):
        render(ramp_raster(), CAMERA, Pose(0, 0.0, 0.0, -5.0, 0.0))
