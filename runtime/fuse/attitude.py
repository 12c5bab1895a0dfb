"""Heading and height as distributions: what telemetry claims, how far it is trusted, what to try.

Both are kept relative to the telemetry: the true heading is `turn_deg` more, the true height
exp(log_scale) times. A network tolerates some error of both; where more is possible, variants of
the query that are spaced by that tolerance are described together.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis, Telemetry
from .odometry import Motion

SPAN_STDS = math.sqrt(3)  # the whole of a uniform error, 92 % of a Gaussian one
HALF_TURN_DEG = 180.0
# Errors beyond what was trained for still find their tile among the best few, and fewer variants
# find fewer wrong ones (nano on fengyuan flight A and simulated flights).
TURN_STRETCH, SCALE_STRETCH = 1.5, 1.2
# Between correlated headings and heights: off by half of it, a patch is off by two pixels of the
# sweep at its rim, from where alignment finds the rest.
SWEEP_TURN_DEG, SWEEP_LOG_SCALE = 14.0, 0.2
# Of a variant's headings: a place often looks most like the next one. What a descriptor says of the
# height says less still, and is not asked.
SWEEP_SPAN = 1.3
LEAST_TURN_STD_DEG, LEAST_SCALE_STD = 1.0, 0.02  # of any frame: tilt and relief look like both
# Of what the telemetry states: a few places may have had about the same error by chance.
CLEARLY_BETTER = 0.6
CHANGE_SHARE = 0.2  # of the newest frame in the change from place to place


@dataclass(frozen=True)
class Tolerance:
    """Errors of heading and height, either way, at which a network still knows a place."""

    turn_deg: float
    log_scale: float


@dataclass(frozen=True)
class Attitude:
    """True heading and height relative to the telemetry, each with its deviation."""

    turn_deg: float
    turn_std_deg: float  # half a turn and more: nothing is known
    log_scale: float
    log_scale_std: float


@dataclass(frozen=True)
class Variant:
    """One hypothesis of both, and how far the truth may lie from it."""

    turn_deg: float
    log_scale: float
    half_turn_deg: float
    half_log_scale: float

    def covariance(self) -> NDArray[np.float64]:
        """(2, 2) of an even spread over the variant's range."""
        return np.diag(np.array([self.half_turn_deg, self.half_log_scale]) ** 2 / 3)


def sweep_around(
    turn_deg: float, half_turn_deg: float, attitude: Attitude, stretch: float = 1.0
) -> tuple[tuple[float, float], ...]:
    """Turns around a variant's, and all log scales that are believed, in correlation's steps.

    `stretch`: how much longer the steps are than those of the sweep.
    """
    half_turn_deg = min(SWEEP_SPAN * half_turn_deg, HALF_TURN_DEG)
    turns = _spread(turn_deg, half_turn_deg, stretch * SWEEP_TURN_DEG / 2)
    half_scale = SPAN_STDS * attitude.log_scale_std
    scales = _spread(attitude.log_scale, half_scale, stretch * SWEEP_LOG_SCALE / 2)
    return tuple(product(turns, scales))


def attitude_from_telemetry(telemetry: Telemetry) -> Attitude:
    """The telemetry as it is, trusted as far as it says."""
    turn_std_deg = telemetry.yaw_std_deg if telemetry.heading_is_known else math.inf
    return Attitude(0.0, turn_std_deg, 0.0, telemetry.height_std)


@dataclass(frozen=True)
class Followed:
    """What a flight has shown of its attitude, as of its last frame."""

    attitude: Attitude  # relative to `telemetry`
    telemetry: Telemetry
    place_turn_deg: float  # the telemetry's error at the last place
    place_log_scale: float
    turn_change_deg: float  # of the compass' error from one place to the next; infinite without one
    scale_change: float


def expected(followed: Followed | None, telemetry: Telemetry, motion: Motion | None) -> Attitude:
    """Before a frame is looked at: its telemetry, or better what the flight has shown.

    Pictures tell how the heading has turned without any compass; a compass' error stays, but for
    the change that it has shown from place to place.
    """
    told = attitude_from_telemetry(telemetry)
    if followed is None:
        return told
    before, then = followed.attitude, followed.telemetry
    turn, log_scale = before.turn_deg, before.log_scale
    if motion is not None:
        turn = wrapped_deg(then.yaw_deg + turn + motion.turn_deg - telemetry.yaw_deg)
        climbed = math.log(then.height_agl_m / telemetry.height_agl_m)
        log_scale += climbed + motion.log_scale
        turn_std_deg = math.hypot(before.turn_std_deg, motion.turn_std_deg, LEAST_TURN_STD_DEG)
        scale_std = math.hypot(before.log_scale_std, motion.log_scale_std, LEAST_SCALE_STD)
    elif telemetry.heading_is_known and then.heading_is_known:
        turn_std_deg = math.hypot(before.turn_std_deg, followed.turn_change_deg)
        scale_std = math.hypot(before.log_scale_std, followed.scale_change)
    else:
        turn, turn_std_deg = 0.0, math.inf
        scale_std = math.hypot(before.log_scale_std, followed.scale_change)
    if turn_std_deg >= CLEARLY_BETTER * told.turn_std_deg:
        turn, turn_std_deg = told.turn_deg, told.turn_std_deg
    if scale_std >= CLEARLY_BETTER * told.log_scale_std:
        log_scale, scale_std = told.log_scale, told.log_scale_std
    return Attitude(turn, turn_std_deg, log_scale, scale_std)


def shown(followed: Followed | None, telemetry: Telemetry, place: Hypothesis) -> Followed:
    """After a frame whose place is taken."""
    told = attitude_from_telemetry(telemetry)
    turn_std_deg, scale_std = np.sqrt(np.diag(place.attitude_cov))
    here = Attitude(
        place.turn_deg, max(float(turn_std_deg), LEAST_TURN_STD_DEG),
        place.log_scale, max(float(scale_std), LEAST_SCALE_STD),
    )  # fmt: skip
    turn_change, scale_change = told.turn_std_deg, told.log_scale_std
    if followed is not None:  # before, nobody knows whether the error stays or comes and goes
        scale_change = _rms(followed.scale_change, here.log_scale - followed.place_log_scale)
        if math.isfinite(turn_change) and math.isfinite(followed.turn_change_deg):
            turned = wrapped_deg(here.turn_deg - followed.place_turn_deg)
            turn_change = _rms(followed.turn_change_deg, turned)
    return Followed(here, telemetry, here.turn_deg, here.log_scale, turn_change, scale_change)


def unshown(followed: Followed | None, here: Attitude, telemetry: Telemetry) -> Followed | None:
    """After a frame without a place: what was known is carried on."""
    if followed is None or not math.isfinite(here.turn_std_deg):
        return None
    return replace(followed, attitude=here, telemetry=telemetry)


def wrapped_deg(angle_deg: float) -> float:
    """The angle in -180..180."""
    return (angle_deg + HALF_TURN_DEG) % (2 * HALF_TURN_DEG) - HALF_TURN_DEG


def _rms(before: float, now: float) -> float:
    return math.sqrt((1 - CHANGE_SHARE) * before**2 + CHANGE_SHARE * now**2)


def variants_of(attitude: Attitude, tolerance: Tolerance) -> list[Variant]:
    """What to try, the turns of the smallest scale first."""
    half_turn = min(SPAN_STDS * attitude.turn_std_deg, HALF_TURN_DEG)
    half_scale = SPAN_STDS * attitude.log_scale_std
    turns = _spread(attitude.turn_deg, half_turn, TURN_STRETCH * tolerance.turn_deg)
    scales = _spread(attitude.log_scale, half_scale, SCALE_STRETCH * tolerance.log_scale)
    return [
        Variant(turn, scale, half_turn / len(turns), half_scale / len(scales))
        for scale in scales
        for turn in turns
    ]


def log_prior(attitude: Attitude, turn_deg: float, log_scale: float) -> float:
    """Log weight of a heading and a height: Cauchy's, for stated deviations are often too small."""
    turn_std_deg = max(attitude.turn_std_deg, LEAST_TURN_STD_DEG)
    scale_std = max(attitude.log_scale_std, LEAST_SCALE_STD)
    turn = wrapped_deg(turn_deg - attitude.turn_deg) / turn_std_deg
    scale = (log_scale - attitude.log_scale) / scale_std
    return -math.log1p(turn**2 / 2) - math.log1p(scale**2 / 2)


def _spread(center: float, half: float, reach: float) -> NDArray[np.float64]:
    """Evenly spaced values that leave nothing within `half` of the centre beyond `reach`."""
    count = max(1, math.ceil(half / reach - 1e-9))
    return center + half * (2 * np.arange(count) + 1 - count) / count
