"""Flights with the filter from a lost start: the real ones, and simulated ones of 20 km.

Beside the flight itself a search from nothing is started every 50 frames of a simulated flight and
ends with its first position: one flight gives twenty lost starts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from flights import own_fixes
from navigation_land import Bounds
from navigation_noise import CONSTANT_20, Errors, drawn, told, with_errors
from navigation_scores import (
    FlightResult,
    Start,
    Truths,
    first_position,
    flight_result,
    found_percent,
    part_of_truth,
)
from numpy.typing import NDArray

from skyfix.runtime.encoder import Model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import RasterReader
from skyfix.runtime.publish.messages import FixMessage, message_from_fix
from skyfix.runtime.replay import Recording
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.simulator import (
    Conditions,
    Pose,
    SimulatedFrame,
    Simulator,
    route_from_waypoints,
)
from skyfix.runtime.truth import Point, Truth

CAMERA = Camera(  # the DJI Mini 2's field of view, at a size that is quickly drawn
    480, 270, np.array([[332.8, 0, 239.5], [0, 332.8, 134.5], [0, 0, 1]]), np.zeros(0)
)
SPEED_MPS, INTERVAL_S = 20.0, 1.0  # 1,000 frames over 20 km
LEG_M = (800.0, 3000.0)
START_EVERY, START_S = 50, 60.0  # frames between lost starts; issue 5's bound
FOUND_STEPS = 1.5  # of the tile grid: a first position within is the right place

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedFlight:
    """Where a simulated flight goes, over what, and what its pack is."""

    title: str
    part: str  # seen or unseen while tuning
    seed: int
    camera_map: RasterReader  # what the camera sees
    bounds_m: Bounds  # of the route, in camera_map's frame
    height_m: float
    pack: TilePack
    model: Model
    frames: int


class FlightRow(msgspec.Struct, frozen=True, kw_only=True):
    """One flight, or several of a kind."""

    flight: str
    errors: str
    part: str
    step_m: float
    result: FlightResult
    starts: list[Start]
    found_percent: float | None


def real_row(
    title: str, part: str, recording: Recording, truth: Truths, errors: Errors,
    pack: TilePack, model: Model,
) -> FlightRow:  # fmt: skip
    """A recorded flight in its order, from a lost start."""
    misled = replace(recording, rows=with_errors(recording.rows, errors, 0))
    fixes = own_fixes(pack, model, misled, LocalizerSettings())
    known = part_of_truth(truth, (row.frame for row in recording.rows))
    result = flight_result(fixes, known)
    return FlightRow(
        flight=title, part=part, errors=errors.name, step_m=pack.grid.step_m, result=result,
        starts=[result.start], found_percent=None,
    )  # fmt: skip


def simulated_row(flight: SimulatedFlight, progress: Callable[[], None]) -> FlightRow:
    """A simulated flight, and the lost starts along it."""
    step_m = flight.pack.grid.step_m
    truth = SimulatedTruth(flight.camera_map.frame)
    flown = Flown(lambda: Localizer(flight.pack, flight.model, CAMERA, LocalizerSettings()))
    for seen in frames_of(flight):
        truth.add(seen)
        flown.step(seen)
        progress()
    known = truth.known()
    starts = [first_position(fixes, known) for fixes in flown.starts if _has_ended(fixes)]
    return FlightRow(
        flight=flight.title, part=flight.part, errors=CONSTANT_20.name, step_m=step_m,
        result=flight_result(flown.fixes, known), starts=starts,
        found_percent=found_percent(starts, START_S, FOUND_STEPS * step_m),
    )  # fmt: skip


def frames_of(flight: SimulatedFlight) -> Iterator[SimulatedFrame]:
    """Frames as the aircraft has them: its heading and height are off for the whole flight."""
    route = random_route(flight.bounds_m, flight.height_m, flight.frames, flight.seed)
    # an unsteady gyro and barometer on top of the flight's own offset
    conditions = Conditions(yaw_std_deg=2.0, height_std=0.02)
    yaw_deg, height = drawn(CONSTANT_20, 1, flight.seed)
    for seen in Simulator(flight.camera_map, CAMERA, conditions, flight.seed).fly(route):
        misled = told(seen.telemetry, CONSTANT_20, float(yaw_deg[0]), float(height[0]))
        yield replace(seen, telemetry=misled)


@dataclass
class Flown:
    """One localizer for the flight, and a fresh one every so often until it has a position."""

    fresh: Callable[[], Localizer]
    fixes: list[FixMessage] = field(default_factory=list)
    starts: list[list[FixMessage]] = field(default_factory=list)
    _flight: Localizer | None = None
    _searching: list[tuple[Localizer, list[FixMessage]]] = field(default_factory=list)

    def step(self, seen: SimulatedFrame) -> None:
        """Give a frame to all that want it."""
        if self._flight is None:
            self._flight = self.fresh()
        elif len(self.fixes) % START_EVERY == 0:
            self.starts.append([])
            self._searching.append((self.fresh(), self.starts[-1]))
        self.fixes.append(stepped(self._flight, seen))
        for localizer, fixes in self._searching:
            fixes.append(stepped(localizer, seen))
        self._searching = [
            (localizer, fixes) for localizer, fixes in self._searching if not _has_ended(fixes)
        ]


@dataclass
class SimulatedTruth:
    """What the simulator knows, in the form that recorded flights have it."""

    frame: LocalFrame
    names: list[str] = field(default_factory=list)
    drone_en_m: list[tuple[float, float]] = field(default_factory=list)
    center_en_m: list[tuple[float, float]] = field(default_factory=list)

    def add(self, seen: SimulatedFrame) -> None:
        """Take note of a frame."""
        self.names.append(seen.frame.frame_id)
        self.drone_en_m.append((seen.pose.east_m, seen.pose.north_m))
        self.center_en_m.append(seen.center_en_m)

    def known(self) -> dict[Point, Truth]:
        """Both kinds of points, exactly."""
        return {"drone": self._truth(self.drone_en_m), "center": self._truth(self.center_en_m)}

    def _truth(self, points_en_m: list[tuple[float, float]]) -> Truth:
        east, north = np.array(points_en_m).T
        lat, lon = self.frame.wgs84_from_en(east, north)
        return Truth(tuple(self.names), lat, lon, np.zeros(len(self.names)))


def random_route(bounds_m: Bounds, height_m: float, frames: int, seed: int) -> list[Pose]:
    """Straight legs between random places, as many poses as are asked for."""
    rng = np.random.default_rng((seed, 7))
    margin_m = 1.5 * height_m  # the camera sees no further than the map
    west, south, east, north = np.array(bounds_m) + margin_m * np.array([1, 1, -1, -1])
    longest_m = min(LEG_M[1], math.hypot(east - west, north - south) / 2)
    shortest_m = min(LEG_M[0], longest_m / 2)
    places = [rng.uniform((west, south), (east, north))]
    flown_m, needed_m = 0.0, (frames + 1) * SPEED_MPS * INTERVAL_S
    while flown_m < needed_m:
        place = rng.uniform((west, south), (east, north))
        leg_m = float(np.hypot(*(place - places[-1])))
        if shortest_m <= leg_m <= longest_m:
            places.append(place)
            flown_m += leg_m
    return route_from_waypoints(np.array(places), height_m, SPEED_MPS, INTERVAL_S)[:frames]


def stepped(localizer: Localizer, seen: SimulatedFrame) -> FixMessage:
    """One step as a message."""
    return message_from_fix(localizer.step(seen.frame, seen.telemetry), session="", utc_ns=None)


def at_scale(model: Model, gsd_m: float) -> Model:
    """The model on maps of another scale: its tiles have as many pixels, of more ground."""
    card = msgspec.structs.replace(model.card, gsd_m=gsd_m)
    query, of_map = (replace(branch, card=card) for branch in (model.query, model.map))
    return replace(model, card=card, query=query, map=of_map)


def _has_ended(fixes: Sequence[FixMessage]) -> bool:
    """A position, or too late for one; a search that the flight's end cut short has not."""
    late = (fixes[-1].time_ns - fixes[0].time_ns) * 1e-9 >= START_S
    return late or fixes[-1].lat_deg is not None
