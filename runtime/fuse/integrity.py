"""From weighted hypotheses to a position with an honest covariance, or a reason why not.

    centre       mean = the leader's place
                 cov  = its own + sum_k w_k (x_k - x_leader)(x_k - x_leader)^T
    drone        mean = centre + offset by attitude and height
                 cov  = cov of the centre + (height * tilt)^2 I

The middle term is what an ambiguous picture costs: rivals stay in the ellipse by their weight.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis, Reason, Status

Array = NDArray[np.float64]

STAND_OUT = 0.95  # weight of the leader with which a search ends
CONFIRMING_FRAMES = 2  # in a row, before the first fix: no single frame is a position
HOLD = 0.5  # weight of the leader above which a tracked position is kept
MAP_STD_M = 2.0  # georeference of good orthophotos (measured on fengyuan flight A, nust)
UNREFINED_STD_STEPS = 0.9  # of the descriptor's centroid, in grid steps (simulated flights)


def spread_of(window: tuple[slice, slice], step_m: float) -> float:
    """Standard deviation per axis of a place that may be anywhere in a window of the grid."""
    rows, columns = (part.stop - part.start for part in window)
    return math.hypot(rows, columns) * step_m / math.sqrt(24)


def center_covariance(hypotheses: list[Hypothesis], unexplained: float, area_std_m: float) -> Array:
    """Covariance of the image's centre at the leader, (2, 2) east/north m^2.

    Args:
        hypotheses: best first; their weights and `unexplained` sum to one.
        unexplained: weight of everything that is no hypothesis.
        area_std_m: spread of the places that the unexplained weight may lie at.
    """
    leader = hypotheses[0]
    covariance = leader.cov_en_m2 + np.eye(2) * MAP_STD_M**2
    for rival in hypotheses[1:]:
        offset = np.array([rival.east_m - leader.east_m, rival.north_m - leader.north_m])
        covariance = covariance + rival.weight * np.outer(offset, offset)
    spread: Array = covariance + np.eye(2) * unexplained * area_std_m**2
    return spread


def drone_covariance(center_cov: Array, height_m: float, tilt_std_deg: float) -> Array:
    """Covariance of the point under the drone: what an unseen tilt adds, (2, 2) m^2."""
    covariance: Array = (
        center_cov + np.eye(2) * (height_m * math.tan(math.radians(tilt_std_deg))) ** 2
    )
    return covariance


def margin(hypotheses: list[Hypothesis]) -> float:
    """Weight of the best hypothesis less that of its best rival."""
    rival = hypotheses[1].weight if len(hypotheses) > 1 else 0.0
    return hypotheses[0].weight - rival


def judged(before: Status, leader_weight: float, streak: int) -> tuple[Status, Reason | None]:
    """Status after a frame whose leader has this weight.

    A search ends when one hypothesis stands out in several frames in a row, `streak` with this
    one; a track is kept through frames that are merely undecided, and lost when the mass goes
    elsewhere.
    """
    followed = before in (Status.TRACKING, Status.DEGRADED)
    if leader_weight >= STAND_OUT:
        if followed or streak >= CONFIRMING_FRAMES:
            return Status.TRACKING, None
        return before, Reason.UNCONFIRMED
    if followed and leader_weight >= HOLD:
        return Status.DEGRADED, Reason.AMBIGUOUS
    return (Status.SEARCHING if before is Status.SEARCHING else Status.LOST), Reason.AMBIGUOUS
