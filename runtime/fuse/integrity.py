"""From weighted hypotheses to a position with an honest covariance.

    centre       mean = the leader's place
                 cov  = its own + sum_k w_k (x_k - x_leader)(x_k - x_leader)^T
    drone        mean = centre + offset by attitude and height
                 cov  = cov of the centre + (height * tilt)^2 I

The second term is what an ambiguous picture costs: rivals stay in the ellipse by their weight,
and so does whatever else the search window holds. That the whole track may be wrong is no matter
of an ellipse: status and margin speak of it (track.py).
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis

Covariance = NDArray[np.float64]  # (2, 2) east/north m^2

MAP_STD_M = 2.0  # georeference of good orthophotos; an assumption, no pack states it yet
UNREFINED_STD_STEPS = 0.9  # of the descriptor's centroid, in grid steps (simulated flights)


def spread_of(window: tuple[slice, slice], step_m: float) -> float:
    """Standard deviation per axis of a place that may be anywhere in a window of the grid."""
    rows, columns = (part.stop - part.start for part in window)
    return math.hypot(rows, columns) * step_m / math.sqrt(24)


def center_covariance(
    hypotheses: list[Hypothesis], unexplained: float, area_std_m: float
) -> Covariance:
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
    spread: Covariance = covariance + np.eye(2) * unexplained * area_std_m**2
    return spread


def drone_covariance(center_cov: Covariance, height_m: float, tilt_std_deg: float) -> Covariance:
    """Covariance of the point under the drone: what an unseen tilt adds, (2, 2) m^2."""
    covariance: Covariance = (
        center_cov + np.eye(2) * (height_m * math.tan(math.radians(tilt_std_deg))) ** 2
    )
    return covariance


def margin(hypotheses: list[Hypothesis]) -> float:
    """Weight of the best hypothesis less that of its best rival."""
    rival = hypotheses[1].weight if len(hypotheses) > 1 else 0.0
    return hypotheses[0].weight - rival
