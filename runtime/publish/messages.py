"""What leaves the aircraft: one message for every frame, as msgpack or JSON. docs/formats.md.

    Fix -> FixMessage -> msgpack on the bus, JSON on request, JSON lines in a replay's file

Both encodings hold the same keys and tell themselves apart by their first byte. A number that is
not finite is never sent: it is null, and so is a position whose latitude or longitude is not known.
"""

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..types import Fix, Reason, Status

FIX_SCHEMA = 1
HEARTBEAT_SCHEMA = 1
JSON_START = b"{"  # 0x7B would be the integer 123 in msgpack, whose maps start with 0x80 or more

Encoding = Literal["msgpack", "json"]
Covariance = tuple[tuple[float, float], tuple[float, float]]


class FixMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One fix. Keys that a newer schema adds are ignored by an older reader."""

    schema: int = FIX_SCHEMA
    session: str  # one start of the publisher; sequence counts within it
    sequence: int
    frame: str  # file name or frame number, as in the telemetry
    time_ns: int  # mid-exposure, monotonic
    utc_ns: int | None  # mid-exposure since 1970, null where no clock tells
    status: Status
    reason: Reason | None
    lat_deg: float | None  # the drone, WGS84
    lon_deg: float | None
    cov_en_m2: Covariance | None
    std_m: float | None  # root of the mean of both variances
    center_lat_deg: float | None  # the ground point in the image's centre
    center_lon_deg: float | None
    center_cov_en_m2: Covariance | None
    heading_deg: float | None = None  # of the image's top, as the map shows it
    heading_std_deg: float | None = None
    height_agl_m: float | None = None  # likewise
    height_agl_std_m: float | None = None
    score: float | None
    margin: float | None
    match_age_ms: float | None
    reset_counter: int
    latency_ms: float | None  # frame in memory to fix
    stages_ms: dict[str, float]
    model_id: str
    pack_id: str


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sign of life of a publisher, also while no frames come."""

    schema: int = HEARTBEAT_SCHEMA
    session: str
    utc_ns: int
    fixes: int  # published in this session


def message_from_fix(fix: Fix, session: str, utc_ns: int | None) -> FixMessage:
    """The message of a fix, without a number that is not finite."""
    lat_deg, lon_deg = _position(fix.lat_deg, fix.lon_deg)
    center_lat_deg, center_lon_deg = _position(fix.center_lat_deg, fix.center_lon_deg)
    cov_en_m2 = _covariance(fix.cov_en_m2) if lat_deg is not None else None
    return FixMessage(
        session=session,
        sequence=fix.sequence,
        frame=fix.frame_id,
        time_ns=fix.time_ns,
        utc_ns=utc_ns,
        status=fix.status,
        reason=fix.reason,
        lat_deg=lat_deg,
        lon_deg=lon_deg,
        cov_en_m2=cov_en_m2,
        std_m=_finite(fix.std_m) if cov_en_m2 is not None else None,
        center_lat_deg=center_lat_deg,
        center_lon_deg=center_lon_deg,
        center_cov_en_m2=_covariance(fix.center_cov_en_m2) if center_lat_deg is not None else None,
        heading_deg=_finite(fix.heading_deg),
        heading_std_deg=_finite(fix.heading_std_deg),
        height_agl_m=_finite(fix.height_agl_m),
        height_agl_std_m=_finite(fix.height_agl_std_m),
        score=_finite(fix.score),
        margin=_finite(fix.margin),
        match_age_ms=_finite(fix.match_age_ms),
        reset_counter=fix.reset_counter,
        latency_ms=_finite(fix.latency_ms),
        stages_ms={
            name: float(value) for name, value in fix.stages_ms.items() if math.isfinite(value)
        },
        model_id=fix.model_id,
        pack_id=fix.pack_id,
    )


def encode(message: FixMessage | Heartbeat, encoding: Encoding = "msgpack") -> bytes:
    """The bytes of a message, one line when JSON."""
    return msgspec.json.encode(message) if encoding == "json" else msgspec.msgpack.encode(message)


def decode_fix(payload: bytes) -> FixMessage:
    """A fix from msgpack or JSON; raises InputError."""
    try:
        message = (
            msgspec.json.decode(payload, type=FixMessage)
            if payload.startswith(JSON_START)
            else msgspec.msgpack.decode(payload, type=FixMessage)
        )
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"no fix message: {error}") from error
    if message.schema != FIX_SCHEMA:
        raise InputError(f"fix message of schema {message.schema}, this skyfix reads {FIX_SCHEMA}")
    return message


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """A heartbeat from msgpack or JSON; raises InputError."""
    try:
        if payload.startswith(JSON_START):
            return msgspec.json.decode(payload, type=Heartbeat)
        return msgspec.msgpack.decode(payload, type=Heartbeat)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"no heartbeat message: {error}") from error


def _position(lat_deg: float | None, lon_deg: float | None) -> tuple[float | None, float | None]:
    """Both or neither."""
    lat, lon = _finite(lat_deg), _finite(lon_deg)
    return (None, None) if lat is None or lon is None else (lat, lon)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _covariance(matrix: NDArray[np.float64] | None) -> Covariance | None:
    if matrix is None or not np.isfinite(matrix).all():
        return None
    east, cross, north = float(matrix[0, 0]), float(matrix[0, 1]), float(matrix[1, 1])
    return (east, cross), (cross, north)
