from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.errors import CameraError
from skyfix.runtime.sense.camera import (
    Camera,
    camera_from_yaml,
    enu_from_camera,
    pixel_from_ground,
    turned_to_tilt,
)

MATRIX = np.array([[800.0, 0, 320], [0, 800, 240], [0, 0, 1]])
YAML = """
image_width: 640
image_height: 480
camera_matrix: [800, 0, 320, 0, 800, 240, 0, 0, 1]
distortion_coefficients: [0.1, -0.2, 0, 0]
"""


def ground_seen(
    pixel: tuple[float, float], attitude: tuple[float, float, float], height_m: float = 100.0
) -> NDArray[np.float64]:
    """East and north, from the drone, of the ground that a pixel sees."""
    homography = pixel_from_ground(MATRIX, enu_from_camera(*attitude), height_m)
    east, north, scale = np.linalg.inv(homography) @ (*pixel, 1.0)
    return np.array([east / scale, north / scale])


def bearing_deg(en_m: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arctan2(en_m[0], en_m[1]))) % 360


@pytest.mark.parametrize("yaw", [0, 30, 90, 200, 300])
def test_straight_down_the_right_of_the_image_lies_a_quarter_turn_from_yaw(yaw: float) -> None:
    right = ground_seen((320 + 80, 240), (yaw, -90, 0))
    assert np.hypot(*right) == pytest.approx(10.0)  # 80 px of 800 px focal length at 100 m
    assert bearing_deg(right) == pytest.approx((yaw + 90) % 360)


@pytest.mark.parametrize("yaw", [0, 30, 90, 200, 300])
def test_straight_down_the_top_of_the_image_lies_where_yaw_points(yaw: float) -> None:
    top = ground_seen((320, 240 - 160), (yaw, -90, 0))
    assert np.hypot(*top) == pytest.approx(20.0)
    np.testing.assert_allclose(
        top, 20 * np.array([np.sin(np.radians(yaw)), np.cos(np.radians(yaw))]), atol=1e-9
    )


def test_yaw_of_90_puts_east_at_the_top_and_south_at_the_right() -> None:
    np.testing.assert_allclose(ground_seen((320, 160), (90, -90, 0)), (10, 0), atol=1e-9)
    np.testing.assert_allclose(ground_seen((400, 240), (90, -90, 0)), (0, -10), atol=1e-9)


def test_pitch_of_minus_60_looks_the_tangent_of_30_degrees_ahead() -> None:
    ahead = 100 * np.tan(np.radians(30))
    np.testing.assert_allclose(ground_seen((320, 240), (0, -60, 0)), (0, ahead), atol=1e-9)
    np.testing.assert_allclose(ground_seen((320, 240), (90, -60, 0)), (ahead, 0), atol=1e-9)


def test_the_upper_part_of_a_pitched_image_looks_further_ahead_by_its_own_angle() -> None:
    up_px = 800 * np.tan(np.radians(10))
    _, north = ground_seen((320, 240 - up_px), (0, -60, 0))
    assert north == pytest.approx(100 * np.tan(np.radians(40)))


def test_straight_down_roll_adds_to_yaw() -> None:
    for pixel in ((400, 240), (320, 100), (11, 470)):
        np.testing.assert_allclose(
            ground_seen(pixel, (40, -90, 25)), ground_seen(pixel, (65, -90, 0)), atol=1e-9
        )


def test_roll_lowers_the_right_side_and_keeps_the_centre() -> None:
    level, rolled = (enu_from_camera(0, -30, roll) for roll in (0, 20))
    np.testing.assert_allclose(level[:, 2], rolled[:, 2], atol=1e-12)
    assert level[2, 0] == pytest.approx(0)
    assert rolled[2, 0] == pytest.approx(-np.sin(np.radians(20)) * np.cos(np.radians(30)))


def test_ground_behind_the_camera_has_a_negative_depth() -> None:
    homography = pixel_from_ground(MATRIX, enu_from_camera(0, -30, 0), 100.0)
    assert (homography @ (0, 100, 1))[2] > 0
    assert (homography @ (0, -100, 1))[2] < 0


@given(st.floats(-360, 360), st.floats(-90, 90), st.floats(-180, 180))
def test_the_rotation_is_three_turns_about_fixed_axes(
    yaw: float, pitch: float, roll: float
) -> None:
    def turn(axis: tuple[float, float, float], angle_deg: float) -> NDArray[np.float64]:
        return np.asarray(cv2.Rodrigues(np.array(axis) * np.radians(angle_deg))[0], float)

    # level and looking north: right = east, down = -up, forward = north
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    expected = turn((0, 0, 1), -yaw) @ turn((1, 0, 0), pitch) @ turn((0, 1, 0), roll) @ level
    np.testing.assert_allclose(enu_from_camera(yaw, pitch, roll), expected, atol=1e-12)


def test_a_camera_file_is_read_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(YAML, encoding="utf-8")
    camera = camera_from_yaml(path)
    assert (camera.width_px, camera.height_px) == (640, 480)
    np.testing.assert_array_equal(camera.matrix, MATRIX)
    np.testing.assert_array_equal(camera.distortion, [0.1, -0.2, 0, 0])
    assert camera.is_distorted


def test_zero_distortion_counts_as_none() -> None:
    assert not Camera(640, 480, MATRIX, np.zeros(5)).is_distorted
    assert not Camera(640, 480, MATRIX, np.zeros(0)).is_distorted


@pytest.mark.parametrize(
    ("original", "altered", "message"),
    [
        ("image_width: 640", "image_width: -1", "is no size"),
        ("image_width: 640", "", "image_width"),
        ("image_width: 640", "image_width: wide", "int"),
        ("[800,", "[-800,", "focal length"),
        ("[800,", "[.nan,", "focal length"),
        (" 0, 1]", " 0]", "8 numbers, not 9"),
        ("320,", ".inf,", "finite"),
        ("0.1,", ".nan,", "finite"),
        (" 0, 1]", " 0, 2]", "not 0, 0, 1"),
        (" 0, 0, 1]", " 0.5, 0, 1]", "not 0, 0, 1"),
        ("[0.1, -0.2, 0, 0]", "[0.1]", "1 distortion coefficients"),
        ("image_height", "image_hight", "image_hight"),
        ("image_width: 640", "image_width: 640\ncamera_model: fisheye", "fisheye"),
        ("image_width: 640", "image_width: [640", "camera.yaml"),
    ],
)
def test_a_faulty_camera_file_is_refused_by_name_and_fault(
    tmp_path: Path, original: str, altered: str, message: str
) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(YAML.replace(original, altered, 1), encoding="utf-8")
    with pytest.raises(CameraError, match=message) as caught:
        camera_from_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_camera_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"none\.yaml"):
        camera_from_yaml(tmp_path / "none.yaml")


@given(right=st.floats(-1, 1), forward=st.floats(-1, 1))
def test_a_camera_is_turned_to_its_tilt_the_shortest_way(right: float, forward: float) -> None:
    """Against Rodrigues' turn about the axis that is square to both directions."""
    aside = np.array([right, -forward, 1.0])
    lean = np.arctan(np.hypot(right, forward))
    about = np.cross([0.0, 0.0, 1.0], aside / np.linalg.norm(aside))
    axis = about / max(float(np.linalg.norm(about)), 1e-300)
    turn = np.asarray(cv2.Rodrigues(axis * lean)[0], float)
    assert turned_to_tilt(right, forward) == pytest.approx(turn, abs=1e-9)


def test_a_camera_that_looks_down_northwards_tilts_to_the_north_and_the_east() -> None:
    rotation = enu_from_camera(0.0, -90.0, 0.0) @ turned_to_tilt(0.1, 0.2)
    east, north, up = rotation[:, 2]
    assert (east / -up, north / -up) == pytest.approx((0.1, 0.2))
