"""Does the mission check foretell what the localizer does? Simulated flights over drawn land.

    python benchmarks/coverage.py [--markdown] [--lands 3]

Each land has ground that no camera can tell from other ground: a block that is copied elsewhere,
and a lake. Frames of lost drones at random places are localised alone, and lost flights along
random straight lines until their first fix; both are set against what `skyfix map coverage` says
of the same places. Seeds, lands and weathers are none that its constants were measured on.
"""

import argparse
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from cores import keep_to_two_cores
from numpy.typing import NDArray
from tables import TextTable, number, show

from skyfix.export.packs import build_pack
from skyfix.runtime.coverage.check import Flying, Kind, outlook, places_on
from skyfix.runtime.coverage.mission import evenly
from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import (
    Conditions,
    Pose,
    Simulator,
    center_from_pose,
    route_from_waypoints,
)
from skyfix.runtime.types import Fix

FIRST_SEED = 570  # 560 to 565 gave the constants of runtime/coverage/sight.py
SIDE_M, MAP_GSD_M = 1000.0, 0.6
BLOCK_M = 400.0  # side of the copied block, and of the square around the lake
LAKE_GREY_STD = 1.5
RIGHT_WITHIN_M = 25.0
CHANCE_BINS = (0.0, 0.05, 0.35, 0.65, 0.95, 1.01)
FLYING = Flying(speed_mps=12.0, interval_s=1.0)
FLIGHT_M = 480.0
CONDITIONS = Conditions(appearance=0.8, tilt_std_deg=3.0)
CAMERA = Camera(1280, 720, np.array([[890.0, 0, 639.5], [0, 890.0, 359.5], [0, 0, 1]]), np.zeros(0))
COPIED, LAKE, PLAIN = "copied block", "lake", "plain land"


@dataclass(frozen=True)
class Land:
    """A map with planted ground, and its pack."""

    seed: int
    raster: Raster
    pack: TilePack


@dataclass(frozen=True)
class Single:
    """One lost frame: what was foretold of its place, and what came."""

    ground: str
    kind: Kind
    chance: float
    found: bool
    false: bool  # stood out elsewhere


@dataclass(frozen=True)
class Search:
    """One lost flight: frames to the first fix, foretold (median) and real; infinite for none."""

    ground: str
    foretold: float
    real: float
    false: bool  # the first fix was another place


def main() -> None:
    """Fly, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--lands", type=int, default=3)
    parser.add_argument("--frames", type=int, default=60, help="single frames over each land")
    parser.add_argument("--flights", type=int, default=12, help="lost flights over each land")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    keep_to_two_cores()
    model = load_model(model_folder(arguments.model))
    singles: list[Single] = []
    searches: list[Search] = []
    with TemporaryDirectory() as folder:
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.lands):
            land = planted_land(seed, model, Path(folder) / str(seed))
            singles += single_frames(land, model, arguments.frames)
            searches += lost_flights(land, model, arguments.flights)
    for table in (calibration(singles), by_ground(singles, searches)):
        show(table, markdown=arguments.markdown)


def planted_land(seed: int, model: Model, folder: Path) -> Land:
    """Drawn land whose north-west block stands again in the south-east, with a lake north-east."""
    raster = town_and_country(seed, SIDE_M, SIDE_M, MAP_GSD_M, LocalFrame(45.0, 9.0))
    image = raster.image.copy()
    side = round(BLOCK_M / MAP_GSD_M)
    image[-side:, -side:] = image[:side, :side]
    middle = (image.shape[1] - side // 2, side // 2)
    mask = cv2.circle(np.zeros(image.shape[:2], np.uint8), middle, side // 2, 1, -1) > 0
    noise = np.random.default_rng(seed).normal(0, LAKE_GREY_STD, (*image.shape[:2], 1))
    water = np.clip(np.array([62, 84, 92]) + noise, 0, 255).astype(np.uint8)
    image[mask] = water[mask]
    land = replace(raster, image=image)
    build_pack(land, model, folder, imagery=Imagery(fingerprint=str(seed), accuracy_m=0))
    return Land(seed, land, TilePack.open(folder, model_id=model.card.model_id))


def ground_of(east_m: float, north_m: float) -> str:
    """What was planted around a place, by its tile's middle."""
    edge_m = SIDE_M / 2 - BLOCK_M
    inner_m = edge_m + 80.0  # half a tile: nothing but the planted ground in sight
    if min(-east_m, north_m) > inner_m or min(east_m, -north_m) > inner_m:
        return COPIED
    from_middle_m = math.hypot(east_m - (SIDE_M - BLOCK_M) / 2, north_m - (SIDE_M - BLOCK_M) / 2)
    return LAKE if from_middle_m < BLOCK_M / 2 - 80.0 else PLAIN


def single_frames(land: Land, model: Model, count: int) -> list[Single]:
    """Frames at random places, each localised alone."""
    rng = np.random.default_rng((land.seed, 1))
    reach_m = SIDE_M / 2 - model.card.tile_m / 2 - 10
    lowest, highest = (-reach_m, -reach_m, 90, -180), (reach_m, reach_m, 150, 180)
    route = [Pose(index, *rng.uniform(lowest, highest).tolist()) for index in range(count)]
    alone = LocalizerSettings(independent=True)
    sights, fixes = [], []
    for weather in range(4):  # a simulator has one for a flight
        part = route[weather::4]
        localizer = Localizer(land.pack, model, CAMERA, alone)
        for sight in Simulator(land.raster, CAMERA, CONDITIONS, land.seed * 10 + weather).fly(part):
            sights.append(sight.center_en_m)
            fixes.append(localizer.step(sight.frame, sight.telemetry))
    places = places_on(land.pack, np.array(sights))
    foretold = outlook(land.pack, places, FLYING, model.card.likelihood)
    return [
        Single(
            ground_of(*center),
            foretold.kind[index],
            float(np.nan_to_num(foretold.chance[index])),
            found=fix.reason is None and error_m(land.pack, fix, center) <= RIGHT_WITHIN_M,
            false=fix.reason is None and error_m(land.pack, fix, center) > RIGHT_WITHIN_M,
        )
        for index, (center, fix) in enumerate(zip(sights, fixes, strict=True))
    ]


def lost_flights(land: Land, model: Model, count: int) -> list[Search]:
    """Straight flights from random places, each until its first fix."""
    rng = np.random.default_rng((land.seed, 2))
    reach_m = SIDE_M / 2 - model.card.tile_m / 2 - 10
    found: list[Search] = []
    while len(found) < count:
        start, angle = rng.uniform(-reach_m, reach_m, 2), rng.uniform(0, 2 * math.pi)
        end = start + FLIGHT_M * np.array([math.sin(angle), math.cos(angle)])
        if abs(end).max() > reach_m:
            continue
        line = np.stack([start, end])
        points, length_m = evenly(line, land.pack.grid.step_m)
        places = places_on(land.pack, points)
        foretold = outlook(land.pack, places, FLYING, model.card.likelihood, length_m)
        frames = np.sort(foretold.first_fix_s[0])[(foretold.first_fix_s.shape[1] - 1) // 2]
        real, false = first_fix(land, model, line, (land.seed, len(found)))
        frames_foretold = float(frames / FLYING.interval_s + 1)
        found.append(Search(ground_of(*start.tolist()), frames_foretold, real, false))
    return found


def first_fix(
    land: Land, model: Model, line: NDArray[np.float64], seed: tuple[int, int]
) -> tuple[float, bool]:
    """Frames until a flight's first fix, and whether that was another place."""
    rng = np.random.default_rng(seed)
    route = route_from_waypoints(line, rng.uniform(90, 150), FLYING.speed_mps, FLYING.interval_s)
    localizer = Localizer(land.pack, model, CAMERA)
    simulator = Simulator(land.raster, CAMERA, CONDITIONS, seed[0] * 100 + seed[1])
    for frame, sight in enumerate(simulator.fly(route), start=1):
        fix = localizer.step(sight.frame, sight.telemetry)
        if fix.lat_deg is not None:
            center = center_from_pose(CAMERA, sight.pose)
            return float(frame), error_m(land.pack, fix, center) > RIGHT_WITHIN_M
    return math.inf, False


def error_m(pack: TilePack, fix: Fix, center_en_m: tuple[float, float]) -> float:
    """Distance of a fix's image centre from the true one."""
    if fix.center_lat_deg is None or fix.center_lon_deg is None:
        return math.inf
    east, north = pack.frame.en_from_wgs84(fix.center_lat_deg, fix.center_lon_deg)
    return math.hypot(float(east) - center_en_m[0], float(north) - center_en_m[1])


def calibration(singles: list[Single]) -> TextTable:
    """Chance foretold against share found, in bins."""
    rows = []
    for low, high in pairwise(CHANCE_BINS):
        part = [single for single in singles if low <= single.chance < high]
        if part:
            rows.append(
                (
                    f"{low:.2f} to {min(high, 1):.2f}",
                    str(len(part)),
                    number(float(np.mean([single.chance for single in part])), 2),
                    number(float(np.mean([single.found for single in part])), 2),
                )
            )
    return TextTable(
        "a single lost frame: chance to stand out at its true place",
        ("foretold", "frames", "mean foretold", "share found"), rows,
    )  # fmt: skip


def by_ground(singles: list[Single], searches: list[Search]) -> TextTable:
    """What was foretold and what came, on each kind of ground."""
    rows = []
    for ground in (PLAIN, COPIED, LAKE):
        frames = [single for single in singles if single.ground == ground]
        flights = [search for search in searches if search.ground == ground]
        foretold = [search.foretold for search in flights]
        real = [search.real for search in flights]
        rows.append(
            (
                ground,
                str(len(frames)),
                _mean([single.chance for single in frames]),
                _mean([single.found for single in frames]),
                str(sum(single.false for single in frames)),
                str(len(flights)),
                _median(foretold),
                _median(real),
                str(sum(search.false for search in flights)),
            )
        )
    return TextTable(
        f"by the ground (flights: where they start); {FLYING.speed_mps:g} m/s, "
        f"a frame every {FLYING.interval_s:g} s",
        ("ground", "frames", "chance foretold", "share found", "found elsewhere",
         "flights", "frames to a fix, foretold", "real", "false first fixes"), rows,
    )  # fmt: skip


def _mean(values: list[float] | list[bool]) -> str:
    return number(float(np.mean(values)) if values else None, 2)


def _median(values: list[float]) -> str:
    return number(float(np.median(values)) if values else None)


if __name__ == "__main__":
    main()
