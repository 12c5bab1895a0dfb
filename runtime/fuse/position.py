"""The published numbers of a leader: where the drone is, how it is turned, how high it flies."""

import math
from typing import Any

import numpy as np

from ..geo import LocalFrame
from ..sense.ortho import Ground, turned_scaled
from ..types import Telemetry
from .hypotheses import Weighed
from .integrity import Covariance, Offset, drone_covariance
from .tilt import Tilt

STEP = 1e-4  # of the numerical derivative, a tangent


def position_from_places(
    places: Weighed, center_cov: Covariance, ground: Ground, telemetry: Telemetry,
    frame: LocalFrame, tilt: Tilt,
) -> dict[str, Any]:  # fmt: skip
    """Fields of a Fix: the image's centre is seen, the drone follows from attitude and height."""
    leader = places.hypotheses[0]
    offset = offset_of_center(ground, leader.turn_deg, leader.log_scale, tilt)
    east, north = (leader.east_m, leader.north_m) - offset.en_m
    lat, lon = frame.wgs84_from_en(float(east), float(north))
    center_lat, center_lon = frame.wgs84_from_en(leader.east_m, leader.north_m)
    height_m = telemetry.height_agl_m * math.exp(leader.log_scale)
    turn_std_deg, scale_std = np.sqrt(np.diag(leader.attitude_cov))
    return {
        "lat_deg": float(lat),
        "lon_deg": float(lon),
        "cov_en_m2": drone_covariance(center_cov, offset, tilt.cov, leader.attitude_cov),
        "center_lat_deg": float(center_lat),
        "center_lon_deg": float(center_lon),
        "center_cov_en_m2": center_cov,
        "heading_deg": (telemetry.yaw_deg + leader.turn_deg + 180) % 360 - 180,
        "heading_std_deg": float(turn_std_deg),
        "height_agl_m": height_m,
        "height_agl_std_m": height_m * float(scale_std),
    }


def offset_of_center(ground: Ground, turn_deg: float, log_scale: float, tilt: Tilt) -> Offset:
    """From the drone to the ground in the image's centre, and how the tilt moves it."""
    turned = turned_scaled(turn_deg, math.exp(log_scale))[:2, :2]
    here, right, forward = (
        turned @ ground.center_of_tilted(*(tilt.tangents + step))
        for step in (np.zeros(2), np.array([STEP, 0.0]), np.array([0.0, STEP]))
    )
    return Offset(here, np.stack([right - here, forward - here], axis=1) / STEP)
