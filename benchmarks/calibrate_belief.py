"""Where the constants of fuse/ come from: simulated flights whose truth is known.

    python benchmarks/calibrate_belief.py [--model nano] [--maps 3] [--frames 60]

Flies a simulated camera over procedural maps that no training has seen, every frame alone, and
prints what a true place and the best wrong one correlate with, how often the leader is right at
each weight, and how far the errors of right places agree with their covariance. Real flights are
not touched: they test what is set here.
"""

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import Model, load_model, model_folder
from skyfix.runtime.fuse.belief import leaders, uniform_belief, updated
from skyfix.runtime.fuse.hypotheses import COUNT, SEPARATION_STEPS, Weighed, refined, unrefined
from skyfix.runtime.fuse.integrity import UNREFINED_STD_STEPS
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import pack_scores
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import patch_from_frame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import Conditions, Pose, SimulatedFrame, Simulator
from skyfix.runtime.types import Patch

FIRST_SEED = 500  # maps 1000 and up are trained on, small seeds fly the demo
SIDE_M = 1200.0
MAP_GSD_M = 0.6
RIGHT_WITHIN_M = 25.0
WEIGHT_BINS = (0.0, 0.5, 0.8, 0.95, 0.99, 0.999, 1.01)
CAMERA = Camera(1280, 720, np.array([[890.0, 0, 639.5], [0, 890.0, 359.5], [0, 0, 1]]), np.zeros(0))


@dataclass(frozen=True)
class Outcome:
    """One frame's leader against the truth."""

    weight: float
    right: bool
    normalised_error: float  # of the leader, by its own covariance, per axis
    right_correlation: float  # best of the right places, NaN where none was among them
    wrong_correlation: float  # best of the wrong ones
    unrefined_error_steps: float  # of the nearest leader before refinement


def main() -> None:
    """Fly, collect, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--frames", type=int, default=60)
    arguments = parser.parse_args()
    model = load_model(model_folder(arguments.model))
    outcomes = [
        outcome
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.maps)
        for outcome in fly(model, seed, arguments.frames)
    ]
    report(outcomes)


def fly(model: Model, seed: int, frames: int) -> list[Outcome]:
    """Random places over one map, under a weather of its own."""
    town = town_and_country(seed, SIDE_M, SIDE_M, MAP_GSD_M, LocalFrame(45.0, 9.0))
    rng = np.random.default_rng(seed)
    west, south, east, north = town.bounds_m
    edge_m = model.card.tile_m / 2
    route = [
        Pose(
            number, rng.uniform(west + edge_m, east - edge_m),
            rng.uniform(south + edge_m, north - edge_m), rng.uniform(90, 150),
            rng.uniform(-180, 180),
        )
        for number in range(frames)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        build_pack(town, model, Path(folder) / "pack", imagery=Imagery(fingerprint=str(seed)))
        pack = TilePack.open(Path(folder) / "pack", model_id=model.card.model_id)
        simulator = Simulator(town, CAMERA, Conditions(appearance=0.8, tilt_std_deg=3.0), seed)
        return [
            outcome
            for sight in simulator.fly(route)
            if (outcome := outcome_of(sight, pack, model)) is not None
        ]


def outcome_of(sight: SimulatedFrame, pack: TilePack, model: Model) -> Outcome | None:
    """The method's stages on one frame, against the truth."""
    gsd_m, step_m = pack.manifest.gsd_m, pack.grid.step_m
    patch = patch_from_frame(sight.frame.image, CAMERA, sight.telemetry, model.card.input_px, gsd_m)
    if not isinstance(patch, Patch):
        return None
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    scores = pack_scores(pack, model.query.describe([patch])[0])
    belief = updated(uniform_belief(pack.grid, pack.valid, 0), whole, scores)
    found = leaders(belief, COUNT, SEPARATION_STEPS * step_m)
    similarity = [float(scores[place.row, place.column]) for place in found]
    start = unrefined(found, similarity, UNREFINED_STD_STEPS * step_m)
    weighed = refined(
        start, patch, pack.overview, pack.manifest.overview.gsd_m, SEPARATION_STEPS * step_m / 2
    )
    before, after = (errors_m(places, sight.center_en_m) for places in (start, weighed))
    correlations = np.array([place.correlation for place in weighed.hypotheses])
    right = after < RIGHT_WITHIN_M
    leader = weighed.hypotheses[0]
    std_m = float(np.sqrt(np.trace(leader.cov_en_m2) / 2))
    return Outcome(
        weight=leader.weight,
        right=bool(right[0]),
        normalised_error=float(after[0] / std_m / np.sqrt(2)),
        right_correlation=float(correlations[right].max()) if right.any() else float("nan"),
        wrong_correlation=float(correlations[after > 2 * RIGHT_WITHIN_M].max(initial=-1)),
        unrefined_error_steps=float(before.min() / step_m),
    )


def errors_m(places: Weighed, truth_en_m: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of every hypothesis from the truth."""
    east, north = truth_en_m
    return np.array([np.hypot(h.east_m - east, h.north_m - north) for h in places.hypotheses])


def report(outcomes: list[Outcome]) -> None:
    """Print the tables that the constants are read from."""
    weight = np.array([outcome.weight for outcome in outcomes])
    right = np.array([outcome.right for outcome in outcomes])
    true_peak = np.array([outcome.right_correlation for outcome in outcomes])
    wrong_peak = np.array([outcome.wrong_correlation for outcome in outcomes])
    print(f"{len(outcomes)} frames, leader right in {right.mean():.1%}")
    print("leader's weight      frames   right   mean weight")
    for low, high in pairwise(WEIGHT_BINS):
        inside = (weight >= low) & (weight < high)
        if inside.any():
            print(
                f"{low:6.3f} .. {min(high, 1):5.3f}   {inside.sum():8d}  "
                f"{right[inside].mean():6.1%}   {weight[inside].mean():9.4f}"
            )
    for name, peak in (("true", true_peak), ("best wrong", wrong_peak)):
        low, middle, high = np.nanpercentile(peak, [5, 50, 95])
        print(f"correlation of the {name} place: {low:.2f} {middle:.2f} {high:.2f} (5, 50, 95 %)")
    spread = np.array([outcome.normalised_error for outcome in outcomes])[right]
    steps = np.array([outcome.unrefined_error_steps for outcome in outcomes])
    print(f"errors of right leaders / stated std, rms per axis: {np.sqrt((spread**2).mean()):.2f}")
    near = steps[steps < SEPARATION_STEPS]
    print(f"unrefined centroid, rms per axis: {np.sqrt((near**2).mean() / 2):.2f} steps")


if __name__ == "__main__":
    main()
