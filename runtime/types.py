"""What flows from camera frame to fix. Axes and units: docs/frames.md.

    Frame + Telemetry -> Patch -> descriptor -> Belief -> Hypothesis -> Fix

All of these are frozen, and what they hold is not written after construction, but for
`Fix.stages_ms`, which is filled while the frame is worked on.
Positions named `east_m`, `north_m` are metres in the local tangent plane of the pack.
"""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

UNKNOWN_YAW_STD_DEG = 90.0  # a uniform heading has 104 degrees


class Status(str, Enum):
    """How far a fix can be used."""

    SEARCHING = "searching"  # no hypothesis stands out yet
    TRACKING = "tracking"  # position from this frame, consistent with what came before
    DEGRADED = "degraded"  # position with a caveat: this frame gave none, or it is ambiguous
    LOST = "lost"  # there was a position, and it is gone


class Reason(str, Enum):
    """Why a frame gave no position, or one with a caveat."""

    FRAME_UNREADABLE = "frame_unreadable"  # missing or corrupt image, video that ended early
    FRAME_SIZE = "frame_size"  # not the size that the camera file states
    TELEMETRY_MISSING = "telemetry_missing"  # nothing was recorded for this frame
    TELEMETRY_INVALID = "telemetry_invalid"  # a value is not a number
    YAW_RANGE = "yaw_range"  # beyond +-360 degrees
    ATTITUDE_RANGE = "attitude_range"  # pitch beyond +-90 or roll beyond +-180 degrees
    HEIGHT_RANGE = "height_range"  # below a millimetre or above any drone
    TIME_BACKWARDS = "time_backwards"  # older than the frame before
    STALE_TELEMETRY = "stale_telemetry"  # of another moment than the frame
    TILT = "tilt"  # the camera looks too far from straight down
    FOOTPRINT = "footprint"  # too little ground in the picture at the model's scale
    BLANK = "blank"  # no structure in the picture: fog, night, water
    BLUR = "blur"  # structure, but no edges: motion, a wet lens, out of focus
    OUTSIDE_MAP = "outside_map"  # the drone was last seen near the map's edge, or beyond it
    AMBIGUOUS = "ambiguous"  # several places look alike, or none enough
    INCONSISTENT = "inconsistent"  # a place stands out that the drone cannot have reached
    UNCONFIRMED = "unconfirmed"  # one place stands out; the next frame has to agree


@dataclass(frozen=True)
class Frame:
    """One camera frame."""

    frame_id: str
    time_ns: int  # mid-exposure, monotonic
    image: NDArray[np.uint8]  # (H, W, 3) BGR, as OpenCV decodes it


@dataclass(frozen=True)
class LostFrame:
    """A frame that should have come and cannot be used."""

    frame_id: str
    time_ns: int
    reason: Reason


@dataclass(frozen=True)
class Telemetry:
    """Attitude and height at a frame's time, and how far they can be trusted; NaN where unknown."""

    time_ns: int
    yaw_deg: float  # direction of the image's top, 0 = north, clockwise
    pitch_deg: float  # -90 = straight down
    roll_deg: float  # about the optical axis, clockwise seen from behind the camera
    height_agl_m: float
    yaw_std_deg: float = 3.0  # of yaw_deg's error; UNKNOWN_YAW_STD_DEG and more: heading unknown
    # Of height_agl_m's error, as a fraction of it. A barometer counts from the take-off, the ground
    # does not stay at that level, and focal lengths are nominal: fengyuan's heights are 9 % off.
    height_std: float = 0.08
    vel_east_mps: float = math.nan  # of the drone over ground, by the compass that yaw_deg is of
    vel_north_mps: float = math.nan

    @property
    def heading_is_known(self) -> bool:
        """Whether yaw_deg says anything."""
        return self.yaw_std_deg < UNKNOWN_YAW_STD_DEG


@dataclass(frozen=True)
class Patch:
    """A north-up picture of the ground at a fixed scale, centred on the frame's centre."""

    image: NDArray[np.uint8]  # (P, P, 3) RGB, 0 where not valid
    valid: NDArray[np.bool_]  # (P, P) ground that the camera saw
    gsd_m: float  # metres a pixel
    drone_from_center_en_m: tuple[float, float]  # east, north from patch centre to the drone


@dataclass(frozen=True)
class Hypothesis:
    """One place where the patch may be: its centre and how well it fits there."""

    east_m: float
    north_m: float
    weight: float  # probability among all hypotheses of the frame, 0..1
    score: float  # cosine similarity of the descriptor
    correlation: float  # masked NCC at the refined place, NaN where not refined
    cov_en_m2: NDArray[np.float64]  # (2, 2) of this place alone
    turn_deg: float  # true heading there, beyond the telemetry's
    log_scale: float  # of the true height there over the telemetry's
    attitude_cov: NDArray[np.float64]  # (2, 2) of turn_deg and log_scale
    # (2, 2) of how far it could as well have slid on ground that repeats itself
    slide_en_m2: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))


@dataclass(frozen=True)
class Fix:
    """What is published for every frame, also where there is no position."""

    frame_id: str
    time_ns: int
    sequence: int
    status: Status
    reason: Reason | None
    model_id: str
    pack_id: str
    lat_deg: float | None = None  # the drone
    lon_deg: float | None = None
    cov_en_m2: NDArray[np.float64] | None = None  # (2, 2) of the drone
    center_lat_deg: float | None = None  # the ground point in the image's centre
    center_lon_deg: float | None = None
    center_cov_en_m2: NDArray[np.float64] | None = None  # (2, 2) of the image's centre
    heading_deg: float | None = None  # direction of the image's top, as the map shows it
    heading_std_deg: float | None = None
    height_agl_m: float | None = None  # as the map shows it
    height_agl_std_m: float | None = None
    score: float | None = None  # cosine similarity of the tile at the published place
    margin: float | None = None  # weight of the best hypothesis less that of its best rival
    match_age_ms: float | None = None  # since the last absolute match
    reset_counter: int = 0  # raised whenever the position jumps to another hypothesis
    latency_ms: float = 0.0  # frame in memory to fix
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def std_m(self) -> float | None:
        """One-sigma radius per axis: the root of the mean of both variances."""
        if self.cov_en_m2 is None:
            return None
        return float(np.sqrt(np.trace(self.cov_en_m2) / 2))
