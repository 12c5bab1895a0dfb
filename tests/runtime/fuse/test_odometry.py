"""Motion between frames: planted flights, and pictures from which none can be told."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.fuse.odometry import Look, Motion, look_from_frame, motion_between
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera, camera_from_yaml
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import Conditions, Pose, SimulatedFrame, Simulator
from skyfix.runtime.sense.source import open_source
from skyfix.runtime.sense.telemetry import read_telemetry
from skyfix.runtime.truth import read_truth
from skyfix.runtime.types import Frame, Reason, Telemetry

CAMERA = Camera(426, 240, np.array([[350.0, 0, 212.5], [0, 350.0, 119.5], [0, 0, 1]]), np.zeros(0))
VIDEO = Camera(852, 480, np.array([[700.0, 0, 425.5], [0, 700.0, 239.5], [0, 0, 1]]), np.zeros(0))
LENS = replace(CAMERA, distortion=np.array([-0.12, 0.03, 0.001, -0.001]))
CALM = Conditions(appearance=0, flicker=0, tilt_std_deg=0, yaw_std_deg=0, height_std=0)
ROUGH = Conditions(appearance=0.5, flicker=0.15, tilt_std_deg=2, yaw_std_deg=0, height_std=0)
BELOW = Telemetry(0, 0.0, -90.0, 0.0, 100.0)
ROWS, COLUMNS = np.mgrid[:240, :426]
Picture = NDArray[np.uint8]
Pair = tuple[SimulatedFrame, SimulatedFrame]
Drawn = Callable[[float, float], NDArray[np.float64]]


@pytest.fixture(scope="module")
def land() -> Raster:
    return town_and_country(1, 560.0, 560.0, 0.5, LocalFrame(47.37, 8.54))


def flown(land: Raster, poses: list[Pose], conditions: Conditions = CALM, seed: int = 0) -> Pair:
    first, second = Simulator(land, CAMERA, conditions, seed).fly(poses)
    return first, second


def looked(pair: Pair, camera: Camera = CAMERA) -> tuple[Look, Look]:
    first, second = (look_from_frame(each.frame.image, camera, each.telemetry) for each in pair)
    assert isinstance(first, Look)
    assert isinstance(second, Look)
    return first, second


def look(picture: NDArray[np.generic], telemetry: Telemetry = BELOW) -> Look:
    image = np.clip(picture, 0, 255).astype(np.uint8)
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    seen = look_from_frame(image, CAMERA, telemetry)
    assert isinstance(seen, Look)
    return seen


def motion_of(pair: Pair, camera: Camera = CAMERA) -> Motion:
    motion = motion_between(*looked(pair, camera))
    assert motion is not None
    return motion


def true_motion(pair: Pair, yaw_deg: float) -> tuple[float, float]:
    """Right and forward of the images' centres, from the simulator's poses."""
    east, north = np.subtract(pair[1].center_en_m, pair[0].center_en_m)
    cos, sin = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    return float(east * cos - north * sin), float(east * sin + north * cos)


@pytest.mark.parametrize("turn_deg", [0.0, 14.0, 90.0, 178.0])
@pytest.mark.parametrize("climb", [0.95, 1.06])
def test_a_planted_motion_turn_and_climb_are_measured(
    land: Raster, turn_deg: float, climb: float
) -> None:
    poses = [Pose(0, 10, -20, 100, 40), Pose(1, 22, -9, 100 * climb, 40 + turn_deg)]
    pair = flown(land, poses)
    motion = motion_of(pair)
    assert (motion.right_m, motion.forward_m) == pytest.approx(true_motion(pair, 40), abs=0.15)
    assert motion.center_en_m(40) == pytest.approx((12, 11), abs=0.15)
    assert math.remainder(motion.turn_deg - turn_deg, 360) == pytest.approx(0, abs=0.15)
    assert motion.log_scale == pytest.approx(math.log(climb), abs=0.003)


@pytest.mark.parametrize("step_m", [0.0, 1.0, 20.0, 60.0])
def test_a_motion_of_nothing_and_of_half_the_picture_is_measured(
    land: Raster, step_m: float
) -> None:
    pair = flown(land, [Pose(0, -30, 0, 120, 90), Pose(1, -30 + step_m, 0, 120, 90)], ROUGH, 4)
    motion = motion_of(pair)
    assert (motion.right_m, motion.forward_m) == pytest.approx(true_motion(pair, 90), abs=0.4)


def test_a_wrong_heading_turns_the_motion_and_a_wrong_height_stretches_it(land: Raster) -> None:
    pair = flown(land, [Pose(0, 0, 0, 100, 0), Pose(1, 8, 14, 100, 5)])
    wrong = [
        replace(each, telemetry=replace(each.telemetry, yaw_deg=77.0, height_agl_m=120.0))
        for each in pair
    ]
    told, right = motion_of((wrong[0], wrong[1])), motion_of(pair)
    assert told.right_m == pytest.approx(right.right_m * 1.2, abs=1e-6)
    assert told.turn_deg == pytest.approx(right.turn_deg, abs=1e-6)
    assert told.log_scale == pytest.approx(right.log_scale, abs=1e-6)
    assert told.center_en_m(0, scale=100 / 120) == pytest.approx((8, 14), abs=0.15)


def test_heights_that_disagree_with_the_pictures_do_not_matter(land: Raster) -> None:
    pair = flown(land, [Pose(0, 0, 0, 100, 0), Pose(1, 5, 9, 100, 0)])
    lower = replace(pair[1], telemetry=replace(pair[1].telemetry, height_agl_m=90.0))
    motion = motion_of((pair[0], lower))
    assert motion.log_scale == pytest.approx(0, abs=0.003)
    assert motion.center_en_m(0) == pytest.approx((5, 9), abs=0.15)


def test_known_tilt_is_taken_out(land: Raster) -> None:
    pair = flown(land, [Pose(0, 0, 0, 100, 30, -72, 4), Pose(1, 6, 7, 104, 33, -76, -3)])
    motion = motion_of(pair)
    assert (motion.right_m, motion.forward_m) == pytest.approx(true_motion(pair, 30), abs=0.3)
    assert motion.turn_deg == pytest.approx(3, abs=0.3)
    assert motion.log_scale == pytest.approx(math.log(1.04), abs=0.01)


def test_a_lens_that_bends_lines_moves_nothing(land: Raster) -> None:
    poses = [Pose(0, 0, 0, 100, 0), Pose(1, 9, 13, 102, 12)]
    first, second = Simulator(land, LENS, CALM).fly(poses)
    motion = motion_of((first, second), LENS)
    assert motion.center_en_m(0) == pytest.approx((9, 13), abs=0.2)
    assert motion.turn_deg == pytest.approx(12, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_stated_deviations_hold_the_errors_of_simulated_flights(land: Raster, seed: int) -> None:
    draw = np.random.default_rng(seed)
    shifts: list[float] = []
    turns: list[float] = []
    scales: list[float] = []
    missing = 0
    for number in range(40):
        height, yaw = draw.uniform(80, 130), draw.uniform(-90, 90)
        east, north, *step = draw.uniform(-60, 60, 2).tolist() + draw.uniform(-25, 25, 2).tolist()
        turn, climb = draw.uniform(-12, 12), math.exp(draw.uniform(-0.04, 0.04))
        poses = [
            Pose(0, east, north, height, yaw),
            Pose(1, east + step[0], north + step[1], height * climb, yaw + turn),
        ]
        first, second = Simulator(land, VIDEO, ROUGH, seed=100 * seed + number).fly(poses)
        pair = (first, second)
        motion = motion_between(*looked(pair, VIDEO))
        if motion is None:
            missing += 1
            continue
        error = np.subtract((motion.right_m, motion.forward_m), true_motion(pair, yaw))
        shifts.extend(np.linalg.solve(np.linalg.cholesky(motion.cov_m2), error).tolist())
        turns.append((motion.turn_deg - turn) / motion.turn_std_deg)
        scales.append((motion.log_scale - math.log(climb)) / motion.log_scale_std)
    assert missing <= 2
    assert 0.7 <= np.sqrt(np.mean(np.square(shifts))) <= 1.4
    assert 0.4 <= np.sqrt(np.mean(np.square(turns))) <= 1.4
    assert 0.4 <= np.sqrt(np.mean(np.square(scales))) <= 1.4


@pytest.mark.parametrize(("gain", "offset"), [(0.4, 0.0), (1.5, 10.0), (0.8, 60.0), (0.25, 5.0)])
def test_a_change_of_brightness_moves_nothing(land: Raster, gain: float, offset: float) -> None:
    first, second = flown(land, [Pose(0, 0, 0, 100, 0), Pose(1, 7, 12, 100, 0)])
    motion = motion_between(
        look(first.frame.image), look(second.frame.image.astype(float) * gain + offset)
    )
    assert motion is not None
    assert motion.center_en_m(0) == pytest.approx((7, 12), abs=0.3)


def test_a_rolling_shutter_widens_the_covariance(land: Raster) -> None:
    first, second = flown(land, [Pose(0, 0, 0, 100, 0), Pose(1, 7, 12, 100, 0)])
    traces = []
    for sway_px in (0.0, 4.0):
        columns = COLUMNS + sway_px * np.sin(ROWS / 240 * 5 * np.pi)
        swayed = cv2.remap(
            second.frame.image, columns.astype(np.float32), ROWS.astype(np.float32),
            cv2.INTER_LINEAR,
        )  # fmt: skip
        motion = motion_between(look(first.frame.image), look(swayed))
        assert motion is not None
        error_m = np.subtract(motion.center_en_m(0), (7, 12))
        assert np.linalg.norm(error_m) < 4 * math.sqrt(np.trace(motion.cov_m2))
        traces.append(np.trace(motion.cov_m2))
    assert traces[1] > 9 * traces[0]


def test_other_places_are_no_motion(land: Raster) -> None:
    places = [(-150, -150), (150, -150), (-150, 150), (150, 150)]
    poses = [Pose(number, *place, 100, 30) for number, place in enumerate(places)]
    looks = [
        look_from_frame(each.frame.image, CAMERA, each.telemetry)
        for each in Simulator(land, CAMERA, CALM).fly(poses)
    ]
    for first in looks:
        for second in looks:
            assert isinstance(first, Look)
            assert isinstance(second, Look)
            assert (motion_between(first, second) is None) == (first is not second)


def fields(right_px: float, period_px: float) -> NDArray[np.float64]:
    phase = 2 * np.pi / period_px
    noise = np.random.default_rng(int(right_px)).normal(0, 3, ROWS.shape)
    plots = np.sin(phase * (COLUMNS + right_px)) * np.sin(phase * ROWS)
    return np.asarray(128 + 50 * plots + noise)


def rows_of_trees(right_px: float, period_px: float) -> NDArray[np.float64]:
    noise = np.random.default_rng(int(right_px)).normal(0, 3, ROWS.shape)
    along = 2 * np.pi * (COLUMNS * 0.9 + ROWS * 0.4 + right_px) / period_px
    return np.asarray(128 + 50 * np.sign(np.sin(along)) + noise)


@pytest.mark.parametrize("draw", [fields, rows_of_trees])
@pytest.mark.parametrize("period_px", [16.0, 30.0, 60.0])
@pytest.mark.parametrize("right_px", [3.0, 13.0, 40.0])
def test_fields_that_repeat_are_no_motion(draw: Drawn, period_px: float, right_px: float) -> None:
    assert motion_between(look(draw(0, period_px)), look(draw(right_px, period_px))) is None


def test_one_straight_edge_is_no_motion() -> None:
    across = COLUMNS * 0.8 + ROWS * 0.5
    pictures = [np.where(across > limit, 170, 90) for limit in (230, 245)]
    assert motion_between(look(pictures[0]), look(pictures[1])) is None


@pytest.mark.parametrize(("level", "noise"), [(210.0, 0.0), (210.0, 2.0), (12.0, 8.0), (0.0, 0.0)])
def test_fog_and_night_are_no_motion(level: float, noise: float) -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        first, second = (level + draw.normal(0, noise, ROWS.shape) for _ in range(2))
        assert motion_between(look(first), look(second)) is None


def test_dirt_on_the_lens_does_not_hold_a_moving_picture_still(land: Raster) -> None:
    first, second = flown(land, [Pose(0, 0, 0, 100, 0), Pose(1, 7, 12, 100, 0)])
    spots = (np.random.default_rng(5).random((240, 426, 1)) > 0.999).astype(np.uint8)
    clean = 1 - cv2.dilate(spots, np.ones((4, 4)))[..., None]
    motion = motion_between(look(first.frame.image * clean), look(second.frame.image * clean))
    assert motion is None or motion.center_en_m(0) == pytest.approx((7, 12), abs=1)


@pytest.mark.parametrize(
    ("telemetry", "reason"),
    [
        (replace(BELOW, height_agl_m=math.nan), Reason.TELEMETRY_INVALID),
        (replace(BELOW, height_agl_m=-4.0), Reason.HEIGHT_RANGE),
        (replace(BELOW, pitch_deg=-20.0), Reason.TILT),
    ],
)
def test_a_frame_without_usable_geometry_has_its_reason(
    telemetry: Telemetry, reason: Reason
) -> None:
    assert look_from_frame(np.zeros((240, 426, 3), np.uint8), CAMERA, telemetry) is reason


def test_a_frame_of_another_size_has_its_reason() -> None:
    assert look_from_frame(np.zeros((100, 426, 3), np.uint8), CAMERA, BELOW) is Reason.FRAME_SIZE


def test_an_unknown_heading_is_no_obstacle() -> None:
    picture = np.zeros((240, 426, 3), np.uint8)
    assert isinstance(look_from_frame(picture, CAMERA, replace(BELOW, yaw_deg=math.nan)), Look)


@pytest.mark.real
def test_a_second_of_nust_is_measured_to_within_the_truth(shared_data: Path) -> None:
    folder = shared_data / "nust"
    rows = [row for row in read_telemetry(folder / "flight.csv") if int(row.frame) < 676]
    camera, truth = camera_from_yaml(folder / "camera.yaml"), read_truth(folder / "flight.csv")
    local = LocalFrame(truth["center"].lat_deg[0], truth["center"].lon_deg[0])
    east, north = local.en_from_wgs84(truth["center"].lat_deg, truth["center"].lon_deg)
    looks = []
    with open_source(str(folder / "video.mp4"), rows) as frames:
        for frame, row in zip(frames, rows, strict=True):
            assert isinstance(frame, Frame)
            assert row.telemetry is not None
            looks.append((row.telemetry, look_from_frame(frame.image, camera, row.telemetry)))
    errors_m: list[float] = []
    place = np.zeros(2)
    for number, ((telemetry, first), (_, second)) in enumerate(pairwise(looks)):
        assert isinstance(first, Look)
        assert isinstance(second, Look)
        motion = motion_between(first, second)
        assert motion is not None
        flown_m = motion.center_en_m(telemetry.yaw_deg)
        step_m = np.array([np.diff(axis)[number] for axis in (east, north)])
        errors_m.append(float(np.linalg.norm(flown_m - step_m)))
        place += flown_m
    assert np.median(errors_m) < 1.5  # the truth itself is good to 5 m
    assert np.hypot(*(place - (east[len(rows) - 1], north[len(rows) - 1]))) < 8
