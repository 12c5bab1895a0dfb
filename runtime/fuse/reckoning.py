"""Dead reckoning: what a flight has shown of its attitude, and how far it has come since.

The movement is measured by odometry, or by the autopilot's velocity where there is one; otherwise
a speed bounds it. It is gathered until it is worth half a cell of the belief's grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..sense.camera import Camera
from ..sense.ortho import turned_scaled
from ..types import Hypothesis, Telemetry
from .attitude import Attitude, Followed, expected, shown, unshown
from .awaited import Awaited
from .belief import Belief, carried, predicted
from .fresh import FreshGround
from .odometry import Look, Motion, look_from_frame, motion_between
from .tilt import Seen, Tilt, doubted, learned, seen_in_motion

# Of the autopilot's velocity: an estimate without GNSS drifts, and turning moves the centre too.
VELOCITY_STD = 0.15
VELOCITY_STD_MPS = 1.0
# Beyond, frames seldom share ground, and looking for it takes its time; nor does the velocity at a
# gap's end say how the drone flew in it.
MAX_GAP_S = 10.0
CRUISE_SHARE = 0.3  # of the greatest speed, where none is measured
SLIP = 0.05  # of a measured movement: what its deviation does not know of
# Of a tile's width between frames whose errors are their own: over naip of other years, what lasts
# of a correlation's error is less by a factor of e after so many (crowd.py).
INDEPENDENT_TILES = 0.3
LEAST_TEMPER = 0.1  # a drone that hovers still gathers evidence, slowly
MAX_TURN_STD_DEG = 30.0  # of a heading that still gives a movement its direction
NOWHERE = Attitude(0.0, math.inf, 0.0, 1.0)
NS = 1e-9


@dataclass(frozen=True)
class Flown:
    """A movement: measured, then with a deviation, or only bounded."""

    east_m: float = 0.0
    north_m: float = 0.0
    std_m: float = 0.0  # per axis
    reach_m: float = 0.0  # beyond which the drone cannot be, whatever the measurement
    measured: bool = True
    by_pictures: bool = True  # of the image's centre itself, which turns and tilts move too

    @property
    def length_m(self) -> float:
        """Of the measured movement."""
        return math.hypot(self.east_m, self.north_m)

    def then(self, later: "Flown") -> "Flown":
        """Both movements, one after the other."""
        return Flown(
            self.east_m + later.east_m, self.north_m + later.north_m,
            math.hypot(self.std_m, later.std_m), self.reach_m + later.reach_m,
            self.measured and later.measured, self.by_pictures and later.by_pictures,
        )  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """A place that led, and how far the image's centre has come since."""

    east_m: float
    north_m: float
    std_m: float
    flown: Flown = Flown()

    @property
    def now(self) -> Awaited | None:
        """Where it has come to, by pictures; None where they say nothing."""
        if not (self.flown.measured and self.flown.by_pictures):
            return None
        flown_std_m = self.flown.std_m + SLIP * self.flown.length_m
        return Awaited(
            self.east_m + self.flown.east_m, self.north_m + self.flown.north_m,
            math.hypot(self.std_m, flown_std_m),
        )  # fmt: skip

    def strayed(self, east_m: float, north_m: float, std_m: float) -> float:
        """Deviations by which a place lies off where pictures say; 0 where they say nothing."""
        now = self.now
        if now is None:
            return 0.0
        return math.hypot(east_m - now.east_m, north_m - now.north_m) / math.hypot(std_m, now.std_m)


class Reckoning:
    """What is carried from frame to frame besides the belief."""

    def __init__(self, camera: Camera, max_speed_mps: float, tile_m: float, tilt: Tilt) -> None:
        self.tilt = tilt  # by which the flight's pictures lean
        self.tilt_in_motion: Seen | None = None  # of the last frame's camera
        self._camera, self._max_speed_mps, self._tile_m = camera, max_speed_mps, tile_m
        self._look: Look | None = None  # of the last frame
        self._told: Telemetry | None = None  # with it
        self._followed: Followed | None = None
        self._here = NOWHERE  # attitude of the last frame
        self._flown = Flown()
        self._fresh = FreshGround()
        self._seen: Anchor | None = None  # the last place that the track went on from
        self._fixed: Anchor | None = None  # the last that was published
        self._untaught_m = math.inf  # since a frame last told of the tilt

    def attitude(self, image: NDArray[np.uint8], telemetry: Telemetry) -> Attitude:
        """What to expect of a frame's attitude; its movement is taken in."""
        look = look_from_frame(image, self._camera, telemetry)
        motion = None
        if self._told is not None:
            elapsed_s = (telemetry.time_ns - self._told.time_ns) * NS
            if isinstance(look, Look) and self._look is not None and elapsed_s <= MAX_GAP_S:
                motion = motion_between(self._look, look)
            flown = flown_since(self._told, telemetry, self._here, motion, self._max_speed_mps)
            self._flown = self._flown.then(flown)
            self._seen, self._fixed = _carried(self._seen, flown), _carried(self._fixed, flown)
            unmeasured_m = 0.0 if flown.measured else flown.reach_m * CRUISE_SHARE
            self._untaught_m += flown.length_m + unmeasured_m
            self._fresh.move(flown.east_m, flown.north_m, unmeasured_m)
        self.tilt_in_motion = None if motion is None else seen_in_motion(motion, telemetry)
        self._here = expected(self._followed, telemetry, motion)
        self._followed = unshown(self._followed, self._here, telemetry)
        self._look = look if isinstance(look, Look) else None
        self._told = telemetry
        return self._here

    def moved(self, belief: Belief, valid: NDArray[np.bool_]) -> Belief:
        """The belief after the movement so far; small ones wait until worth half a cell."""
        flown, half_m = self._flown, belief.grid.step_m / 2
        if max(flown.reach_m, flown.length_m) < half_m:
            return belief
        if flown.measured and max(flown.length_m, flown.std_m) < half_m:
            return belief
        self._flown = Flown()
        if not flown.measured:
            return predicted(belief, valid, flown.reach_m + flown.length_m)
        shift_en_m = (flown.east_m, flown.north_m)
        return carried(belief, valid, shift_en_m, flown.std_m + SLIP * flown.length_m)

    def take_in(self) -> float:
        """Tiles' widths from this frame to the nearest of the last; infinite for the first.

        Those that fitted nowhere count: what misled one frame there misleads the next.
        """
        return self._fresh.take_in() / self._tile_m

    @property
    def awaited(self) -> Awaited | None:
        """Where the last place that led has come to."""
        return None if self._seen is None else self._seen.now

    def strayed(self, east_m: float, north_m: float, std_m: float) -> tuple[float, float]:
        """Deviations of a place from where the last seen and the last fixed one should be now."""
        seen, fixed = (
            0.0 if anchor is None else anchor.strayed(east_m, north_m, std_m)
            for anchor in (self._seen, self._fixed)
        )
        return seen, fixed

    def led(self, east_m: float, north_m: float, std_m: float, *, fixed: bool) -> None:
        """The frame's leader is what the track goes on from; it may have become a fix."""
        self._seen = Anchor(east_m, north_m, std_m)
        if fixed:
            self._fixed = self._seen

    def confirm(self, telemetry: Telemetry, place: Hypothesis, seen: Sequence[Seen]) -> None:
        """The frame's place is taken: its attitude and tilt are what the flight has shown."""
        self._followed = shown(self._followed, telemetry, place)
        self._here = self._followed.attitude
        if seen and self._untaught_m >= INDEPENDENT_TILES * self._tile_m:
            self.tilt = learned(self.tilt, seen)
            self._untaught_m = 0.0

    def doubt(self) -> None:
        """What places have shown may be wrong; how far the flight has come since is not."""
        self._followed, self._seen = None, None
        self.tilt, self._untaught_m = doubted(self.tilt), math.inf

    def forget(self) -> None:
        """The movement so far belongs to another clock; the last picture still tells the next."""
        self._flown, self._fresh = Flown(), FreshGround()


def temper_of(fresh_tiles: float) -> float:
    """Weight of a frame's evidence: ground that was just seen says little that is new."""
    return float(np.clip(fresh_tiles / INDEPENDENT_TILES, LEAST_TEMPER, 1))


def _carried(anchor: Anchor | None, flown: Flown) -> Anchor | None:
    return None if anchor is None else replace(anchor, flown=anchor.flown.then(flown))


def flown_since(
    before: Telemetry, now: Telemetry, attitude: Attitude, motion: Motion | None,
    max_speed_mps: float,
) -> Flown:  # fmt: skip
    """The movement between two frames, the first of which had this attitude."""
    elapsed_s = max(0, now.time_ns - before.time_ns) * NS
    reach_m = elapsed_s * max_speed_mps
    directed = attitude.turn_std_deg <= MAX_TURN_STD_DEG
    if motion is not None and directed:
        return _by_odometry(before, attitude, motion, reach_m)
    speed_mps = math.hypot(now.vel_east_mps, now.vel_north_mps)  # NaN where not told
    if directed and elapsed_s <= MAX_GAP_S and speed_mps <= max_speed_mps:
        return _by_velocity(now, attitude, elapsed_s, reach_m)
    if motion is not None:  # how far is known, which way is not
        length_m = math.hypot(motion.right_m, motion.forward_m)
        most_m = length_m * (1 + 2 * attitude.log_scale_std) + 2 * _std(motion)
        reach_m = min(reach_m, most_m * math.exp(attitude.log_scale))
    return Flown(reach_m=reach_m, measured=False)


def _by_odometry(before: Telemetry, attitude: Attitude, motion: Motion, reach_m: float) -> Flown:
    scale = math.exp(attitude.log_scale)
    east_m, north_m = motion.center_en_m(before.yaw_deg + attitude.turn_deg, scale)
    length_m = math.hypot(east_m, north_m)
    return Flown(
        east_m=east_m,
        north_m=north_m,
        std_m=math.hypot(
            _std(motion) * scale,
            length_m * math.radians(attitude.turn_std_deg),
            length_m * attitude.log_scale_std,
        ),
        reach_m=reach_m,
    )


def _by_velocity(now: Telemetry, attitude: Attitude, elapsed_s: float, reach_m: float) -> Flown:
    """The autopilot's velocity, whose axes are as wrong as its compass."""
    turned = turned_scaled(attitude.turn_deg, 1.0)[:2, :2]
    east_m, north_m = turned @ np.array([now.vel_east_mps, now.vel_north_mps]) * elapsed_s
    length_m = math.hypot(east_m, north_m)
    std_m = math.hypot(
        VELOCITY_STD_MPS * elapsed_s,
        VELOCITY_STD * length_m,
        length_m * math.radians(attitude.turn_std_deg),
    )
    return Flown(float(east_m), float(north_m), std_m, reach_m, by_pictures=False)


def _std(motion: Motion) -> float:
    return math.sqrt(float(np.trace(motion.cov_m2)) / 2)
