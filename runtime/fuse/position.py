"""The published numbers of a leader: where the drone is, how it is turned, how high it flies."""

import math
from typing import Any

import numpy as np

from ..geo import LocalFrame
from ..sense.ortho import Ground, turned_scaled
from ..types import Telemetry
from .hypotheses import Weighed
from .integrity import Covariance, drone_covariance


def position_from_places(
    places: Weighed, center_cov: Covariance, ground: Ground, telemetry: Telemetry,
    frame: LocalFrame, tilt_std_deg: float,
) -> dict[str, Any]:  # fmt: skip
    """Fields of a Fix: the image's centre is seen, the drone follows from attitude and height."""
    leader = places.hypotheses[0]
    turned = turned_scaled(leader.turn_deg, math.exp(leader.log_scale))
    east, north = -turned[:2, :2] @ np.array(ground.view.center_en_m)
    lat, lon = frame.wgs84_from_en(leader.east_m + float(east), leader.north_m + float(north))
    center_lat, center_lon = frame.wgs84_from_en(leader.east_m, leader.north_m)
    height_m = telemetry.height_agl_m * math.exp(leader.log_scale)
    turn_std_deg, scale_std = np.sqrt(np.diag(leader.attitude_cov))
    return {
        "lat_deg": float(lat),
        "lon_deg": float(lon),
        "cov_en_m2": drone_covariance(center_cov, height_m, tilt_std_deg),
        "center_lat_deg": float(center_lat),
        "center_lon_deg": float(center_lon),
        "center_cov_en_m2": center_cov,
        "heading_deg": (telemetry.yaw_deg + leader.turn_deg + 180) % 360 - 180,
        "heading_std_deg": float(turn_std_deg),
        "height_agl_m": height_m,
        "height_agl_std_m": height_m * float(scale_std),
    }
