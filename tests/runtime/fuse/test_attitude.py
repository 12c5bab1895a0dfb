import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.attitude import (
    SCALE_STRETCH,
    SWEEP_LOG_SCALE,
    SWEEP_SPAN,
    SWEEP_TURN_DEG,
    TURN_STRETCH,
    Attitude,
    Followed,
    Tolerance,
    attitude_from_telemetry,
    expected,
    log_prior,
    shown,
    sweep_around,
    unshown,
    variants_of,
    wrapped_deg,
)
from skyfix.runtime.fuse.odometry import Motion
from skyfix.runtime.types import Hypothesis, Telemetry

TOLERANCE = Tolerance(20.0, 0.2)
TOLD = Telemetry(0, 90.0, -90.0, 0.0, 100.0, yaw_std_deg=12.0, height_std=0.1)


def place(turn_deg: float, log_scale: float) -> Hypothesis:
    cov = np.diag([0.25, 1e-4])
    return Hypothesis(0.0, 0.0, 1.0, 0.9, 0.8, np.eye(2), turn_deg, log_scale, cov)


def turned(turn_deg: float, log_scale: float = 0.0) -> Motion:
    return Motion(
        0.0, 10.0, np.eye(2), turn_deg, 0.5, log_scale, 0.01, 50, 0.9, np.zeros(2), np.eye(2),
        1.0,
    )  # fmt: skip


@given(
    turn_std=st.one_of(st.floats(0.1, 80.0), st.just(math.inf)),
    scale_std=st.floats(0.01, 0.3),
    turn=st.floats(-179, 179),
    reach=st.floats(5.0, 40.0),
)
def test_no_heading_within_the_spread_is_further_from_a_variant_than_it_tolerates(
    turn_std: float, scale_std: float, turn: float, reach: float
) -> None:
    tolerance = Tolerance(reach, 0.15)
    variants = variants_of(Attitude(turn, turn_std, 0.05, scale_std), tolerance)
    half = min(math.sqrt(3) * turn_std, 180.0)
    for share in np.linspace(-1, 1, 37):
        off = min(abs(wrapped_deg(turn + share * half - v.turn_deg)) for v in variants)
        assert off <= TURN_STRETCH * reach + 1e-6
        off_scale = min(
            abs(0.05 + share * math.sqrt(3) * scale_std - v.log_scale) for v in variants
        )
        assert off_scale <= SCALE_STRETCH * 0.15 + 1e-9


def test_an_unknown_heading_takes_as_many_variants_as_fill_the_circle_and_no_more() -> None:
    variants = variants_of(Attitude(0.0, math.inf, 0.0, 0.01), TOLERANCE)
    assert len(variants) == math.ceil(180 / (TURN_STRETCH * 20))
    turns = sorted(wrapped_deg(variant.turn_deg) for variant in variants)
    assert np.diff(turns) == pytest.approx(360 / len(turns))


def test_an_exact_attitude_takes_one() -> None:
    (only,) = variants_of(Attitude(3.0, 2.0, 0.01, 0.02), TOLERANCE)
    assert (only.turn_deg, only.log_scale) == (3.0, 0.01)


@given(
    turn=st.floats(-180, 180), half_turn=st.floats(0.0, 60.0),
    believed=st.tuples(st.floats(-30, 30), st.floats(-0.2, 0.2)), scale_std=st.floats(0.005, 0.3),
)  # fmt: skip
def test_a_sweep_covers_all_heights_believed_and_the_variants_headings_and_some_beside(
    turn: float, half_turn: float, believed: tuple[float, float], scale_std: float
) -> None:
    attitude = Attitude(believed[0], 50.0, believed[1], scale_std)  # its heading is not asked
    swept = sweep_around(turn, half_turn, attitude)
    turns, scales = (np.array(sorted(set(values))) for values in zip(*swept, strict=True))
    assert set(swept) == {(t, s) for t in turns.tolist() for s in scales.tolist()}
    assert len(swept) == turns.size * scales.size
    for found, center, half, step in (
        (turns, turn, SWEEP_SPAN * half_turn, SWEEP_TURN_DEG),
        (scales, believed[1], math.sqrt(3) * scale_std, SWEEP_LOG_SCALE),
    ):
        asked = center + half * np.linspace(-1, 1, 101)
        assert np.abs(asked[:, None] - found).min(axis=1).max() <= step / 2 + 1e-6
        assert np.diff(found).max(initial=0.0) <= step + 1e-6
        assert (found.size - 1) * step <= 2 * half + 1e-6  # nor more than that takes


def test_a_sweep_of_a_known_spread_has_the_steps_that_divide_it_evenly() -> None:
    # 1.3 times 20 degrees either way in steps of 14 at most, a fifth of the height likewise
    swept = sweep_around(100.0, 20.0, Attitude(-7.0, 11.5, 0.05, 0.2 / math.sqrt(3)))
    turns, scales = (sorted(set(values)) for values in zip(*swept, strict=True))
    assert turns == pytest.approx([80.5, 93.5, 106.5, 119.5])
    assert scales == pytest.approx([-0.05, 0.15])


def test_without_a_flight_the_telemetry_is_all_there_is() -> None:
    assert expected(None, TOLD, None) == attitude_from_telemetry(TOLD)
    unknown = Telemetry(0, 5.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    assert expected(None, unknown, turned(3.0)).turn_std_deg == math.inf


def test_pictures_carry_a_heading_on_without_a_compass() -> None:
    unknown = Telemetry(0, 50.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    known = shown(None, unknown, place(30.0, 0.02))
    later = Telemetry(1, -120.0, -90.0, 0.0, 110.0, yaw_std_deg=math.inf, height_std=0.1)
    here = expected(known, later, turned(15.0, 0.05))
    # true heading 80, then 95; the told one is -120
    assert wrapped_deg(-120 + here.turn_deg) == pytest.approx(95.0)
    assert here.turn_std_deg < 2.0
    # true height 100 * e^0.02, then e^0.05 more; the told one is 110
    assert 110 * math.exp(here.log_scale) == pytest.approx(100 * math.exp(0.07))


def test_without_pictures_an_unknown_heading_is_unknown_again() -> None:
    unknown = Telemetry(0, 50.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    known = shown(None, unknown, place(30.0, 0.0))
    assert expected(known, unknown, None).turn_std_deg == math.inf
    assert unshown(known, expected(known, unknown, None), unknown) is None


def test_a_compass_whose_error_stays_is_trusted_more_and_more() -> None:
    known: Followed | None = None
    widths = []
    for _ in range(30):
        here = expected(known, TOLD, None)
        widths.append(here.turn_std_deg)
        known = shown(known, TOLD, place(15.0, 0.0))
    assert widths[0] == 12.0
    assert widths[-1] < 3.0
    assert expected(known, TOLD, None).turn_deg == 15.0


def test_a_compass_whose_error_jumps_is_never_trusted_beyond_what_it_states() -> None:
    known: Followed | None = None
    rng = np.random.default_rng(0)
    for _ in range(30):
        here = expected(known, TOLD, None)
        assert here.turn_std_deg <= 12.0
        known = shown(known, TOLD, place(float(rng.uniform(-20, 20)), 0.0))
    assert expected(known, TOLD, None).turn_std_deg > 8.0


def test_the_prior_prefers_what_is_stated_and_rules_nothing_out() -> None:
    attitude = Attitude(170.0, 5.0, 0.0, 0.05)
    assert log_prior(attitude, 170.0, 0.0) == 0.0
    assert log_prior(attitude, -175.0, 0.0) == pytest.approx(-math.log1p(4.5))  # across the cut
    assert log_prior(attitude, 170.0, 0.5) > -5.0
    unknown = Attitude(0.0, math.inf, 0.0, 0.05)
    assert log_prior(unknown, 133.0, 0.0) == 0.0


def test_a_deviation_stated_as_almost_nothing_still_allows_what_tilt_and_relief_do() -> None:
    stated = Attitude(0.0, 1e-200, 0.0, 1e-200)
    assert log_prior(stated, 1.0, 0.02) == pytest.approx(-2 * math.log1p(0.5))


def test_after_a_first_place_without_a_compass_the_next_ones_show_how_its_error_changes() -> None:
    """The fault: an infinite change, once taken in, stayed for the whole flight."""
    unknown = Telemetry(0, 7.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    known = shown(None, unknown, place(83.0, 0.0))
    assert known.turn_change_deg == math.inf
    known = shown(known, TOLD, place(5.0, 0.0))
    # what the two places differ by is no change of one compass' error
    assert known.turn_change_deg == TOLD.yaw_std_deg
    for _ in range(40):
        known = shown(known, TOLD, place(5.0, 0.0))
    here = expected(known, TOLD, None)
    assert here.turn_deg == 5.0
    assert here.turn_std_deg < 3.0


def test_a_compass_that_fails_on_the_way_is_learnt_anew() -> None:
    unknown = Telemetry(0, 7.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    known = shown(shown(None, TOLD, place(5.0, 0.0)), unknown, place(140.0, 0.0))
    known = shown(known, TOLD, place(5.0, 0.0))
    assert known.turn_change_deg == TOLD.yaw_std_deg


def test_two_places_with_about_the_same_error_make_no_compass_better_than_it_states() -> None:
    known = shown(shown(None, TOLD, place(9.0, 0.0)), TOLD, place(11.0, 0.0))
    assert known.turn_change_deg < TOLD.yaw_std_deg
    here = expected(known, TOLD, None)
    assert (here.turn_deg, here.turn_std_deg) == (0.0, TOLD.yaw_std_deg)
