import math
from dataclasses import replace

import numpy as np
import pytest

from skyfix.runtime.fuse.attitude import Attitude, Tolerance, variants_of
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.refine import (
    MAX_COUNT,
    Query,
    candidate_count,
    lean_of,
    refined,
    structured,
)
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Pose, center_from_pose, render, tilted
from skyfix.runtime.types import Hypothesis, Telemetry

from .conftest import CAMERA, HEIGHT_M, Land

TILE_M = 96.0
LIKELIHOOD = Likelihood()
LOOSE = Attitude(0.0, 11.0, 0.0, 0.1)
TOLERANT = Tolerance(25.0, 0.25)


def place(east_m: float, north_m: float, weight: float, attitude: Attitude = LOOSE) -> Hypothesis:
    (variant,) = variants_of(attitude, TOLERANT)
    return Hypothesis(
        east_m, north_m, weight, 0.5, math.nan, np.eye(2), variant.turn_deg, variant.log_scale,
        variant.covariance(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("turn_deg", "scale"), [(0.0, 1.0), (17.0, 0.86), (-19.0, 1.17), (-8.0, 0.9)]
)
def test_the_true_place_wins_against_a_heavier_wrong_one_with_its_heading_and_height(
    land: Land, turn_deg: float, scale: float
) -> None:
    query = Query(land.seen(40.0, -60.0, turn_deg, scale), TILE_M, LOOSE)
    start = [place(-120.0, 90.0, 0.7), place(48.0, -52.0, 0.2)]
    weighed = refined(start, 0.1, query, land.chart, 20.0, LIKELIHOOD)
    assert weighed is not None
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((40.0, -60.0), abs=0.6)
    assert best.turn_deg == pytest.approx(turn_deg, abs=0.6)
    assert best.log_scale == pytest.approx(math.log(scale), abs=0.015)
    assert best.weight > 0.99
    assert best.correlation > 0.9


def test_without_the_true_place_the_weight_goes_to_none_of_them(land: Land) -> None:
    query = Query(land.seen(40.0, -60.0), TILE_M, LOOSE)
    elsewhere = [place(-150.0 + 50 * k, 150.0, 0.13) for k in range(7)]
    weighed = refined(elsewhere, 0.5, query, land.chart, 12.0, LIKELIHOOD)
    assert weighed is not None
    assert weighed.unexplained > max(place.weight for place in weighed.hypotheses)
    total = sum(place.weight for place in weighed.hypotheses) + weighed.unexplained
    assert total == pytest.approx(1)


def test_a_heading_against_the_compass_costs_weight(land: Land) -> None:
    query = Query(land.seen(40.0, -60.0, 18.0), TILE_M, LOOSE)
    start = [place(45.0, -55.0, 0.5), place(-150.0, 100.0, 0.5)]
    trusted = Query(query.ground, TILE_M, Attitude(0.0, 2.0, 0.0, 0.1))
    loose, strict = (
        refined(start, 0.9999, asked, land.chart, 12.0, LIKELIHOOD) for asked in (query, trusted)
    )
    assert loose is not None
    assert strict is not None
    assert strict.hypotheses[0].weight < loose.hypotheses[0].weight


def test_flat_ground_cannot_be_refined(land: Land) -> None:
    ground = land.seen(0.0, 0.0)
    ground.small[:] = 90
    query = Query(ground, TILE_M, LOOSE)
    assert not structured(query, variants_of(LOOSE, TOLERANT), land.chart)
    assert refined([place(0.0, 0.0, 0.7)], 0.3, query, land.chart, 12.0, LIKELIHOOD) is None


def test_noise_that_averages_away_is_no_structure(land: Land) -> None:
    ground = land.seen(0.0, 0.0)
    ground.small[:] = np.random.default_rng(0).normal(20, 4, ground.small.shape).clip(0, 255)
    assert not structured(Query(ground, TILE_M, LOOSE), variants_of(LOOSE, TOLERANT), land.chart)


def test_the_number_of_leaders_grows_with_the_map_and_is_bounded() -> None:
    assert candidate_count(100) == 16
    assert candidate_count(64_000) == 127
    assert candidate_count(10_000_000) == MAX_COUNT


def test_two_leaders_that_move_onto_one_place_are_one(land: Land) -> None:
    query = Query(land.seen(40.0, -60.0), TILE_M, LOOSE)
    start = [place(28.0, -60.0, 0.4), place(52.0, -60.0, 0.4), place(-150.0, 120.0, 0.1)]
    weighed = refined(start, 0.5, query, land.chart, 20.0, LIKELIHOOD)
    assert weighed is not None
    assert len(weighed.hypotheses) == 2
    assert weighed.hypotheses[0].weight > 0.99


def test_structure_that_only_a_higher_drone_would_show_is_structure(land: Land) -> None:
    """The nominal footprint is too small for a patch, that of the largest scale is not."""
    ground = land.seen(0.0, 0.0)
    wide = Query(ground, 4 * TILE_M, Attitude(0.0, 2.0, 0.0, 0.5))
    variants = variants_of(wide.attitude, TOLERANT)
    assert not structured(wide, variants[:1], land.chart)
    assert structured(wide, variants, land.chart)


def test_a_places_keystone_shows_the_tilt_of_its_frame(land: Land) -> None:
    pose = tilted(Pose(0, 40.0, -60.0, HEIGHT_M, 0.0), 6.0, 2.0)
    frame = np.ascontiguousarray(render(land.raster, CAMERA, pose)[..., ::-1])
    center = center_from_pose(CAMERA, pose)
    told = Telemetry(0, 0.0, -90.0, 0.0, HEIGHT_M)
    ground = ground_from_frame(frame, CAMERA, told, 0.8)
    assert isinstance(ground, Ground)
    query = Query(ground.grey(), TILE_M, LOOSE)
    fitted = replace(place(*center, 1.0), correlation=0.9)
    lean = lean_of(fitted, query, land.chart)
    assert lean is not None
    assert np.degrees(np.arctan(lean.seen.tangents)) == pytest.approx([2.0, 6.0], abs=0.4)
    assert lean_of(place(*center, 1.0), query, land.chart) is None  # was not aligned
    query.ground.small[:] = 90
    flat = Query(query.ground, TILE_M, LOOSE)
    assert lean_of(fitted, flat, land.chart) is None
