import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from skyfix.runtime.fuse import attitude as headings
from skyfix.runtime.fuse import everywhere
from skyfix.runtime.fuse import refine as module
from skyfix.runtime.fuse.attitude import Attitude, Tolerance, Variant, variants_of
from skyfix.runtime.fuse.belief import Belief
from skyfix.runtime.fuse.chart import Chart, Pixels
from skyfix.runtime.fuse.crowd import Crowd
from skyfix.runtime.fuse.glance import GLANCED_FROM
from skyfix.runtime.fuse.hypotheses import Weighed
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.query import Query, Shown
from skyfix.runtime.fuse.refine import lean_of, refined, shows_structure
from skyfix.runtime.fuse.scales import Scales, scales_of
from skyfix.runtime.fuse.template import shows_contrast
from skyfix.runtime.geo import Grid
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Pose, center_from_pose, render, tilted
from skyfix.runtime.types import Hypothesis, Telemetry

from .conftest import CAMERA, HEIGHT_M, Land

TILE_M = 96.0
LIKELIHOOD = Likelihood()
LOOSE = Attitude(0.0, 11.0, 0.0, 0.1)
TOLERANT = Tolerance(25.0, 0.25)


def scales_over(land: Land) -> Scales:
    return scales_of(land.chart, TILE_M)


def found_by(variant: Variant, east_m: float, north_m: float, weight: float = 0.1) -> Hypothesis:
    return Hypothesis(
        east_m, north_m, weight, 0.5, math.nan, np.eye(2), variant.turn_deg, variant.log_scale,
        variant.covariance(),
    )  # fmt: skip


def place(east_m: float, north_m: float, weight: float, attitude: Attitude = LOOSE) -> Hypothesis:
    (variant,) = variants_of(attitude, TOLERANT)
    return found_by(variant, east_m, north_m, weight)


@pytest.fixture
def only_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second look."""
    monkeypatch.setattr(module, "places_everywhere", lambda *_: [])


def refined_over(
    land: Land, places: list[Hypothesis], nowhere: float, query: Query, reach_m: float,
    leaders: list[Hypothesis] | None = None,
) -> Weighed | None:  # fmt: skip
    """Refined by a belief that holds the places' weights where they are, the rest anywhere."""
    step_m = reach_m / 1.5
    side = int(600 / step_m)
    grid = Grid(-300.0, 300.0, step_m, side, side)
    rest = max(1 - sum(place.weight for place in places), 1e-9)
    mass = np.full((side, side), rest / side**2)
    for there in places:
        row, column = grid.cell_from_en(there.east_m, there.north_m)
        mass[round(row), round(column)] += there.weight
    belief = Belief(grid, np.log(mass).astype(np.float32))
    return refined(leaders or places, belief, nowhere, query, scales_over(land), LIKELIHOOD)


@pytest.mark.parametrize(
    ("turn_deg", "scale"), [(0.0, 1.0), (17.0, 0.86), (-19.0, 1.17), (-8.0, 0.9)]
)
def test_the_true_place_wins_against_a_heavier_wrong_one_with_its_heading_and_height(
    land: Land, turn_deg: float, scale: float
) -> None:
    query = Query(Shown(land.seen(40.0, -60.0, turn_deg, scale), TILE_M), LOOSE)
    start = [place(-120.0, 90.0, 0.7), place(48.0, -52.0, 0.2)]
    weighed = refined_over(land, start, 0.1, query, reach_m=20.0)
    assert weighed is not None
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((40.0, -60.0), abs=0.6)
    assert best.turn_deg == pytest.approx(turn_deg, abs=0.6)
    assert best.log_scale == pytest.approx(math.log(scale), abs=0.015)
    assert best.weight > 0.99
    assert best.correlation > 0.9


@pytest.mark.usefixtures("only_leaders")
def test_without_the_true_place_the_weight_goes_to_none_of_them(land: Land) -> None:
    query = Query(Shown(land.seen(40.0, -60.0), TILE_M), LOOSE)
    elsewhere = [place(-150.0 + 50 * k, 150.0, 0.13) for k in range(7)]
    weighed = refined_over(land, elsewhere, 0.5, query, reach_m=12.0)
    assert weighed is not None
    assert weighed.unexplained > max(place.weight for place in weighed.hypotheses)
    total = sum(place.weight for place in weighed.hypotheses) + weighed.unexplained
    assert total == pytest.approx(1)


def test_where_no_leader_stands_out_the_true_place_is_found_without_being_one(
    land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Query(Shown(land.seen(40.0, -60.0, 12.0), TILE_M), LOOSE)
    elsewhere = [place(-150.0 + 50 * k, 150.0, 0.13) for k in range(7)]
    found = refined_over(land, elsewhere, 0.5, query, reach_m=12.0)
    assert found is not None
    best = found.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((40.0, -60.0), abs=0.6)
    assert best.turn_deg == pytest.approx(12.0, abs=0.6)
    monkeypatch.setattr(everywhere, "MOST_LEADERS", 20)  # and the window holds 600
    bounded = refined_over(land, elsewhere, 0.5, query, reach_m=12.0)
    assert bounded is not None
    assert all(math.hypot(p.east_m - 40, p.north_m + 60) > 60 for p in bounded.hypotheses)


def test_a_heavy_place_that_only_the_second_look_finds_is_weighed_against_nowhere(
    land: Land,
) -> None:
    doubtful = Query(
        Shown(land.seen(40.0, -60.0), TILE_M), LOOSE, crowd=Crowd(1.0, 50_000, lasting=1.0)
    )
    heavy, thin = place(40.0, -60.0, 0.7), place(100.0, -150.0, 0.001)
    first, second = (
        refined_over(land, [heavy, thin], 0.5, doubtful, reach_m=12.0, leaders=leaders)
        for leaders in ([heavy, thin], [thin])
    )
    assert first is not None
    assert second is not None
    assert first.unexplained > 0.2
    assert second.unexplained == pytest.approx(first.unexplained, rel=0.2)


def test_what_a_wide_look_has_shown_of_wrong_places_is_held_against_a_lone_one(land: Land) -> None:
    query = Query(Shown(land.seen(40.0, -60.0), TILE_M), LOOSE)
    start = [place(45.0, -55.0, 0.9)]
    lone, crowded = (
        refined_over(land, start, 0.5, replace(query, crowd=crowd), reach_m=12.0)
        for crowd in (Crowd(), Crowd(0.8, 500, lasting=1.0))
    )
    assert lone is not None
    assert crowded is not None
    assert crowded.evidence < lone.evidence


def test_a_leader_that_stands_out_is_not_looked_for_elsewhere(
    land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> list[Hypothesis]:
        pytest.fail("a second look")

    monkeypatch.setattr(module, "places_everywhere", never)
    query = Query(Shown(land.seen(40.0, -60.0), TILE_M), LOOSE)
    start = [place(45.0, -55.0, 0.3), place(-120.0, 90.0, 0.3)]
    found = refined_over(land, start, 0.1, query, reach_m=20.0)
    assert found is not None
    assert found.hypotheses[0].weight > 0.99


def test_a_heading_against_the_compass_costs_weight(land: Land) -> None:
    query = Query(Shown(land.seen(40.0, -60.0, 18.0), TILE_M), LOOSE)
    start = [place(45.0, -55.0, 0.5), place(-150.0, 100.0, 0.5)]
    trusted = Query(Shown(query.shown.ground, TILE_M), Attitude(0.0, 2.0, 0.0, 0.1))
    loose, strict = (
        refined_over(land, start, 0.9999, asked, reach_m=12.0) for asked in (query, trusted)
    )
    assert loose is not None
    assert strict is not None
    assert strict.hypotheses[0].weight < loose.hypotheses[0].weight


def test_flat_ground_cannot_be_refined(land: Land) -> None:
    ground = land.seen(0.0, 0.0)
    ground.small[:] = 90
    query = Query(Shown(ground, TILE_M), LOOSE)
    assert not shows_structure(query, variants_of(LOOSE, TOLERANT), scales_over(land))
    assert refined_over(land, [place(0.0, 0.0, 0.7)], 0.3, query, reach_m=12.0) is None


def test_noise_that_averages_away_is_no_structure(land: Land) -> None:
    ground = land.seen(0.0, 0.0)
    ground.small[:] = np.random.default_rng(0).normal(20, 4, ground.small.shape).clip(0, 255)
    assert not shows_structure(
        Query(Shown(ground, TILE_M), LOOSE), variants_of(LOOSE, TOLERANT), scales_over(land)
    )


@pytest.mark.parametrize(
    ("overview_m", "gsd_m", "side_px"),
    [
        (0.3, (9.6, 4.8, 1.2), (10, 20, 80)),  # 4 pixels to one, 4 of those, and 2 of these
        (0.45, (10.8, 5.4, 1.35), (9, 18, 71)),  # 2.7 to one are 3, of which 3.6 are 4
        (1.0, (10.0, 5.0, 1.0), (10, 19, 96)),  # 1.2 to one are one
        (3.0, (12.0, 6.0, 3.0), (8, 16, 32)),  # coarser than wanted but for the sweep
        (7.0, (7.0, 7.0, 7.0), (14, 14, 14)),
        (40.0, (40.0, 40.0, 40.0), (8, 8, 8)),  # no less than can be correlated
    ],
)
def test_the_scales_are_whole_overview_pixels_near_what_is_wanted_and_never_finer(
    overview_m: float, gsd_m: tuple[float, ...], side_px: tuple[int, ...]
) -> None:
    def blank(_west_m: float, _north_m: float, size: tuple[int, int]) -> Pixels:
        return np.zeros(size, np.uint8), np.ones(size, bool)

    chart = Chart(blank, -50.0, 70.0, overview_m)
    found = scales_of(chart, TILE_M)
    scales = (found.rough, found.coarse, found.fine)
    assert tuple(scale.gsd_m for scale in scales) == pytest.approx(gsd_m)
    assert tuple(scale.side_px for scale in scales) == side_px
    assert all((scale.chart.west_m, scale.chart.north_m) == (-50.0, 70.0) for scale in scales)


def test_a_haze_that_grows_brighter_across_the_frame_is_no_structure(land: Land) -> None:
    haze = np.repeat(np.linspace(60, 220, 160).astype(np.uint8)[None, :, None], 160, axis=0)
    frame = np.ascontiguousarray(np.repeat(haze, 3, axis=2))
    ground = ground_from_frame(frame, CAMERA, Telemetry(0, 0.0, -90.0, 0.0, 400.0), 0.8)
    assert isinstance(ground, Ground)
    ground = ground.grey()
    coarse = scales_over(land).coarse
    assert shows_contrast(ground.coarser(coarse.gsd_m), coarse.side_px, coarse.gsd_m, 0.0, 0.0)
    assert not shows_structure(
        Query(Shown(ground, TILE_M), LOOSE), variants_of(LOOSE, TOLERANT), scales_over(land)
    )


def test_two_leaders_that_move_onto_one_place_are_one(land: Land) -> None:
    query = Query(Shown(land.seen(40.0, -60.0), TILE_M), LOOSE)
    start = [place(28.0, -60.0, 0.4), place(52.0, -60.0, 0.4), place(-150.0, 120.0, 0.1)]
    weighed = refined_over(land, start, 0.5, query, reach_m=20.0)
    assert weighed is not None
    (found,) = weighed.hypotheses
    assert (found.east_m, found.north_m) == pytest.approx((40.0, -60.0), abs=0.5)
    assert found.weight > 0.99


def test_structure_that_only_a_higher_drone_would_show_is_structure(land: Land) -> None:
    """The nominal footprint is too small for a patch, that of the largest scale is not."""
    ground = land.seen(0.0, 0.0)
    wide = Query(Shown(ground, 4 * TILE_M), Attitude(0.0, 2.0, 0.0, 0.5))
    variants = variants_of(wide.attitude, TOLERANT)
    scales = scales_of(land.chart, wide.shown.tile_m)
    assert not shows_structure(wide, variants[:1], scales)
    assert shows_structure(wide, variants, scales)


@pytest.mark.usefixtures("only_leaders")
def test_a_place_is_the_best_of_all_that_a_glance_has_chosen_from(land: Land) -> None:
    query = Query(Shown(land.seen(40.0, -60.0), TILE_M), LOOSE)
    steps = np.arange(-14, 15)
    start = [place(40.0 + 15 * i, -60.0 + 15 * j, 0.001) for i in steps for j in steps]
    assert len(start) > GLANCED_FROM
    found = refined_over(land, start, 0.5, query, reach_m=12.0)
    assert found is not None
    assert found.looked_at == len(start)
    best = found.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((40.0, -60.0), abs=1.5)


def test_a_places_keystone_shows_the_tilt_of_its_frame(land: Land) -> None:
    pose = tilted(Pose(0, 40.0, -60.0, HEIGHT_M, 0.0), 6.0, 2.0)
    frame = np.ascontiguousarray(render(land.raster, CAMERA, pose)[..., ::-1])
    center = center_from_pose(CAMERA, pose)
    told = Telemetry(0, 0.0, -90.0, 0.0, HEIGHT_M)
    ground = ground_from_frame(frame, CAMERA, told, 0.8)
    assert isinstance(ground, Ground)
    query = Query(Shown(ground.grey(), TILE_M), LOOSE)
    fitted = replace(place(*center, 1.0), correlation=0.9)
    lean = lean_of(fitted, query, scales_over(land))
    assert lean is not None
    assert np.degrees(np.arctan(lean.seen.tangents)) == pytest.approx([2.0, 6.0], abs=0.4)
    assert lean_of(place(*center, 1.0), query, scales_over(land)) is None  # was not aligned
    query.shown.ground.small[:] = 90
    flat = Query(Shown(query.shown.ground, TILE_M), LOOSE)
    assert lean_of(fitted, flat, scales_over(land)) is None


BOLD = Attitude(0.0, 5.0, 0.0, 0.03)  # believes in heights up to 5 % off
AROUND = [(-140.0, 140.0), (0.0, 140.0), (140.0, 140.0), (140.0, 0.0), (140.0, -140.0),
          (0.0, -140.0), (-140.0, -140.0), (-140.0, 0.0)]  # fmt: skip


def with_lookalikes(land: Land, turn_deg: float, scale: float) -> Land:
    """Around the origin, the ground there again, faint, turned and scaled like a wrong view."""
    width = 130
    grey = land.raster.image[..., 0]
    half = (width - 1) / 2
    to_pixel = np.array(cv2.getRotationMatrix2D((half, half), -turn_deg, scale), np.float64)
    to_pixel[:, 2] += 299.5 - half
    copied = cv2.warpAffine(
        grey, to_pixel, (width, width), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    image = grey.copy()
    for east, north in AROUND:
        top, left = (round(300 + at) - width // 2 for at in (-north, east))
        there = (slice(top, top + width), slice(left, left + width))
        image[there] = 0.7 * copied + 0.3 * grey[there]
    return Land(replace(land.raster, image=np.repeat(image[..., None], 3, axis=2)))


@pytest.mark.usefixtures("only_leaders")
@pytest.mark.parametrize("scale", [1.155, 0.86])
def test_a_height_a_tenth_beyond_those_believed_is_climbed_to_past_lookalikes(
    land: Land, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep ends at 5 %, where the ground around looks more like the frame than its own."""
    land = with_lookalikes(land, 0.0, scale)
    query = Query(Shown(land.seen(0.0, 0.0, 3.0, scale), TILE_M), BOLD)
    start = [place(east + 5, north - 6, 0.1, BOLD) for east, north in [(0.0, 0.0), *AROUND[:-1]]]
    weighed = refined_over(land, start, 0.1, query, reach_m=12.0)
    assert weighed is not None
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((0.0, 0.0), abs=0.6)
    assert best.turn_deg == pytest.approx(3.0, abs=0.6)
    assert best.log_scale == pytest.approx(math.log(scale), abs=0.015)
    assert best.correlation > 0.95
    monkeypatch.setattr(module, "climbed", lambda swept, *_: swept)
    monkeypatch.setattr(module, "ALIGNED_COUNT", 6)  # fewer than there are
    unclimbed = refined_over(land, start, 0.1, query, reach_m=12.0)
    assert unclimbed is not None
    assert all(math.hypot(p.east_m, p.north_m) > 100 for p in unclimbed.hypotheses)


@pytest.mark.usefixtures("only_leaders")
@pytest.mark.parametrize("share", [1.2, -1.2])
def test_a_place_is_found_though_it_looked_more_like_the_variant_beside_its_own(
    land: Land, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Attitude(0.0, math.inf, 0.0, 0.05)
    variant = variants_of(unknown, TOLERANT)[1]
    assert (variant.turn_deg, variant.half_turn_deg) == (-72.0, 36.0)
    land = with_lookalikes(land, share * 36, 1.0)
    query = Query(Shown(land.seen(0.0, 0.0, -72.0 + share * 36), TILE_M), unknown)
    start = [found_by(variant, east + 5, north - 6) for east, north in [(0.0, 0.0), *AROUND]]
    weighed = refined_over(land, start, 0.1, query, reach_m=12.0)
    assert weighed is not None
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((0.0, 0.0), abs=0.6)
    assert best.turn_deg == pytest.approx(-72.0 + share * 36, abs=0.6)
    assert best.weight > 0.9
    monkeypatch.setattr(headings, "SWEEP_SPAN", 1.0)
    narrow = refined_over(land, start, 0.1, query, reach_m=12.0)
    assert narrow is not None
    assert all(math.hypot(p.east_m, p.north_m) > 100 for p in narrow.hypotheses)


def test_places_of_several_variants_are_swept_each_around_its_own_heading(land: Land) -> None:
    unknown = Attitude(0.0, math.inf, 0.0, 0.05)
    first, second, third, *_ = variants_of(unknown, TOLERANT)
    query = Query(Shown(land.seen(40.0, -60.0, second.turn_deg + 20), TILE_M), unknown)
    start = [
        found_by(first, -140.0, 90.0), found_by(third, 60.0, 140.0), found_by(second, 45.0, -55.0),
        found_by(first, 140.0, 60.0),
    ]  # fmt: skip
    weighed = refined_over(land, start, 0.1, query, reach_m=12.0)
    assert weighed is not None
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((40.0, -60.0), abs=0.6)
    assert best.turn_deg == pytest.approx(second.turn_deg + 20, abs=0.6)
    assert best.weight > 0.99
