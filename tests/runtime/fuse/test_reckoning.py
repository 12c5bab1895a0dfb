import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.attitude import Attitude
from skyfix.runtime.fuse.belief import disc_belief
from skyfix.runtime.fuse.odometry import Motion
from skyfix.runtime.fuse.planar import TILT_STD
from skyfix.runtime.fuse.reckoning import (
    LEAST_TEMPER,
    SLIP,
    Anchor,
    Flown,
    Reckoning,
    flown_since,
    temper_of,
)
from skyfix.runtime.fuse.tilt import Seen, unknown_tilt
from skyfix.runtime.geo import Grid
from skyfix.runtime.types import Hypothesis, Telemetry

from .conftest import CAMERA, HEIGHT_M, Land

SECOND_NS = 1_000_000_000
BEFORE = Telemetry(0, 20.0, -90.0, 0.0, 100.0)
AFTER = replace(BEFORE, time_ns=SECOND_NS)
KNOWN = Attitude(10.0, 2.0, math.log(1.1), 0.02)
UNKNOWN = Attitude(0.0, math.inf, 0.0, 0.1)
TILT_COV = np.eye(2) * TILT_STD**2  # nothing but its prior
AHEAD = Motion(
    0.0, 20.0, np.eye(2) * 0.25, 0.0, 0.5, 0.0, 0.01, 60, 0.9, np.zeros(2), TILT_COV, 1.0
)
SPEED_MPS = 30.0
TILE_M = 96.0


def test_a_measured_motion_turns_and_grows_with_the_attitude() -> None:
    flown = flown_since(BEFORE, AFTER, KNOWN, AHEAD, SPEED_MPS)
    heading = math.radians(30.0)  # 20 told, 10 more in truth
    assert flown.measured
    assert flown.east_m == pytest.approx(22.0 * math.sin(heading))
    assert flown.north_m == pytest.approx(22.0 * math.cos(heading))
    expected = math.hypot(0.5 * 1.1, 22 * math.radians(2.0), 22 * 0.02)
    assert flown.std_m == pytest.approx(expected)


def test_without_a_heading_the_way_is_unknown_but_not_its_length() -> None:
    flown = flown_since(BEFORE, AFTER, UNKNOWN, AHEAD, SPEED_MPS)
    assert not flown.measured
    assert flown.reach_m == pytest.approx(20 * 1.2 + 2 * 0.5)


def test_the_autopilots_velocity_is_turned_by_its_compass_error() -> None:
    moving = replace(AFTER, vel_east_mps=0.0, vel_north_mps=10.0)
    flown = flown_since(BEFORE, moving, Attitude(90.0, 1.0, 0.0, 0.1), None, SPEED_MPS)
    assert (flown.east_m, flown.north_m) == pytest.approx((10.0, 0.0))
    assert flown.measured


def test_knowing_nothing_the_speed_bounds_it() -> None:
    flown = flown_since(BEFORE, AFTER, UNKNOWN, None, SPEED_MPS)
    assert (flown.measured, flown.reach_m) == (False, 30.0)


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 3)), max_size=6))
def test_movements_add_up(parts: list[tuple[float, float, float]]) -> None:
    whole = Flown()
    for east, north, std in parts:
        whole = whole.then(Flown(east, north, std, 30.0))
    assert whole.east_m == pytest.approx(sum(part[0] for part in parts))
    assert whole.std_m == pytest.approx(math.hypot(*(part[2] for part in parts)))
    assert whole.measured


def test_a_belief_waits_until_a_movement_is_worth_a_cell() -> None:
    grid = Grid(0.0, 0.0, 40.0, 20, 20)
    valid = np.ones((20, 20), bool)
    belief = disc_belief(grid, valid, (400.0, -400.0), 10.0)
    assert belief is not None
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    assert reckoning.moved(belief, valid) is belief


def test_a_flight_over_the_land_carries_its_belief_along(land: Land) -> None:
    grid = Grid(-250.0, 250.0, 10.0, 51, 51)
    valid = np.ones((51, 51), bool)
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    belief = disc_belief(grid, valid, (0.0, 0.0), 5.0)
    assert belief is not None
    for second in range(5):
        ground = land.seen(12.0 * second, 0.0)
        image = np.ascontiguousarray(np.repeat(ground.small[..., None], 3, axis=2))
        told = Telemetry(second * SECOND_NS, 0.0, -90.0, 0.0, HEIGHT_M)
        reckoning.attitude(image, told)
        belief = reckoning.moved(belief, valid)
    row, column = divmod(int(belief.log_p.argmax()), 51)
    east, north = grid.east_m + column * 10.0, grid.north_m - row * 10.0
    assert (east, north) == pytest.approx((48.0, 0.0), abs=10.0)
    assert np.exp(belief.log_p).max() > 0.05  # a bound of speed would have spread it over 900 cells


def test_ground_that_was_just_seen_is_tempered_and_new_ground_is_not(land: Land) -> None:
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    assert temper_of(reckoning.take_in()) == 1.0  # the first frame is new
    tempers = []
    for second, east_m in enumerate((0.0, 0.5, 40.0)):
        ground = land.seen(east_m, 0.0)
        image = np.ascontiguousarray(np.repeat(ground.small[..., None], 3, axis=2))
        reckoning.attitude(image, Telemetry(second * SECOND_NS, 0.0, -90.0, 0.0, HEIGHT_M))
        tempers.append(temper_of(reckoning.take_in()))
    assert tempers[1] == LEAST_TEMPER
    assert tempers[2] == 1.0


def test_a_known_error_of_height_stretches_the_bound_of_an_unknown_way() -> None:
    higher = replace(UNKNOWN, log_scale=math.log(1.1))
    flown = flown_since(BEFORE, AFTER, higher, AHEAD, SPEED_MPS)
    assert flown.reach_m == pytest.approx(1.1 * (20 * 1.2 + 2 * 0.5))


def test_the_velocity_at_the_end_of_a_long_gap_does_not_say_how_it_was_flown() -> None:
    moving = replace(AFTER, time_ns=60 * SECOND_NS, vel_east_mps=10.0, vel_north_mps=0.0)
    flown = flown_since(BEFORE, moving, KNOWN, None, SPEED_MPS)
    assert (flown.measured, flown.length_m) == (False, 0.0)
    assert flown.reach_m == pytest.approx(1800.0)


def test_a_velocity_that_no_drone_has_is_not_taken() -> None:
    moving = replace(AFTER, vel_east_mps=1e200, vel_north_mps=0.0)
    flown = flown_since(BEFORE, moving, KNOWN, None, SPEED_MPS)
    assert (flown.measured, flown.length_m, flown.reach_m) == (False, 0.0, 30.0)


def placed() -> Hypothesis:
    return Hypothesis(0.0, 0.0, 1.0, 0.5, 0.7, np.eye(2), 0.0, 0.0, np.diag([1.0, 1e-4]))


def flying(reckoning: Reckoning, land: Land, second: int, east_m: float) -> Telemetry:
    ground = land.seen(east_m, 0.0)
    image = np.ascontiguousarray(np.repeat(ground.small[..., None], 3, axis=2))
    told = Telemetry(second * SECOND_NS, 0.0, -90.0, 0.0, HEIGHT_M)
    reckoning.attitude(image, told)
    return told


def test_frames_of_the_same_ground_tell_of_the_tilt_once(land: Land) -> None:
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    seen = [Seen(np.array([0.0, 0.1]), np.eye(2) * 0.004)]
    taught = []
    for second, east_m in enumerate((0.0, 0.5, 1.0, 40.0)):
        told = flying(reckoning, land, second, east_m)
        before = reckoning.tilt
        reckoning.confirm(told, placed(), seen)
        taught.append(bool((reckoning.tilt.tangents != before.tangents).any()))
    assert taught == [True, False, False, True]


def test_a_place_that_is_not_taken_tells_nothing_of_the_tilt(land: Land) -> None:
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    for second in range(4):
        flying(reckoning, land, second, 12.0 * second)
        assert not reckoning.tilt.tangents.any()


def test_a_lost_drone_keeps_its_tilt_but_doubts_it(land: Land) -> None:
    start = unknown_tilt(5.0)
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, start)
    told = flying(reckoning, land, 0, 0.0)
    reckoning.confirm(told, placed(), [Seen(np.array([0.0, 0.1]), np.eye(2) * 1e-4)])
    taught = reckoning.tilt
    reckoning.doubt()
    assert reckoning.tilt.tangents == pytest.approx(taught.tangents)
    assert np.trace(reckoning.tilt.cov) == pytest.approx(np.trace(start.cov))
    assert np.trace(taught.cov) < np.trace(start.cov)


def test_a_place_is_measured_against_where_pictures_have_carried_the_last_one() -> None:
    anchor = Anchor(100.0, 50.0, 1.0, Flown(30.0, -40.0, 2.0, 90.0))
    deviation_m = math.hypot(1.0, 2.0, 2.0 + SLIP * 50.0)
    assert anchor.strayed(130.0, 10.0, 2.0) == pytest.approx(0.0)
    assert anchor.strayed(130.0, 10.0 + 3 * deviation_m, 2.0) == pytest.approx(3.0, rel=0.1)
    far = anchor.strayed(500.0, 500.0, 1.0)
    assert far > 50
    for unknown in ({"measured": False}, {"by_pictures": False}):
        untold = replace(anchor, flown=replace(anchor.flown, **unknown))
        assert untold.strayed(500.0, 500.0, 1.0) == 0.0


def test_a_drone_carries_its_last_places_along_and_a_new_search_forgets_what_it_saw(
    land: Land,
) -> None:
    reckoning = Reckoning(CAMERA, SPEED_MPS, TILE_M, unknown_tilt(5.0))
    assert reckoning.strayed(0.0, 0.0, 1.0) == (0.0, 0.0)
    told = flying(reckoning, land, 0, 0.0)
    reckoning.led(0.0, 0.0, 1.0, fixed=True)
    reckoning.confirm(told, placed(), [])
    flying(reckoning, land, 1, 12.0)
    assert max(reckoning.strayed(12.0, 0.0, 1.0)) < 1.0
    assert min(reckoning.strayed(0.0, 30.0, 1.0)) > 4.0
    reckoning.doubt()
    seen, fixed = reckoning.strayed(0.0, 30.0, 1.0)
    assert seen == 0.0
    assert fixed > 4.0
