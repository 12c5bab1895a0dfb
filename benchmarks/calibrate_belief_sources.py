"""Where a calibration's frames come from: simulated flights, a real one, and a map of other years.

Each frame is told exactly, with +-20 degrees and +-20 %, and with an unknown heading, and is looked
for alone in its own map and where it is not: in another map, or as its mirror image. Half of the
maps, and the later half of the real flight, are held out: what was fitted on the others is judged
on them. Of naip one pair of years is judged by another; both are of the same ground.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from calibrate_belief_frames import Shot, Sighting, described, seen
from flights import FLIGHTS, opened_pack
from navigation_flights import CAMERA as CAMERA_OVER_YEARS
from navigation_flights import at_scale
from navigation_noise import EXACT, UNKNOWN, WITHIN_20, drawn, told

from skyfix.export.packs import build_pack
from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster, RasterReader
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import ground_from_frame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import Conditions, Pose, SimulatedFrame, Simulator
from skyfix.runtime.sense.source import open_source
from skyfix.runtime.truth import read_truth
from skyfix.runtime.types import Frame

FIRST_SEED = 500  # maps 1000 and up are trained on, small seeds fly the demo
SIDE_M, MAP_GSD_M = 1500.0, 0.6
ERRORS = (EXACT, WITHIN_20, UNKNOWN)
CAMERA = Camera(1280, 720, np.array([[890.0, 0, 639.5], [0, 890.0, 359.5], [0, 0, 1]]), np.zeros(0))
CONDITIONS = Conditions(appearance=0.8, tilt_std_deg=3.0, yaw_std_deg=0.0, height_std=0.0)
REAL, ELSEWHERE = "A", "nust"  # a flight that may be looked at, and the map of another region
# The map and what the camera sees, fitted and judged; 2020 is left to the benchmark's unseen part.
YEARS = (("20120731", "20160816"), ("20160816", "20090818"))
YEARS_GSD_M = 5.0
SIMULATED, FLOWN, OTHER_YEARS = "simulated", "fengyuan flight A", "naip, a camera of another year"


@dataclass(frozen=True)
class Over:
    """What a simulated camera flies over."""

    land: RasterReader
    camera: Camera
    height_m: tuple[float, float]  # drawn between these
    model: Model  # at the map's scale
    source: str
    seed: int
    held_out: bool


def lands_and_packs(model: Model, maps: int, folder: Path) -> list[tuple[Raster, TilePack]]:
    """Drawn maps and their packs."""
    found = []
    for seed in range(FIRST_SEED, FIRST_SEED + maps):
        land = town_and_country(seed, SIDE_M, SIDE_M, MAP_GSD_M, LocalFrame(45.0, 9.0))
        imagery = Imagery(fingerprint=str(seed), accuracy_m=0)
        build_pack(land, model, folder / f"{seed}", imagery=imagery)
        found.append((land, TilePack.open(folder / f"{seed}", model_id=model.card.model_id)))
    return found


def simulated(
    lands: Sequence[tuple[Raster, TilePack]], model: Model, frames: int
) -> Iterator[Sighting]:
    """Frames over every land, each looked for there and in another land of the same half."""
    apart = 2 if len(lands) > 2 else 1
    for number, (land, pack) in enumerate(lands):
        other = lands[number - apart][1]
        over = Over(
            land, CAMERA, (90, 150), model, SIMULATED, FIRST_SEED + number, number % 2 == 1
        )  # fmt: skip
        for name, sight in _flown(over, frames, CONDITIONS):
            for shot in _told(over, name, sight, frames):
                yield seen(shot, pack, sight.center_en_m)
                yield seen(shot, other, None)


def across_years(data: Path, model: Model, frames: int, folder: Path) -> Iterator[Sighting]:
    """Frames over the land of one year in the map of another, as they are and mirrored."""
    scaled = at_scale(model, YEARS_GSD_M)
    for number, (map_year, camera_year) in enumerate(YEARS):
        of_map, of_camera = (open_raster(data / "naip" / f"{year}.tif").reader
                             for year in (map_year, camera_year))  # fmt: skip
        imagery = Imagery(fingerprint=map_year)
        build_pack(of_map, scaled, folder / map_year, imagery=imagery)
        pack = TilePack.open(folder / map_year, model_id=model.card.model_id)
        over = Over(
            of_camera, CAMERA_OVER_YEARS, (360, 600), scaled, OTHER_YEARS, FIRST_SEED + number,
            number == 1,
        )  # fmt: skip
        for name, sight in _flown(over, frames, Conditions(yaw_std_deg=0.0, height_std=0.0)):
            center = pack.frame.en_from_wgs84(*of_camera.frame.wgs84_from_en(*sight.center_en_m))
            mirrored = replace(sight.frame, image=np.ascontiguousarray(sight.frame.image[:, ::-1]))
            for shot in _told(over, name, sight, frames):
                yield seen(shot, pack, (float(center[0]), float(center[1])))
            for shot in _told(over, name, replace(sight, frame=mirrored), frames):
                yield seen(shot, pack, None)


def real(data: Path, model: Model, folder: Path) -> Iterator[Sighting]:
    """The real flight's frames whose centre is known, on their map and on another region's."""
    flight = FLIGHTS[REAL]
    own, other = (
        opened_pack(data / area / "map.tif", model, folder / area)
        for area in (flight.area, FLIGHTS[ELSEWHERE].area)
    )
    recording = flight.recording(data)
    truth = read_truth(data / flight.area / flight.telemetry)["center"]
    centers = {
        name: own.frame.en_from_wgs84(lat, lon)
        for name, lat, lon in zip(truth.frames, truth.lat_deg, truth.lon_deg, strict=True)
        if math.isfinite(lat)
    }
    rows = [row for row in recording.rows if row.frame in centers]
    wrong = [drawn(errors, len(rows), FIRST_SEED) for errors in ERRORS]
    with open_source(recording.frames, rows) as frames:
        for number, (frame, row) in enumerate(zip(frames, rows, strict=True)):
            if not isinstance(frame, Frame) or row.telemetry is None:
                continue
            later = number >= len(rows) / 2
            for errors, (yaw_deg, height) in zip(ERRORS, wrong, strict=True):
                telemetry = told(
                    row.telemetry, errors, float(yaw_deg[number]), float(height[number])
                )
                ground = ground_from_frame(
                    frame.image, recording.camera, telemetry, model.card.gsd_m
                )
                shot = described(row.frame, ground, telemetry, model, later, FLOWN)
                if shot is not None:
                    east, north = centers[row.frame]
                    yield seen(shot, own, (float(east), float(north)))
                    yield seen(shot, other, None)


def _flown(over: Over, frames: int, conditions: Conditions) -> Iterator[tuple[str, SimulatedFrame]]:
    """Random places, under a weather of their own."""
    rng = np.random.default_rng(over.seed)
    west, south, east, north = over.land.bounds_m
    edge_m = over.model.card.tile_m / 2
    route = [
        Pose(
            index, rng.uniform(west + edge_m, east - edge_m),
            rng.uniform(south + edge_m, north - edge_m), rng.uniform(*over.height_m),
            rng.uniform(-180, 180),
        )
        for index in range(frames)
    ]  # fmt: skip
    flown = Simulator(over.land, over.camera, conditions, over.seed).fly(route)
    for index, sight in enumerate(flown):
        yield f"{over.seed}/{index}", sight


def _told(over: Over, name: str, sight: SimulatedFrame, frames: int) -> Iterator[Shot]:
    """A frame with every kind of error in its telemetry."""
    index = int(name.split("/")[1])
    for errors in ERRORS:
        yaw_deg, height = drawn(errors, frames, over.seed)
        telemetry = told(sight.telemetry, errors, float(yaw_deg[index]), float(height[index]))
        gsd_m = over.model.card.gsd_m
        ground = ground_from_frame(sight.frame.image, over.camera, telemetry, gsd_m)
        shot = described(name, ground, telemetry, over.model, over.held_out, over.source)
        if shot is not None:
            yield shot
