"""Where the constants of fuse/ come from: simulated flights whose truth is known.

    python benchmarks/calibrate_belief.py [--model nano] [--maps 4] [--frames 40] [--engine onnx]

Flies a simulated camera over procedural maps that no training has seen, every frame alone: exactly
told, with +-20 degrees and +-20 %, and with an unknown heading; each frame over its own map and
over another one. A logistic regression of "the best place is right" on its correlation and on the
gap to its rival gives the numbers of fuse/hypotheses.py; the errors of right places give those of
their covariance. Real flights are not touched here.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.fuse.attitude import Tolerance, attitude_from_telemetry, variants_of
from skyfix.runtime.fuse.belief import leaders, uniform_belief, updated
from skyfix.runtime.fuse.chart import Chart
from skyfix.runtime.fuse.hypotheses import (
    NOWHERE_SEARCHING,
    SAME_PLACE_TILES,
    SEPARATION_STEPS,
    Weighed,
    places_from_leaders,
)
from skyfix.runtime.fuse.integrity import UNREFINED_STD_STEPS
from skyfix.runtime.fuse.refine import Query, candidate_count, refined
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.maps.search import best_scores
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import ground_from_frame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import Conditions, Pose, SimulatedFrame, Simulator
from skyfix.runtime.types import Patch, Reason, Telemetry

FIRST_SEED = 500  # maps 1000 and up are trained on, small seeds fly the demo
SIDE_M = 1500.0
MAP_GSD_M = 0.6
RIGHT_WITHIN_M = 25.0
ERRORS = {"exact": (0.0, 0.0), "+-20 deg, +-20 %": (20.0, 0.2), "heading unknown": (180.0, 0.2)}
WEIGHT_BINS = (0.0, 0.5, 0.8, 0.95, 0.99, 0.999, 1.01)
CAMERA = Camera(1280, 720, np.array([[890.0, 0, 639.5], [0, 890.0, 359.5], [0, 0, 1]]), np.zeros(0))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One frame's best place against the truth."""

    right: bool
    weight: float
    correlation: float
    gap: float  # to the best place elsewhere
    error_en_m: tuple[float, float]
    cov_en_m2: Array


def main() -> None:
    """Fly, collect, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--maps", type=int, default=4)
    parser.add_argument("--frames", type=int, default=40)
    arguments = parser.parse_args()
    model = load_model(model_folder(arguments.model), engine=arguments.engine)
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.maps)
    with tempfile.TemporaryDirectory() as folder:
        lands = [land_and_pack(model, seed, Path(folder)) for seed in seeds]
        outcomes = [
            outcome
            for number, (land, pack) in enumerate(lands)
            for elsewhere in (False, True)
            for outcome in flown(
                land, pack if not elsewhere else lands[number - 1][1], model,
                arguments.frames, FIRST_SEED + number, elsewhere=elsewhere,
            )
        ]  # fmt: skip
    report(outcomes)


def land_and_pack(model: Model, seed: int, folder: Path) -> tuple[Raster, TilePack]:
    """A drawn map and its pack."""
    land = town_and_country(seed, SIDE_M, SIDE_M, MAP_GSD_M, LocalFrame(45.0, 9.0))
    where = folder / f"{seed}"
    build_pack(land, model, where, imagery=Imagery(fingerprint=str(seed)))
    return land, TilePack.open(where, model_id=model.card.model_id)


def flown(
    land: Raster, pack: TilePack, model: Model, count: int, seed: int, *, elsewhere: bool
) -> Iterator[Outcome]:
    """Random places over a land, under a weather of its own, looked for in a pack."""
    rng = np.random.default_rng(seed)
    west, south, east, north = land.bounds_m
    edge_m = model.card.tile_m / 2
    route = [
        Pose(
            number, rng.uniform(west + edge_m, east - edge_m),
            rng.uniform(south + edge_m, north - edge_m), rng.uniform(90, 150),
            rng.uniform(-180, 180),
        )
        for number in range(count)
    ]  # fmt: skip
    conditions = Conditions(appearance=0.8, tilt_std_deg=3.0, yaw_std_deg=0.0, height_std=0.0)
    for sight in Simulator(land, CAMERA, conditions, seed).fly(route):
        for yaw_deg, height in ERRORS.values():
            telemetry = told(sight.telemetry, yaw_deg, height, rng)
            places = places_of(sight, telemetry, pack, model)
            if places is not None:
                yield outcome_of(places, sight, pack.manifest.tile_m, elsewhere=elsewhere)


def told(true: Telemetry, yaw_deg: float, height: float, rng: np.random.Generator) -> Telemetry:
    """Uniform errors, and what a log would say of them."""
    if not height:
        return true
    return replace(
        true,
        yaw_deg=(true.yaw_deg + rng.uniform(-yaw_deg, yaw_deg) + 180) % 360 - 180,
        height_agl_m=true.height_agl_m * (1 + rng.uniform(-height, height)),
        yaw_std_deg=math.inf if yaw_deg >= 180 else yaw_deg / math.sqrt(3),
        height_std=height / math.sqrt(3),
    )


def places_of(
    sight: SimulatedFrame, telemetry: Telemetry, pack: TilePack, model: Model
) -> Weighed | None:
    """The method's stages on one frame."""
    view, step_m, tile_m = pack.manifest.overview, pack.grid.step_m, pack.manifest.tile_m
    ground = ground_from_frame(sight.frame.image, CAMERA, telemetry, pack.manifest.gsd_m)
    if isinstance(ground, Reason):
        return None
    attitude = attitude_from_telemetry(telemetry)
    tolerance = Tolerance(model.card.heading_deg, model.card.scale)
    seen = {}
    for variant in variants_of(attitude, tolerance):
        scale = math.exp(variant.log_scale)
        patch = ground.patch(model.card.input_px, pack.manifest.gsd_m, variant.turn_deg, scale)
        if isinstance(patch, Patch):
            seen[variant] = patch
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    scores, which = best_scores(pack, model.query.describe(list(seen.values())), *whole)
    belief = updated(uniform_belief(pack.grid, pack.valid, 0), whole, scores)
    found = leaders(belief, candidate_count(scores.size), SEPARATION_STEPS * step_m)
    variants = list(seen)
    start = places_from_leaders(
        found, [float(scores[place.row, place.column]) for place in found],
        [variants[which[place.row, place.column]] for place in found],
        UNREFINED_STD_STEPS * step_m,
    )  # fmt: skip
    chart = Chart(pack.overview, view.west_m, view.north_m, view.gsd_m)
    reach_m = SEPARATION_STEPS * step_m / 2
    query = Query(ground.grey(), tile_m, attitude)
    return refined(start.hypotheses, NOWHERE_SEARCHING, query, chart, reach_m)


def outcome_of(
    places: Weighed, sight: SimulatedFrame, tile_m: float, *, elsewhere: bool
) -> Outcome:
    """The best place by correlation; over another map none is right."""
    best = max(places.hypotheses, key=lambda place: place.correlation)
    rivals = [
        place.correlation
        for place in places.hypotheses
        if math.hypot(place.east_m - best.east_m, place.north_m - best.north_m)
        > SAME_PLACE_TILES * tile_m
    ]
    east, north = best.east_m - sight.center_en_m[0], best.north_m - sight.center_en_m[1]
    return Outcome(
        right=not elsewhere and math.hypot(east, north) < RIGHT_WITHIN_M,
        weight=places.hypotheses[0].weight,
        correlation=best.correlation,
        gap=best.correlation - max(rivals, default=0.0),
        error_en_m=(east, north),
        cov_en_m2=best.cov_en_m2,
    )


def logistic(features: Array, right: NDArray[np.bool_]) -> Array:
    """Coefficients of the features and the constant, by Newton's method."""
    design = np.column_stack([features, np.ones(len(features))])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        odds = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (odds - right) + 1e-3 * weights
        curvature = (design.T * (odds * (1 - odds))) @ design + 1e-3 * np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, slope)
    return weights


def report(outcomes: list[Outcome]) -> None:
    """Print the tables that the constants are read from."""
    right = np.array([outcome.right for outcome in outcomes])
    features = np.array([[outcome.gap, outcome.correlation] for outcome in outcomes])
    per_gap, per_correlation, constant = logistic(features, right)
    print(f"{len(outcomes)} frames, half of them over another map; right: {right.mean():.1%}")
    print(f"PER_GAP {per_gap:.1f}, PER_CORRELATION {per_correlation:.1f}, OFFSET {-constant:.1f}")
    weight = np.array([outcome.weight for outcome in outcomes])
    print("leader's weight      frames   right   mean weight")
    for low, high in pairwise(WEIGHT_BINS):
        inside = (weight >= low) & (weight < high)
        if inside.any():
            print(
                f"{low:6.3f} .. {min(high, 1):5.3f}   {inside.sum():8d}  "
                f"{right[inside].mean():6.1%}   {weight[inside].mean():9.4f}"
            )
    errors = np.array([outcome.error_en_m for outcome in outcomes])[right]
    inverse = np.linalg.inv(np.array([outcome.cov_en_m2 for outcome in outcomes])[right])
    squared = np.einsum("ni,nij,nj->n", errors, inverse, errors)
    print(f"right places: median error {np.median(np.hypot(*errors.T)):.2f} m")
    for share, bound in ((68, 2.279), (95, 5.991)):
        print(f"their own {share} % ellipses hold {np.mean(squared < bound):.0%}")


if __name__ == "__main__":
    main()
