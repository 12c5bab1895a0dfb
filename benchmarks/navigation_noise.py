"""What the aircraft is told wrongly: seeded errors of heading and height in real telemetry.

    told yaw    = true yaw + e,           e uniform within +-half (half 180: nothing is known)
    told height = true height x (1 + f),  f uniform within +-half

The stated standard deviations are those of the errors, half / sqrt(3), and infinite where the
heading is unknown. Every method gets the same rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.sense.telemetry import TelemetryRow
from skyfix.runtime.types import Telemetry

UNKNOWN_DEG = 180.0  # half the circle: any heading

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """A kind of error, drawn anew for each frame, or once for a flight."""

    name: str
    yaw_half_deg: float = 0.0
    height_half: float = 0.0  # fraction of the height
    whole_flight: bool = False

    @property
    def heading_is_unknown(self) -> bool:
        """Whether the told heading says nothing."""
        return self.yaw_half_deg >= UNKNOWN_DEG


EXACT = Errors("exact")
WITHIN_20 = Errors("+-20 deg, +-20 %", 20.0, 0.2)
UNKNOWN = Errors("heading unknown, +-20 %", UNKNOWN_DEG, 0.2)
CONSTANT_20 = Errors("+-20 deg, +-20 %, one error a flight", 20.0, 0.2, whole_flight=True)
NO_HEADING = Errors("heading unknown", UNKNOWN_DEG)


def with_errors(
    rows: Sequence[TelemetryRow], errors: Errors, seed: int
) -> tuple[TelemetryRow, ...]:
    """The rows as an aircraft with such errors records them; the same seed, the same errors."""
    yaw_deg, height = drawn(errors, len(rows), seed)
    return tuple(
        row if row.telemetry is None else replace(
            row, telemetry=told(row.telemetry, errors, float(yaw), float(part))
        )
        for row, yaw, part in zip(rows, yaw_deg, height, strict=True)
    )  # fmt: skip


def drawn(errors: Errors, count: int, seed: int) -> tuple[Array, Array]:
    """Errors of yaw in degrees and of height as a fraction, (count,) each."""
    rng = np.random.default_rng((seed, 5))
    yaw_deg = rng.uniform(-errors.yaw_half_deg, errors.yaw_half_deg, count)
    height = rng.uniform(-errors.height_half, errors.height_half, count)
    if errors.whole_flight:
        yaw_deg[:], height[:] = yaw_deg[0], height[0]
    return yaw_deg, height


def told(true: Telemetry, errors: Errors, yaw_deg: float, height: float) -> Telemetry:
    """Telemetry with its errors, and their standard deviations stated."""
    # added to those that the recording has already
    yaw_std_deg = math.hypot(true.yaw_std_deg, errors.yaw_half_deg / math.sqrt(3))
    if errors.heading_is_unknown:
        yaw_std_deg = math.inf
    height_std = math.hypot(true.height_std, errors.height_half / math.sqrt(3))
    return replace(
        true,
        yaw_deg=(true.yaw_deg + yaw_deg + 180) % 360 - 180,
        height_agl_m=true.height_agl_m * (1 + height),
        yaw_std_deg=yaw_std_deg,
        height_std=height_std,
    )
