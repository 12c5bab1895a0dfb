"""Attitude and height of every frame, from flight.csv.

    frame,time_s,yaw_deg,pitch_deg,roll_deg,height_agl_m
                [,yaw_std_deg,height_std][,vel_east_mps,vel_north_mps]

`time_s` counts from any origin, the rows' times from the first frame. Further columns are ignored:
a file that also holds the true positions can be replayed, and they are never read here. A value
that is empty or no number is NaN, which becomes the status of that frame; a row without a time
cannot be placed in the flight, so all its values become NaN. A row whose four values are all
empty has no telemetry.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import TelemetryError
from ..types import UNKNOWN_YAW_STD_DEG, Telemetry

COLUMNS = ("frame", "time_s", "yaw_deg", "pitch_deg", "roll_deg", "height_agl_m")
VALUES = COLUMNS[2:]
VELOCITY = ("vel_east_mps", "vel_north_mps")  # optional
YAW_STD, HEIGHT_STD = "yaw_std_deg", "height_std"  # optional
UNKNOWN = "unknown"  # as a deviation of yaw: there is no compass
NS_PER_S = 1_000_000_000
MAX_TIME_S = 4e9  # Unix times up to 2096; differences of two fit into 64 bits of ns


@dataclass(frozen=True)
class TelemetryRow:
    """What is known about one frame before it is seen."""

    frame: str  # file name in the folder, or frame number of the video
    time_ns: int  # from the first frame
    telemetry: Telemetry | None  # None where nothing was recorded for this frame


@dataclass(frozen=True)
class Attitude:
    """The values of one row before times are counted from the first frame; NaN where unknown."""

    frame: str
    time_s: float
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    height_agl_m: float
    vel_east_mps: float = math.nan
    vel_north_mps: float = math.nan
    yaw_std_deg: float = Telemetry.yaw_std_deg
    height_std: float = Telemetry.height_std


def read_telemetry(path: Path) -> tuple[TelemetryRow, ...]:
    """The rows of flight.csv in their order; raises TelemetryError for the file as a whole."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise TelemetryError(
                    f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. "
                    f"Its first line must name {','.join(COLUMNS)}."
                )
            lines = list(reader)
    except OSError as error:
        raise TelemetryError(f"{path}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TelemetryError(f"{path} is no CSV file in UTF-8 ({error})") from error
    attitudes = [_attitude(line) for line in lines]
    _check_frames(path, attitudes)
    return tuple(
        replace(row, telemetry=None) if _is_unrecorded(line) else row
        for row, line in zip(rows_from_attitudes(attitudes), lines, strict=True)
    )


def rows_from_attitudes(attitudes: Sequence[Attitude]) -> tuple[TelemetryRow, ...]:
    """Rows with times in ns from the first frame; a row without a time takes the one before."""
    times = [attitude.time_s for attitude in attitudes if abs(attitude.time_s) <= MAX_TIME_S]
    rows: list[TelemetryRow] = []
    time_ns = 0
    for attitude in attitudes:
        has_time = abs(attitude.time_s) <= MAX_TIME_S  # false for NaN
        if has_time:
            time_ns = round((attitude.time_s - times[0]) * NS_PER_S)
        telemetry = _telemetry(attitude, time_ns, usable=has_time)
        rows.append(TelemetryRow(attitude.frame, time_ns, telemetry))
    return tuple(rows)


def number_from_text(text: str | None) -> float:
    """A finite number, or NaN for everything else."""
    try:
        value = float(text or "")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _attitude(row: dict[str, str]) -> Attitude:
    values = [number_from_text(row[name]) for name in COLUMNS[1:]]
    vel_east_mps, vel_north_mps = (number_from_text(row.get(name)) for name in VELOCITY)
    yaw_std_deg = _deviation(row, YAW_STD, Telemetry.yaw_std_deg)
    if yaw_std_deg >= UNKNOWN_YAW_STD_DEG and math.isnan(values[1]):
        values[1] = 0.0  # what nobody knows need not be stated
    height_std = _deviation(row, HEIGHT_STD, Telemetry.height_std)
    return replace(
        Attitude((row["frame"] or "").strip(), *values),
        vel_east_mps=vel_east_mps, vel_north_mps=vel_north_mps,
        yaw_std_deg=yaw_std_deg, height_std=height_std,
    )  # fmt: skip


def _deviation(row: dict[str, str], name: str, usual: float) -> float:
    """A stated deviation, NaN where it is none; the usual one where nothing is stated."""
    text = (row.get(name) or "").strip()
    if text.lower() == UNKNOWN:
        return math.inf
    return number_from_text(text) if text else usual


def _is_unrecorded(row: dict[str, str]) -> bool:
    return not any((row[name] or "").strip() for name in VALUES)


def _telemetry(attitude: Attitude, time_ns: int, *, usable: bool) -> Telemetry:
    if not usable:
        return Telemetry(time_ns, math.nan, math.nan, math.nan, math.nan)
    return Telemetry(
        time_ns=time_ns,
        yaw_deg=attitude.yaw_deg,
        pitch_deg=attitude.pitch_deg,
        roll_deg=attitude.roll_deg,
        height_agl_m=attitude.height_agl_m,
        vel_east_mps=attitude.vel_east_mps,
        vel_north_mps=attitude.vel_north_mps,
        yaw_std_deg=attitude.yaw_std_deg,
        height_std=attitude.height_std,
    )


def _check_frames(path: Path, rows: Sequence[Attitude]) -> None:
    """Every row names its frame, once."""
    if not rows:
        raise TelemetryError(f"{path} has no rows below its first line")
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not row.frame:
            raise TelemetryError(f"{path}: row {number} names no frame")
        if row.frame in seen:
            raise TelemetryError(f"{path}: row {number} names frame {row.frame} a second time")
        seen.add(row.frame)
