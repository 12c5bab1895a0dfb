import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.hypotheses import Weighed
from skyfix.runtime.fuse.position import offset_of_center, position_from_places
from skyfix.runtime.fuse.tilt import Tilt, unknown_tilt
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Pose, center_from_pose, tilted
from skyfix.runtime.types import Hypothesis, Telemetry

from .conftest import CAMERA, HEIGHT_M

FRAME = LocalFrame(45.0, 9.0)
FLAT = np.zeros((CAMERA.height_px, CAMERA.width_px, 3), np.uint8)
STRAIGHT = unknown_tilt(5.0)


def laid(telemetry: Telemetry) -> Ground:
    ground = ground_from_frame(FLAT, CAMERA, telemetry, 1.0)
    assert isinstance(ground, Ground)
    return ground


def leading(log_scale: float = 0.0, turn_deg: float = 0.0) -> Weighed:
    place = Hypothesis(
        200.0, -100.0, 1.0, 0.5, 0.7, np.eye(2), turn_deg, log_scale, np.diag([1.0, 1e-4])
    )
    return Weighed([place], 0.0)


@given(
    ahead=st.floats(-12, 12), aside=st.floats(-12, 12), yaw=st.floats(-150, 150),
    turn=st.floats(-20, 20), scale=st.floats(0.8, 1.2),
)  # fmt: skip
def test_the_drone_of_a_tilted_camera_lies_where_the_simulators_does(
    ahead: float, aside: float, yaw: float, turn: float, scale: float
) -> None:
    """The simulator tilts a camera by yaw, pitch and roll; here its axis has to be the same."""
    pose = tilted(Pose(0, 0.0, 0.0, HEIGHT_M * scale, yaw + turn), ahead, aside)
    lean = math.tan(math.radians(math.hypot(ahead, aside)))
    towards = math.atan2(aside, ahead)
    tilt = Tilt(lean * np.array([math.sin(towards), math.cos(towards)]), np.eye(2), 0.01)
    ground = laid(Telemetry(0, yaw, -90.0, 0.0, HEIGHT_M))
    offset = offset_of_center(ground, turn, math.log(scale), tilt)
    assert tuple(offset.en_m) == pytest.approx(center_from_pose(CAMERA, pose), abs=1e-6)


def test_straight_down_a_tilt_moves_it_by_the_height_along_the_cameras_axes() -> None:
    ground = laid(Telemetry(0, 90.0, -90.0, 0.0, HEIGHT_M))
    offset = offset_of_center(ground, 0.0, math.log(1.5), STRAIGHT)
    assert offset.en_m == pytest.approx([0, 0], abs=1e-9)
    height = 1.5 * HEIGHT_M  # heading east: the camera's right is south
    assert offset.by_tilt == pytest.approx(np.array([[0, height], [-height, 0]]), abs=0.02)


def test_a_fix_puts_the_drone_behind_the_centre_by_the_tilt_and_says_how_sure_it_is() -> None:
    telemetry = Telemetry(0, 0.0, -90.0, 0.0, HEIGHT_M)
    tilt = replace(STRAIGHT, tangents=np.array([0.0, 0.14]), cov=np.diag([0.02**2, 0.05**2]))
    fix = position_from_places(leading(), np.eye(2), laid(telemetry), telemetry, FRAME, tilt)
    assert FRAME.en_from_wgs84(fix["lat_deg"], fix["lon_deg"]) == pytest.approx(
        (200.0, -100.0 - 0.14 * HEIGHT_M), abs=1e-3
    )
    added = fix["cov_en_m2"] - np.eye(2)
    assert math.sqrt(added[0, 0]) == pytest.approx(
        math.hypot(0.02 * HEIGHT_M, math.radians(0.14 * HEIGHT_M)), rel=0.01
    )
    assert added[1, 1] > (0.05 * HEIGHT_M) ** 2
