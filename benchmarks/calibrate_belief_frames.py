"""Frames whose truth is known, as the localizer sees them: simulated ones and a real flight.

Each frame is told exactly, with +-20 degrees and +-20 %, and with an unknown heading, and is looked
for alone in its own map and in another one that does not hold it. Half of the maps, and the later
half of the real flight, are held out: what was fitted on the others is judged on them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calibrate_belief_fit import Ranking
from flights import FLIGHTS, opened_pack
from navigation_noise import EXACT, UNKNOWN, WITHIN_20, drawn, told
from numpy.typing import NDArray

from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.attitude import Tolerance, Variant, attitude_from_telemetry, variants_of
from skyfix.runtime.fuse.belief import leaders, uniform_belief, updated
from skyfix.runtime.fuse.chart import Chart
from skyfix.runtime.fuse.hypotheses import (
    LONE_RIVAL,
    OFF_MAP,
    SAME_PLACE_TILES,
    SEPARATION_STEPS,
    Weighed,
    nowhere_of,
    places_from_leaders,
)
from skyfix.runtime.fuse.integrity import UNREFINED_STD_STEPS
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.query import Query
from skyfix.runtime.fuse.refine import candidate_count, lean_of, refined
from skyfix.runtime.fuse.scales import Scales, scales_of
from skyfix.runtime.fuse.tilt import tilt_of_frame, unknown_tilt, widened
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.localizer import LocalizerSettings
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.maps.search import Scores, best_scores
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import Conditions, Pose, Simulator
from skyfix.runtime.sense.source import open_source
from skyfix.runtime.truth import read_truth
from skyfix.runtime.types import Frame, Hypothesis, Patch, Reason, Telemetry

FIRST_SEED = 500  # maps 1000 and up are trained on, small seeds fly the demo
SIDE_M, MAP_GSD_M = 1500.0, 0.6
RIGHT_WITHIN_M = 25.0
ERRORS = (EXACT, WITHIN_20, UNKNOWN)
CAMERA = Camera(1280, 720, np.array([[890.0, 0, 639.5], [0, 890.0, 359.5], [0, 0, 1]]), np.zeros(0))
CONDITIONS = Conditions(appearance=0.8, tilt_std_deg=3.0, yaw_std_deg=0.0, height_std=0.0)
REAL, ELSEWHERE = "A", "nust"  # a flight that may be looked at, and the map of another region


@dataclass(frozen=True)
class Shot:
    """A frame on the ground by what was told, described."""

    frame: str
    query: Query
    variants: list[Variant]
    descriptors: Scores  # (Q, D)
    held_out: bool
    real: bool


@dataclass(frozen=True)
class Sighting:
    """A shot beside every tile of a map."""

    shot: Shot
    pack: TilePack
    scores: Scores  # (rows, columns)
    which: NDArray[np.intp]  # variant of each
    center_en_m: tuple[float, float] | None  # the truth; None where the map does not hold it


@dataclass(frozen=True)
class Outcome:
    """One sighting's best place against the truth."""

    held_out: bool
    real: bool
    right: bool
    weight: float
    correlation: float
    gap: float  # to the best place elsewhere
    error_en_m: tuple[float, float]
    cov_en_m2: NDArray[np.float64]


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
        for shot, center_en_m in _flown(land, model, frames, number):
            yield seen(shot, pack, center_en_m)
            yield seen(shot, other, None)


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
                shot = described(row.frame, ground, telemetry, model, later, real=True)
                if shot is not None:
                    east, north = centers[row.frame]
                    yield seen(shot, own, (float(east), float(north)))
                    yield seen(shot, other, None)


def described(
    frame: str, ground: Ground | Reason, telemetry: Telemetry, model: Model, held_out: bool,
    *, real: bool,
) -> Shot | None:  # fmt: skip
    """A frame as the network sees it; None where it cannot be used."""
    if isinstance(ground, Reason):
        return None
    card = model.card
    attitude = attitude_from_telemetry(telemetry)
    patches = {}
    for variant in variants_of(attitude, Tolerance(card.heading_deg, card.scale)):
        scale = math.exp(variant.log_scale)
        patch = ground.patch(card.input_px, card.gsd_m, variant.turn_deg, scale)
        if isinstance(patch, Patch):
            patches[variant] = patch
    if not patches:
        return None
    query = Query(ground.grey(), card.tile_m, attitude)
    descriptors = model.query.describe(list(patches.values()))
    return Shot(frame, query, list(patches), descriptors, held_out, real)


def seen(shot: Shot, pack: TilePack, center_en_m: tuple[float, float] | None) -> Sighting:
    """A shot beside all of a map."""
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    return Sighting(shot, pack, *best_scores(pack, shot.descriptors, *whole), center_en_m)


def ranking_of(sighting: Sighting) -> Ranking | None:
    """Similarities with the tile nearest to the truth; None where no tile holds it."""
    pack = sighting.pack
    if sighting.center_en_m is None:
        return None
    row, column = (round(index) for index in pack.grid.cell_from_en(*sighting.center_en_m))
    inside = 0 <= row < pack.grid.rows and 0 <= column < pack.grid.columns
    if not inside or not pack.valid[row, column]:
        return None
    before = int(pack.valid.ravel()[: row * pack.grid.columns + column].sum())
    return Ranking(sighting.scores[pack.valid], before)


def outcome_of(sighting: Sighting, likelihood: Likelihood) -> Outcome | None:
    """The best place by correlation; over another map none is right."""
    places = places_of(sighting, likelihood)
    if places is None:
        return None
    best = max(places.hypotheses, key=lambda place: place.correlation)
    tile_m = sighting.pack.manifest.tile_m
    rivals = [
        place.correlation
        for place in places.hypotheses
        if math.hypot(place.east_m - best.east_m, place.north_m - best.north_m)
        > SAME_PLACE_TILES * tile_m
    ]
    true_east, true_north = sighting.center_en_m or (math.inf, math.inf)
    east, north = best.east_m - true_east, best.north_m - true_north
    return Outcome(
        held_out=sighting.shot.held_out,
        real=sighting.shot.real,
        right=math.hypot(east, north) < RIGHT_WITHIN_M,
        weight=places.hypotheses[0].weight,
        correlation=best.correlation,
        gap=best.correlation - max(rivals, default=min(LONE_RIVAL, best.correlation)),
        error_en_m=(east, north),
        cov_en_m2=_tilted(best, sighting).cov_en_m2,
    )


def _tilted(place: Hypothesis, sighting: Sighting) -> Hypothesis:
    """As sure as the tilt leaves it that the frame itself shows."""
    lean = lean_of(place, sighting.shot.query, _scales(sighting.pack))
    if lean is None:
        return place
    tilt = tilt_of_frame(unknown_tilt(LocalizerSettings().tilt_std_deg), [lean.seen])
    return widened(place, lean.pull, tilt)


def places_of(sighting: Sighting, likelihood: Likelihood) -> Weighed | None:
    """The method's stages behind the scan, for a frame alone."""
    pack, scores, step_m = sighting.pack, sighting.scores, sighting.pack.grid.step_m
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    belief = updated(uniform_belief(pack.grid, pack.valid), whole, scores, likelihood)
    found = leaders(belief, candidate_count(scores.size), SEPARATION_STEPS * step_m)
    start = places_from_leaders(
        found, [float(scores[place.row, place.column]) for place in found],
        [sighting.shot.variants[sighting.which[place.row, place.column]] for place in found],
        UNREFINED_STD_STEPS * step_m,
    )  # fmt: skip
    return refined(
        start.hypotheses, belief, nowhere_of(OFF_MAP), sighting.shot.query, _scales(pack),
        likelihood,
    )  # fmt: skip


def _scales(pack: TilePack) -> Scales:
    view = pack.manifest.overview
    chart = Chart(pack.overview, view.west_m, view.north_m, view.gsd_m)
    return scales_of(chart, pack.manifest.tile_m)


def _flown(
    land: Raster, model: Model, frames: int, number: int
) -> Iterator[tuple[Shot, tuple[float, float]]]:
    """Random places over a land, under a weather of its own, and their true centres."""
    seed = FIRST_SEED + number
    rng = np.random.default_rng(seed)
    west, south, east, north = land.bounds_m
    edge_m = model.card.tile_m / 2
    route = [
        Pose(
            index, rng.uniform(west + edge_m, east - edge_m),
            rng.uniform(south + edge_m, north - edge_m), rng.uniform(90, 150),
            rng.uniform(-180, 180),
        )
        for index in range(frames)
    ]  # fmt: skip
    wrong = [drawn(errors, frames, seed) for errors in ERRORS]
    for index, sight in enumerate(Simulator(land, CAMERA, CONDITIONS, seed).fly(route)):
        for errors, (yaw_deg, height) in zip(ERRORS, wrong, strict=True):
            telemetry = told(sight.telemetry, errors, float(yaw_deg[index]), float(height[index]))
            ground = ground_from_frame(sight.frame.image, CAMERA, telemetry, model.card.gsd_m)
            name = f"{seed}/{index}"
            shot = described(name, ground, telemetry, model, number % 2 == 1, real=False)
            if shot is not None:
                yield shot, sight.center_en_m
