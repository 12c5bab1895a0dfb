import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from skyfix.runtime.fuse import tilt as tilt_module
from skyfix.runtime.fuse.odometry import Motion
from skyfix.runtime.fuse.planar import TILT_STD
from skyfix.runtime.fuse.tilt import (
    DRIFT_STD,
    UNSEEN_SHARE,
    VARYING_SHARE,
    Seen,
    Tilt,
    doubted,
    learned,
    seen_in_motion,
    tilt_of_camera,
    tilt_of_picture,
    unknown_tilt,
    widened,
)
from skyfix.runtime.sense.camera import enu_from_camera
from skyfix.runtime.types import Hypothesis, Telemetry

STD_DEG = 5.0
BELOW = Telemetry(0, 0.0, -90.0, 0.0, 100.0)
STATED = math.tan(math.radians(STD_DEG)) ** 2
TRUE = np.array([-0.03, 0.14])  # 8 degrees to the image's top
START = unknown_tilt(STD_DEG)
NOISE = np.array([[0.002, 0.0004], [0.0004, 0.006]])  # of a keystone: 2.5 and 4.4 degrees


def seen(rng: np.random.Generator, tangents: np.ndarray = TRUE) -> Seen:
    """A measurement of a camera whose tilt varies as much as is assumed."""
    return Seen(
        tangents + rng.multivariate_normal(np.zeros(2), NOISE)
        + rng.normal(0, math.sqrt(VARYING_SHARE * STATED), 2),
        NOISE,
    )  # fmt: skip


def flown(frames: list[Seen], start: Tilt = START) -> Tilt:
    for each in frames:
        start = learned(start, [each])
    return start


def motion(tilt: np.ndarray, tilt_cov: np.ndarray, effect: float = 1.0) -> Motion:
    return Motion(0.0, 20.0, np.eye(2), 0.0, 0.5, 0.0, 0.01, 60, 0.9, tilt, tilt_cov, effect)


def test_before_any_frame_a_cameras_tilt_is_as_uncertain_as_the_user_states() -> None:
    here = tilt_of_camera(tilt_of_picture(START, []))
    assert here.tangents == pytest.approx([0, 0])
    assert here.cov == pytest.approx(np.eye(2) * STATED)


def test_the_filter_is_the_least_squares_of_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tilt_module, "DRIFT_STD", 0.0)
    frames = [seen(np.random.default_rng(seed)) for seed in range(6)]
    found = flown(frames)
    weight = np.linalg.inv(NOISE + np.eye(2) * VARYING_SHARE * STATED)
    cov = np.linalg.inv(np.linalg.inv(START.cov) + len(frames) * weight)
    assert found.cov == pytest.approx(cov)
    assert found.tangents == pytest.approx(
        cov @ weight @ np.sum([frame.tangents for frame in frames], axis=0)
    )


def test_a_flight_finds_its_tilt_and_knows_how_well() -> None:
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(200):
        truth = rng.multivariate_normal(np.zeros(2), START.cov)
        found = flown([seen(rng, truth) for _ in range(15)])
        apart = found.tangents - truth
        errors.append(float(apart @ np.linalg.solve(found.cov, apart)))
    assert np.trace(found.cov) < np.trace(START.cov) / 8
    assert np.mean(errors) == pytest.approx(2.0, abs=0.5)


def test_what_no_frame_can_teach_is_left_after_a_long_flight() -> None:
    rng = np.random.default_rng(2)
    picture = tilt_of_picture(flown([seen(rng) for _ in range(300)]), [])
    left = VARYING_SHARE * STATED
    assert np.linalg.eigvalsh(picture.cov)[0] > left
    assert np.linalg.eigvalsh(picture.cov)[1] < 2 * left
    assert tilt_of_camera(picture).cov == pytest.approx(
        picture.cov + np.eye(2) * UNSEEN_SHARE * STATED
    )


def test_a_frame_that_contradicts_the_flight_is_not_believed() -> None:
    rng = np.random.default_rng(3)
    before = flown([seen(rng) for _ in range(10)])
    wrong = Seen(np.array([0.5, -0.6]), NOISE)
    assert learned(before, [wrong]).tangents == pytest.approx(before.tangents)
    assert tilt_of_picture(before, [wrong]).tangents == pytest.approx(before.tangents)
    close = Seen(before.tangents + 0.05, NOISE)
    assert (learned(before, [wrong, close]).tangents > before.tangents).all()


def test_a_frame_that_stands_apart_by_itself_moves_its_own_tilt_more_than_the_flights() -> None:
    rng = np.random.default_rng(4)
    before = flown([seen(rng) for _ in range(10)])
    precise = Seen(
        before.tangents + np.array([0.05, 0.0]), np.eye(2) * math.tan(math.radians(0.5)) ** 2
    )
    of_flight, of_frame = learned(before, [precise]), tilt_of_picture(before, [precise])
    assert of_frame.tangents[0] - before.tangents[0] > 0.045
    assert of_flight.tangents[0] - before.tangents[0] < 0.025


def test_two_measurements_of_one_frame_weigh_by_their_precision() -> None:
    loose, tight = (
        Seen(np.array([0.08, 0.0]), np.eye(2) * 4e-3),
        Seen(np.zeros(2), np.eye(2) * 1e-3),
    )
    both = learned(START, [loose, tight])
    fused = learned(START, [Seen(np.array([0.016, 0.0]), np.eye(2) * 8e-4)])
    assert both.tangents == pytest.approx(fused.tangents)
    assert both.cov == pytest.approx(fused.cov)


def test_a_mount_that_gives_way_slowly_is_followed() -> None:
    rng = np.random.default_rng(5)
    path = np.cumsum(rng.normal(0, DRIFT_STD, (200, 2)), axis=0)
    found = flown([seen(rng, TRUE + way) for way in path])
    apart = found.tangents - (TRUE + path[-1])
    assert float(apart @ np.linalg.solve(found.cov, apart)) < 9.21


@pytest.mark.parametrize("effect", [1.0, 3.0])
def test_parallax_is_told_without_the_prior_of_its_fit(effect: float) -> None:
    likelihood = np.array([[0.0009, -0.0002], [-0.0002, 0.0004]])
    cov = np.linalg.inv(np.linalg.inv(likelihood) + np.eye(2) / TILT_STD**2)
    shrunk = cov @ np.linalg.solve(likelihood, TRUE)
    told = seen_in_motion(motion(shrunk, cov * effect, effect), BELOW)
    assert told is not None
    assert told.tangents == pytest.approx(TRUE)
    assert told.cov == pytest.approx(likelihood * effect)


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), [(-90, 0), (-90, 30), (-60, 0), (-65, -20)])
def test_a_tilt_about_straight_down_is_turned_into_the_cameras_own_axes(
    pitch_deg: float, roll_deg: float
) -> None:
    """Against rays: all of them turn by the small rotation that tilts straight down."""
    tilt = np.array([0.004, -0.007])
    cov = np.eye(2) * 1e-6
    told = seen_in_motion(
        motion(tilt, cov), replace(BELOW, pitch_deg=float(pitch_deg), roll_deg=float(roll_deg))
    )
    assert told is not None
    down, leant = np.array([0.0, 0.0, -1.0]), np.array([*tilt, -1.0])
    axis = np.cross(down, leant / np.linalg.norm(leant))
    turn, _ = cv2.Rodrigues(axis)
    rotation = enu_from_camera(0.0, float(pitch_deg), float(roll_deg))
    right, low, ahead = rotation.T @ turn @ rotation[:, 2]
    assert told.tangents == pytest.approx([right / ahead, -low / ahead], rel=0.01, abs=2e-5)


@pytest.mark.parametrize("effect", [1.0, 3.0])
def test_a_drone_that_hovers_says_nothing_of_its_tilt(effect: float) -> None:
    hovering = motion(np.array([0.01, 0.0]), np.eye(2) * 0.99 * TILT_STD**2 * effect, effect)
    assert seen_in_motion(hovering, BELOW) is None


def test_after_a_search_starts_anew_the_tilt_stays_and_is_trusted_no_more_than_at_the_start() -> (
    None
):
    found = doubted(flown([seen(np.random.default_rng(6)) for _ in range(9)]))
    assert np.abs(found.tangents - TRUE).max() < 0.05
    assert found.cov == pytest.approx(START.cov)


def test_a_place_is_as_unsure_as_the_tilts_that_have_pulled_it_away() -> None:
    rng = np.random.default_rng(4)
    pull = np.array([[1.5, 20.0], [-30.0, 2.0], [4.0, 1.0], [0.2, -0.1]])  # a tangent
    here = replace(START, tangents=np.array([0.02, -0.05]), cov=np.diag([0.01, 0.03]) ** 2)
    own = np.diag([0.3, 0.4, 0.2, 0.01]) ** 2
    tilts = rng.multivariate_normal(here.tangents, here.cov, 40_000)
    errors = tilts @ pull.T + rng.multivariate_normal(np.zeros(4), own, 40_000)
    place = Hypothesis(0.0, 0.0, 1.0, 0.5, 0.7, own[:2, :2], 0.0, 0.0, own[2:, 2:])
    found = widened(place, pull, here)
    drawn = errors.T @ errors / len(errors)
    assert found.cov_en_m2 == pytest.approx(drawn[:2, :2], rel=0.03, abs=0.02)
    assert found.attitude_cov == pytest.approx(drawn[2:, 2:], rel=0.03, abs=0.002)
