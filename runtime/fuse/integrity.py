"""From weighted hypotheses to a position with an honest covariance.

    centre       mean = the leader's place
                 own  = its covariance + the map's
                 cov  = own + sum_k w_k (x_k - x_leader)(x_k - x_leader)^T
                     or own * ln(1 - 0.95 / w) / ln(0.05), whichever is smaller, w the leader's
    drone        mean = centre - offset by tilt, heading and height
                 cov  = cov of the centre + J_tilt cov_tilt J_tilt^T + J_att cov_att J_att^T

The sum is what an ambiguous picture costs: rivals stay in the ellipse by their weight, and so does
whatever else the search window holds. A leader surer than 95 % needs none of them in its 95 %
ellipse: one around its own place that holds 0.95 / w of its own errors will do. That the whole
track may be wrong is no matter of an ellipse: status and margin speak of it (track.py).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis

Covariance = NDArray[np.float64]  # (2, 2) east/north m^2

HELD = 0.95  # of the errors, by the larger ellipse that a fix states
UNREFINED_STD_STEPS = 0.9  # of the descriptor's centroid, in grid steps (simulated flights)


@dataclass(frozen=True)
class Offset:
    """From the drone to the ground in the image's centre."""

    en_m: NDArray[np.float64]  # (2,) east, north
    by_tilt: NDArray[np.float64]  # (2, 2) how the tilt's tangents right, forward move it


def spread_of(window: tuple[slice, slice], step_m: float) -> float:
    """Standard deviation per axis of a place that may be anywhere in a window of the grid."""
    rows, columns = (part.stop - part.start for part in window)
    return math.hypot(rows, columns) * step_m / math.sqrt(24)


def center_covariance(
    hypotheses: list[Hypothesis], unexplained: float, area_std_m: float, map_std_m: float
) -> Covariance:
    """Covariance of the image's centre at the leader, (2, 2) east/north m^2.

    Args:
        hypotheses: best first; their weights and `unexplained` sum to one.
        unexplained: weight of everything that is no hypothesis.
        area_std_m: spread of the places that the unexplained weight may lie at.
        map_std_m: per axis, of where the map says that things are.
    """
    leader = hypotheses[0]
    own = leader.cov_en_m2 + np.eye(2) * map_std_m**2
    spread: Covariance = own + np.eye(2) * unexplained * area_std_m**2
    for rival in hypotheses[1:]:
        offset = np.array([rival.east_m - leader.east_m, rival.north_m - leader.north_m])
        spread = spread + rival.weight * np.outer(offset, offset)
    if leader.weight <= HELD:
        return spread
    alone = own * (math.log1p(-HELD / leader.weight) / math.log1p(-HELD))
    return min(alone, spread, key=np.trace)


def drone_covariance(
    center_cov: Covariance, offset: Offset, tilt_cov: Covariance, attitude_cov: Covariance
) -> Covariance:
    """Covariance of the point under the drone, (2, 2) m^2: all that moves it against the centre.

    Args:
        center_cov: of the image's centre.
        offset: from the drone to that centre.
        tilt_cov: of the camera's tilt, tangents.
        attitude_cov: of turn_deg and log_scale, which turn and stretch the offset.
    """
    east, north = offset.en_m
    turned_stretched = np.array([[math.radians(north), east], [-math.radians(east), north]])
    covariance: Covariance = (
        center_cov
        + offset.by_tilt @ tilt_cov @ offset.by_tilt.T
        + turned_stretched @ attitude_cov @ turned_stretched.T
    )
    return covariance


def margin(hypotheses: list[Hypothesis]) -> float:
    """Weight of the best hypothesis less that of its best rival."""
    rival = hypotheses[1].weight if len(hypotheses) > 1 else 0.0
    return hypotheses[0].weight - rival
