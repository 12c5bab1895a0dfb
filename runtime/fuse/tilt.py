"""The camera's tilt beyond what telemetry says: a constant of the flight, and what comes and goes.

    a picture leans       = constant + varying                tangents to the camera's right and top
    it shows              = constant + varying + noise        keystone.py, parallax in planar.py
    the camera is tilted  = constant + varying + unseen
    prior variances       = (tilt_std)^2 * (0.68, 0.16, 0.16)

A Kalman filter follows the constant over the frames whose place is taken. Lenses, focal lengths
and sloping ground look like a tilt and stay as long, so `unseen` is what no frame can teach: the
drone stands beside its picture by it. A fit to the map is moved by how the picture leans, whatever
makes it lean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..sense.camera import enu_from_camera
from ..types import Hypothesis, Telemetry
from .odometry import Motion
from .planar import TILT_STD

# Shares of the variance that a user states. Varying: fengyuan A's frames differ by 1.6 degrees
# around theirs, simulated ones by 2, of 5 stated. Unseen: keystone and parallax of all of
# fengyuan A agree within a degree, and lie 2 to 3 beside what its GNSS says.
VARYING_SHARE, UNSEEN_SHARE = 0.16, 0.16
DRIFT_STD = math.tan(math.radians(0.2))  # of the constant from one frame to the next: a warm mount
LEAST_INFORMATION = 0.1  # of the prior's: a drone that hovers sees no parallax
GATE = 9.21  # chi-square, 2 degrees of freedom, 99 %: beyond, the frame is wrong, not the tilt

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """One frame's measurement."""

    tangents: Array  # (2,) right, forward
    cov: Array  # (2, 2)


@dataclass(frozen=True)
class Lean:
    """A frame's measurement by its keystone, and what the tilt does to its place meanwhile."""

    seen: Seen
    pull: Array  # (4, 2) of east_m, north_m, turn_deg and log_scale, a tangent


@dataclass(frozen=True)
class Tilt:
    """What is known of a tilt: the flight's constant, a picture's, or its camera's."""

    tangents: Array  # (2,) right, forward
    cov: Array  # (2, 2)
    stated: float  # variance of one axis, as the user states it


def unknown_tilt(std_deg: float) -> Tilt:
    """Before any frame."""
    stated = math.tan(math.radians(std_deg)) ** 2
    constant = stated * (1 - VARYING_SHARE - UNSEEN_SHARE)
    return Tilt(np.zeros(2), np.eye(2) * constant, stated)


def seen_in_motion(motion: Motion, telemetry: Telemetry) -> Seen | None:
    """What parallax says of a frame's tilt, without planar.py's prior; None where it says none.

    Odometry tilts rays about straight down, ahead being the telemetry's heading; here the tilt is
    along the camera's own axes, which pitch and roll have turned.
    """
    weight = np.linalg.inv(motion.tilt_cov / motion.effect)
    information = weight - np.eye(2) / TILT_STD**2
    if np.linalg.eigvalsh(information)[0] < LEAST_INFORMATION / TILT_STD**2:
        return None
    cov = np.linalg.inv(information)
    own = _camera_from_level(telemetry)
    return Seen(own @ cov @ weight @ motion.tilt, own @ cov @ own.T * motion.effect)


def _camera_from_level(telemetry: Telemetry) -> Array:
    """Small tilts along the camera's right and top from those to the right and ahead, (2, 2)."""
    rotation = enu_from_camera(0.0, telemetry.pitch_deg, telemetry.roll_deg)
    return np.array([[-rotation[1, 1], rotation[0, 1]], [-rotation[1, 0], rotation[0, 0]]])


def learned(tilt: Tilt, seen: Sequence[Seen]) -> Tilt:
    """The flight's tilt after a frame whose place is taken."""
    later = replace(tilt, cov=tilt.cov + np.eye(2) * DRIFT_STD**2)
    found = _fused(later, seen)
    if found is None:
        return later
    return _updated(later, found, found.cov + np.eye(2) * VARYING_SHARE * tilt.stated)


def tilt_of_picture(tilt: Tilt, seen: Sequence[Seen]) -> Tilt:
    """How one frame's picture leans, by the flight so far and by what it shows itself."""
    here = replace(tilt, cov=tilt.cov + np.eye(2) * VARYING_SHARE * tilt.stated)
    found = _fused(tilt, seen)
    if found is not None:
        here = _updated(here, found, found.cov)
    return here


def tilt_of_camera(tilt: Tilt) -> Tilt:
    """The camera's tilt by its picture's, with what no picture shows."""
    return replace(tilt, cov=tilt.cov + np.eye(2) * UNSEEN_SHARE * tilt.stated)


def widened(place: Hypothesis, pull: Array, tilt: Tilt) -> Hypothesis:
    """A place that was fitted without its picture's tilt, as unsure as that makes it.

    It is left where it is: on fengyuan A, to take the pull away as well moved centres by 0.3 m off
    the truth, and so did frames that were laid on the ground with the flight's tilt.
    """
    square = tilt.cov + np.outer(tilt.tangents, tilt.tangents)
    cov = pull @ square @ pull.T
    return replace(
        place,
        cov_en_m2=place.cov_en_m2 + cov[:2, :2],
        attitude_cov=place.attitude_cov + cov[2:, 2:],
    )


def doubted(tilt: Tilt) -> Tilt:
    """The same tilt, as little trusted as before any frame: its places may have been wrong."""
    start = tilt.stated * (1 - VARYING_SHARE - UNSEEN_SHARE)
    return replace(tilt, cov=np.eye(2) * start)


def _fused(tilt: Tilt, seen: Sequence[Seen]) -> Seen | None:
    """Those measurements of one frame that do not contradict what is known, as one."""
    weights = [(np.linalg.inv(each.cov), each) for each in seen if not _is_wrong(tilt, each)]
    if not weights:
        return None
    cov: Array = np.linalg.inv(sum((weight for weight, _ in weights), np.zeros((2, 2))))
    tangents = cov @ np.sum([weight @ each.tangents for weight, each in weights], axis=0)
    return Seen(tangents, cov)


def _is_wrong(tilt: Tilt, seen: Seen) -> bool:
    """Whether a measurement contradicts what is known: its place, or its motion, is another."""
    apart = seen.tangents - tilt.tangents
    spread = tilt.cov + seen.cov + np.eye(2) * VARYING_SHARE * tilt.stated
    return float(apart @ np.linalg.solve(spread, apart)) > GATE


def _updated(tilt: Tilt, seen: Seen, noise: Array) -> Tilt:
    """The Kalman update, in Joseph's form, which keeps the covariance one."""
    gain = tilt.cov @ np.linalg.inv(tilt.cov + noise)
    tangents = tilt.tangents + gain @ (seen.tangents - tilt.tangents)
    kept = np.eye(2) - gain
    return replace(tilt, tangents=tangents, cov=kept @ tilt.cov @ kept.T + gain @ noise @ gain.T)
