import math
from dataclasses import replace

import numpy as np
import pytest

from skyfix.runtime.fuse.align import aligned, pose_of
from skyfix.runtime.fuse.climb import ITERATIONS, MARGIN_PX, MAX_CLIMB_PX, climbed
from skyfix.runtime.fuse.scales import Scale, scales_of
from skyfix.runtime.fuse.structure import NONE
from skyfix.runtime.fuse.template import Cuts
from skyfix.runtime.types import Hypothesis

from .conftest import TILE_M, Land

PLACE = (40.0, -60.0)


def coarse(land: Land) -> Scale:
    return scales_of(land.chart, TILE_M).coarse


def cuts_at(land: Land, turn_deg: float = 0.0, scale: float = 1.0) -> Cuts:
    on_map = coarse(land)
    shown = land.shown(*PLACE, turn_deg, scale).coarser(on_map.gsd_m)
    return Cuts(shown, on_map.side_px, on_map.gsd_m)


def swept(
    east_m: float, north_m: float, turn_deg: float = 0.0, log_scale: float = 0.0,
    correlation: float = -1.0,
) -> Hypothesis:  # fmt: skip
    return Hypothesis(
        east_m, north_m, 0.1, 0.5, correlation, np.eye(2), turn_deg, log_scale, np.eye(2)
    )


def test_every_place_climbs_as_far_as_alone(land: Land) -> None:
    """The same steps one by one (align.py), over places of many attitudes at once."""
    scale, cuts = coarse(land), cuts_at(land, 12.0, 1.06)
    rng = np.random.default_rng(0)
    places = [
        swept(
            PLACE[0] + rng.uniform(-8, 8), PLACE[1] + rng.uniform(-8, 8),
            float(rng.choice([8.0, 12.0, 16.0])), float(rng.choice([0.0, 0.08])),
        )
        for _ in range(30)
    ] + [swept(*rng.uniform(-250, 250, 2)) for _ in range(10)]  # fmt: skip
    moved = 0
    for place, found in zip(places, climbed(places, cuts, scale), strict=True):
        template = cuts.at(place.turn_deg, place.log_scale)
        assert template is not None
        window = scale.around(place, MARGIN_PX)
        alone = aligned(window, template, pose_of(place), ITERATIONS)
        away_m = math.hypot(alone.pose.east_m - place.east_m, alone.pose.north_m - place.north_m)
        if away_m > MAX_CLIMB_PX * scale.gsd_m:
            assert found is place
            continue
        moved += 1
        assert found.correlation == pytest.approx(alone.correlation, abs=2e-3)
        assert (found.east_m, found.north_m) == pytest.approx(
            (alone.pose.east_m, alone.pose.north_m), abs=0.05 * scale.gsd_m
        )
        assert found.turn_deg == pytest.approx(alone.pose.turn_deg, abs=0.2)
        assert found.log_scale == pytest.approx(alone.pose.log_scale, abs=0.005)
        assert np.allclose(found.cov_en_m2, alone.cov[:2, :2], rtol=0.05)
    assert moved > 20


def test_a_place_that_already_fits_better_stays(land: Land) -> None:
    place = swept(*PLACE, correlation=1.0)
    assert climbed([place], cuts_at(land), coarse(land)) == [place]


def test_without_structure_nobody_climbs(land: Land) -> None:
    cuts = cuts_at(land)
    ground = replace(cuts.ground, small=np.full_like(cuts.ground.small, NONE))
    flat = Cuts(ground, cuts.side_px, cuts.gsd_m)
    places = [swept(*PLACE), swept(0.0, 0.0, 30.0)]
    assert climbed(places, flat, coarse(land)) == places


def test_the_order_of_the_places_is_kept(land: Land) -> None:
    scale, cuts = coarse(land), cuts_at(land)
    east = [PLACE[0] + 3.0 * k for k in range(-2, 3)]
    together = climbed([swept(at, PLACE[1]) for at in east], cuts, scale)
    for at, found in zip(east, together, strict=True):
        (alone,) = climbed([swept(at, PLACE[1])], cuts, scale)
        assert found.east_m == pytest.approx(alone.east_m, abs=1e-3)
