from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import (
    MAX_TILT_DEG,
    Ground,
    ground_from_frame,
    patch_from_frame,
    telemetry_fault,
    view_from_telemetry,
)
from skyfix.runtime.types import Patch, Reason, Telemetry

PIN_HOLE = Camera(320, 240, np.array([[260.0, 0, 159.5], [0, 260, 119.5], [0, 0, 1]]), np.zeros(0))
LENS = replace(PIN_HOLE, distortion=np.array([-0.12, 0.03, 0.001, -0.002]))
SIZE_PX = 96
# marks as fractions of the footprint's size, around the image's centre; no two alike in direction
MARKS = ((0.0, 0.0), (0.22, 0.05), (-0.11, 0.2), (-0.04, -0.23))
LEVEL = Telemetry(time_ns=0, yaw_deg=0, pitch_deg=-90, roll_deg=0, height_agl_m=100)

Array = NDArray[np.float64]


def turn(axis: tuple[float, float, float], angle_deg: float) -> Array:
    return np.asarray(cv2.Rodrigues(np.array(axis) * np.radians(angle_deg))[0], float)


def axes(telemetry: Telemetry) -> Array:
    """Camera axes in east, north, up by three turns of the level camera that looks north."""
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return np.asarray(
        turn((0, 0, 1), -telemetry.yaw_deg)
        @ turn((1, 0, 0), telemetry.pitch_deg)
        @ turn((0, 1, 0), telemetry.roll_deg)
        @ level
    )


def photograph(
    camera: Camera, telemetry: Telemetry, marks: Array, mark_m: float
) -> NDArray[np.uint8]:
    """Cast the ray of every pixel to the ground, where round white marks (n, 2) lie on grey."""
    rows, columns = np.mgrid[: camera.height_px, : camera.width_px]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)[:, None]
    lens = cv2.undistortPoints(pixels, camera.matrix, camera.distortion)[:, 0]
    rays = np.column_stack([lens, np.ones(len(lens))]) @ axes(telemetry).T
    ground = rays[:, :2] * (telemetry.height_agl_m / -np.minimum(rays[:, 2:], -1e-3))
    away = np.linalg.norm(ground[:, None] - marks, axis=2) / mark_m
    light = 40 + 200 * np.exp(-0.5 * away**2).max(axis=1)
    grey = light.reshape(camera.height_px, camera.width_px)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def centroid_px(patch: Patch, column: float, row: float, reach_px: int) -> tuple[float, float]:
    """Column and row of the light around a place of the patch."""
    top, left = round(row) - reach_px, round(column) - reach_px
    window = patch.image[top : top + 2 * reach_px + 1, left : left + 2 * reach_px + 1, 0]
    weight = np.maximum(window.astype(float) - 60, 0)
    rows, columns = np.mgrid[top : top + 2 * reach_px + 1, left : left + 2 * reach_px + 1]
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


def assert_marks_land(camera: Camera, telemetry: Telemetry, gsd_m: float, within_px: float) -> None:
    view_axis = axes(telemetry)[:, 2]
    center = view_axis[:2] * telemetry.height_agl_m / -view_axis[2]
    marks = center + np.array(MARKS) * SIZE_PX * gsd_m
    image = photograph(camera, telemetry, marks, 2.5 * gsd_m)
    patch = patch_from_frame(image, camera, telemetry, SIZE_PX, gsd_m)
    assert isinstance(patch, Patch)
    np.testing.assert_allclose(patch.drone_from_center_en_m, -center, atol=1e-9)
    seen = 0
    for mark in marks:
        column = (mark[0] - center[0]) / gsd_m + (SIZE_PX - 1) / 2
        row = (center[1] - mark[1]) / gsd_m + (SIZE_PX - 1) / 2
        around = patch.valid[round(row) - 7 : round(row) + 8, round(column) - 7 : round(column) + 8]
        if around.all():
            seen += 1
            assert centroid_px(patch, column, row, 7) == pytest.approx((column, row), abs=within_px)
    assert seen >= 2


@settings(max_examples=40, deadline=None)
@given(
    yaw=st.floats(-360, 360), pitch=st.floats(-90, -62), roll=st.floats(-180, 180),
    height=st.floats(60, 300), coarser=st.floats(1.0, 2.2),
)  # fmt: skip
def test_marks_on_the_ground_land_where_the_patch_says(
    yaw: float, pitch: float, roll: float, height: float, coarser: float
) -> None:
    telemetry = Telemetry(0, yaw, pitch, roll, height)
    assert_marks_land(PIN_HOLE, telemetry, coarser * height / 260, within_px=0.5)


@settings(max_examples=15, deadline=None)
@given(
    yaw=st.floats(0, 360), pitch=st.floats(-90, -70), roll=st.floats(-20, 20),
    coarser=st.floats(1.0, 2.2),
)  # fmt: skip
def test_a_curved_lens_is_straightened(
    yaw: float, pitch: float, roll: float, coarser: float
) -> None:
    assert_marks_land(LENS, Telemetry(0, yaw, pitch, roll, 120), coarser * 120 / 260, within_px=0.6)


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_shrinking_the_frame_first_moves_nothing(factor: int) -> None:
    large = Camera(
        320 * factor + 1, 240 * factor + 1,
        np.array([[260.0, 0, 160], [0, 260, 120], [0, 0, 1 / factor]]) * factor,
        np.zeros(0),
    )  # fmt: skip
    assert_marks_land(large, replace(LEVEL, yaw_deg=33), 100 / 260 * 1.01, within_px=0.15)


def test_only_ground_in_the_picture_is_valid_and_the_rest_is_black() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    patch = patch_from_frame(image, PIN_HOLE, LEVEL, 400, 0.5)
    assert isinstance(patch, Patch)
    rows, columns = np.nonzero(patch.valid)
    # the outermost pixels lie 61.3 m and 46.0 m from the centre: 122.7 and 91.9 patch pixels
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (108, 291, 77, 322)
    assert patch.valid.sum() == 184 * 246
    assert (patch.image[~patch.valid] == 0).all()
    assert (patch.image[patch.valid] == 200).all()


def test_blue_green_red_of_the_camera_become_red_green_blue() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[:] = (10, 20, 30)
    patch = patch_from_frame(image, PIN_HOLE, LEVEL, 32, 0.5)
    assert isinstance(patch, Patch)
    assert patch.image[16, 16].tolist() == [30, 20, 10]


def test_the_scale_at_the_centre_is_range_over_focal_length() -> None:
    view = view_from_telemetry(PIN_HOLE, replace(LEVEL, pitch_deg=-60))
    assert not isinstance(view, Reason)
    assert view.gsd_m == pytest.approx(100 / np.cos(np.radians(30)) / 260)


def test_tilt_is_refused_just_beyond_its_limit() -> None:
    limit = -90 + MAX_TILT_DEG
    image = np.zeros((240, 320, 3), np.uint8)
    kept = patch_from_frame(image, PIN_HOLE, replace(LEVEL, pitch_deg=limit - 0.1), 96, 0.5)
    assert isinstance(kept, Patch)
    refused = patch_from_frame(image, PIN_HOLE, replace(LEVEL, pitch_deg=limit + 0.1), 96, 0.5)
    assert refused is Reason.TILT


NAN = float("nan")


@pytest.mark.parametrize(
    ("telemetry", "reason"),
    [
        (replace(LEVEL, yaw_deg=400), Reason.YAW_RANGE),
        (replace(LEVEL, yaw_deg=-361), Reason.YAW_RANGE),
        (replace(LEVEL, pitch_deg=-91), Reason.ATTITUDE_RANGE),
        (replace(LEVEL, roll_deg=181), Reason.ATTITUDE_RANGE),
        (replace(LEVEL, height_agl_m=0), Reason.HEIGHT_RANGE),
        (replace(LEVEL, height_agl_m=5e-324), Reason.HEIGHT_RANGE),
        (replace(LEVEL, height_agl_m=-20), Reason.HEIGHT_RANGE),
        (replace(LEVEL, height_agl_m=1e5), Reason.HEIGHT_RANGE),
        (replace(LEVEL, yaw_deg=NAN), Reason.TELEMETRY_INVALID),
        (replace(LEVEL, pitch_deg=NAN), Reason.TELEMETRY_INVALID),
        (replace(LEVEL, roll_deg=NAN), Reason.TELEMETRY_INVALID),
        (replace(LEVEL, height_agl_m=float("inf")), Reason.TELEMETRY_INVALID),
        (replace(LEVEL, pitch_deg=0), Reason.TILT),
        (replace(LEVEL, pitch_deg=90), Reason.TILT),
        (replace(LEVEL, height_agl_m=20), Reason.FOOTPRINT),  # 25 x 18 m of 96 x 96 m
    ],
)
def test_a_frame_that_cannot_be_used_has_its_reason(telemetry: Telemetry, reason: Reason) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    assert patch_from_frame(image, PIN_HOLE, telemetry, 96, 1.0) is reason


@pytest.mark.parametrize("height_m", [0.05, 0.3, 1.5])
def test_a_drone_on_the_ground_has_too_small_a_footprint(height_m: float) -> None:
    camera = Camera(
        2000, 1125, np.array([[1400.0, 0, 999.5], [0, 1400, 562], [0, 0, 1]]), np.zeros(0)
    )
    image = np.zeros((1125, 2000, 3), np.uint8)
    landed = replace(LEVEL, height_agl_m=height_m)
    assert patch_from_frame(image, camera, landed, 128, 0.9) is Reason.FOOTPRINT


def test_a_patch_pixel_wider_than_the_picture_is_the_mean_of_it() -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    patch = patch_from_frame(image, PIN_HOLE, replace(LEVEL, height_agl_m=0.1), 1, 1.0)
    assert isinstance(patch, Patch)
    assert patch.image.tolist() == [[[90, 90, 90]]]


def test_usable_telemetry_has_no_fault_up_to_its_limits() -> None:
    assert telemetry_fault(Telemetry(0, -360, -90, 180, 10_000)) is None


def test_a_frame_of_another_size_than_the_camera_files_is_refused() -> None:
    turned = np.zeros((320, 240, 3), np.uint8)
    assert patch_from_frame(turned, PIN_HOLE, LEVEL, 96, 0.5) is Reason.FRAME_SIZE


@settings(max_examples=20, deadline=None)
@given(turn_deg=st.floats(-180, 180), scale=st.floats(0.8, 1.25), pitch_deg=st.floats(-90, -75))
def test_a_variant_is_what_a_right_telemetry_would_have_given(
    turn_deg: float, scale: float, pitch_deg: float
) -> None:
    """Wrongly told heading and height, put right by the variant, beside telemetry that is right."""
    rough = np.random.default_rng(3).normal(0, 1, (240, 320, 3))
    smooth = cv2.GaussianBlur(rough, (0, 0), 8)  # so that shrinking by 1 or 2 shows the same
    frame = (127 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    right = replace(LEVEL, yaw_deg=20.0, pitch_deg=pitch_deg)
    told = replace(right, yaw_deg=20.0 - turn_deg, height_agl_m=100.0 / scale)
    if abs(told.yaw_deg) > 360:
        return
    expected = patch_from_frame(frame, PIN_HOLE, right, 64, 1.0)
    ground = ground_from_frame(frame, PIN_HOLE, told, 1.0)
    assert isinstance(expected, Patch)
    assert isinstance(ground, Ground)
    found = ground.patch(64, 1.0, turn_deg, scale)
    assert isinstance(found, Patch)
    assert found.drone_from_center_en_m == pytest.approx(expected.drone_from_center_en_m, abs=1e-6)
    assert (found.valid != expected.valid).mean() < 0.01
    both = found.valid & expected.valid
    assert np.abs(found.image[both].astype(int) - expected.image[both].astype(int)).max() <= 12


def test_a_coarser_ground_shows_the_same_place() -> None:
    rough = np.random.default_rng(5).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(rough, (0, 0), 12).astype(np.uint8)
    ground = ground_from_frame(frame, PIN_HOLE, LEVEL, 0.4)
    assert isinstance(ground, Ground)
    fine, coarse = (g.patch(24, 2.5) for g in (ground, ground.coarser(2.5)))
    assert isinstance(fine, Patch)
    assert isinstance(coarse, Patch)
    assert np.abs(fine.image.astype(int) - coarse.image.astype(int))[fine.valid].mean() < 2


def test_grey_ground_is_the_grey_of_the_ground() -> None:
    frame = np.random.default_rng(6).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    ground = ground_from_frame(frame, PIN_HOLE, LEVEL, 1.0)
    assert isinstance(ground, Ground)
    colour, cut = ground.patch(40, 1.0), ground.grey().cut(40, 1.0)
    assert isinstance(colour, Patch)
    assert not isinstance(cut, Reason)
    grey = cv2.cvtColor(colour.image, cv2.COLOR_RGB2GRAY)
    assert np.abs(grey.astype(int) - cut[0].astype(int))[cut[1]].max() <= 2


@pytest.mark.parametrize("yaw_std_deg", [0.0, -1.0, float("nan")])
def test_a_deviation_of_yaw_that_is_none_makes_telemetry_invalid(yaw_std_deg: float) -> None:
    fault = telemetry_fault(replace(LEVEL, yaw_std_deg=yaw_std_deg))
    assert fault is Reason.TELEMETRY_INVALID


@pytest.mark.parametrize("height_std", [0.0, 0.9, float("nan")])
def test_a_deviation_of_height_that_is_none_makes_telemetry_invalid(height_std: float) -> None:
    assert telemetry_fault(replace(LEVEL, height_std=height_std)) is Reason.TELEMETRY_INVALID
