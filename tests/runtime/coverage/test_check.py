"""The mission check over planted ground, and against what the localizer makes of real frames."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyfix.runtime.coverage.check import Flying, Kind, Outlook, outlook, places_on
from skyfix.runtime.coverage.mission import mission_from_route, sweep_grid
from skyfix.runtime.coverage.report import longest_gap_m, report_from_outlook, worst_places
from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.simulator import Conditions, Pose, Simulator

CAMERA = Camera(160, 120, np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]]), np.zeros(0))
FLYING = Flying(speed_mps=8.0, interval_s=1.0)
LIKELIHOOD = Likelihood()
FAR_M = 170.0  # from the middle to that of each planted block of 140 m, either way
COPIED, COPY, BARE, PLAIN = (-FAR_M, FAR_M), (FAR_M, -FAR_M), (FAR_M, FAR_M), (-FAR_M, -FAR_M)
ELSEWHERE = (1000.0, 0.0)
GAP = [Kind.LOCALISABLE, Kind.BARE, Kind.AMBIGUOUS, Kind.LOCALISABLE, Kind.OUTSIDE]


@pytest.fixture(scope="module")
def pack(planted_pack: Path) -> TilePack:
    return TilePack.open(planted_pack, model_id=None)


@pytest.fixture(scope="module")
def at_planted(pack: TilePack) -> Outlook:
    points = np.array([COPIED, COPY, BARE, PLAIN, ELSEWHERE])
    return outlook(pack, places_on(pack, points), FLYING, LIKELIHOOD)


def test_each_planted_ground_is_named(at_planted: Outlook) -> None:
    assert at_planted.kind == [
        Kind.AMBIGUOUS, Kind.AMBIGUOUS, Kind.BARE, Kind.LOCALISABLE, Kind.OUTSIDE,
    ]  # fmt: skip


def test_the_look_alike_of_copied_ground_is_its_copy(pack: TilePack, at_planted: Outlook) -> None:
    """The block's middle stands again in the copy's middle."""
    report = report_from_outlook(pack, at_planted, FLYING, None)
    for here, there in ((0, 1), (1, 0)):
        place, copy = report.places[here], report.places[there]
        assert place.alike_distance_m == pytest.approx(2 * FAR_M * math.sqrt(2), abs=15)
        assert place.alike_lat_deg == pytest.approx(copy.lat_deg, abs=1e-4)
        assert place.alike_lon_deg == pytest.approx(copy.lon_deg, abs=1.5e-4)


def test_a_lost_start_is_quick_on_plain_ground_and_endless_over_a_copy(at_planted: Outlook) -> None:
    median_s = np.median(at_planted.first_fix_s, axis=1)
    assert median_s[3] <= 2
    assert median_s[0] > 20 * max(median_s[3], 1)
    assert np.isinf(median_s[4])


def test_the_distance_to_the_edge_is_that_of_the_grid(pack: TilePack, at_planted: Outlook) -> None:
    """Half a tile may hang over the map's edge, so the last centres lie on it."""
    edge_m = 240.0 - FAR_M
    np.testing.assert_allclose(at_planted.places.edge_m[:4], edge_m, atol=1.1 * pack.grid.step_m)
    assert at_planted.places.edge_m[4] == 0


def test_a_flight_from_copied_ground_is_found_once_it_has_left_it(pack: TilePack) -> None:
    """The route leads south, out of the copied block and over plain ground."""
    points = np.stack([np.full(41, -FAR_M), np.linspace(FAR_M, -FAR_M, 41)], axis=1)
    found = outlook(pack, places_on(pack, points), FLYING, LIKELIHOOD, 2 * FAR_M)
    first_s = np.median(found.first_fix_s, axis=1)
    out_of_sight_s = (70 + 16) / FLYING.speed_mps  # the block's edge, and the tile's half
    assert 0.3 * out_of_sight_s < first_s[0] < 2 * out_of_sight_s
    assert first_s[-1] <= 2


def test_the_longest_gap_counts_what_is_not_localisable() -> None:
    """Five places on 400 m are 100 m apart; two in a row hold 200 m."""
    assert longest_gap_m(GAP, 400.0) == 200.0
    assert longest_gap_m([Kind.LOCALISABLE] * 5, 400.0) == 0.0
    assert longest_gap_m([Kind.BARE] * 5, 400.0) == 400.0


def test_worst_places_are_apart_and_none_is_good(pack: TilePack) -> None:
    mission = mission_from_route(pack, None, FLYING, LIKELIHOOD, False, lambda _done, _total: None)
    assert mission.sweep is not None
    worst = worst_places(mission.sweep)
    assert len(worst) == 5
    assert all(mission.sweep.kind[place] in {Kind.AMBIGUOUS, Kind.BARE} for place in worst)
    points = mission.sweep.places.en_m[worst]
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    assert apart[~np.eye(5, dtype=bool)].min() > 50


def test_the_same_question_has_the_same_answer(pack: TilePack, at_planted: Outlook) -> None:
    again = outlook(pack, at_planted.places, FLYING, LIKELIHOOD)
    np.testing.assert_array_equal(again.chance, at_planted.chance)
    np.testing.assert_array_equal(again.first_fix_s, at_planted.first_fix_s)


def test_a_sweep_covers_the_area_and_is_no_finer_than_the_map() -> None:
    grid = sweep_grid((-1000.0, -500.0, 1000.0, 500.0), 10.0)
    assert 120 < grid.size <= 150
    assert grid.east_m - grid.step_m / 2 >= -1000
    assert grid.east_m + (grid.columns - 0.5) * grid.step_m == pytest.approx(1000, abs=grid.step_m)
    assert sweep_grid((0.0, 0.0, 100.0, 50.0), 10.0).step_m == 10.0


def test_real_frames_are_found_where_it_was_foretold_and_not_where_it_was_not(
    pack: TilePack, planted_land: Raster, tiny_model: Model
) -> None:
    """Single lost frames over each ground; those on copied ground would be right by chance."""
    rng = np.random.default_rng(11)
    poses = [
        Pose(
            number,
            middle[0] + rng.uniform(-40, 40),
            middle[1] + rng.uniform(-40, 40),
            50.0,
            rng.uniform(-180, 180),
        )
        for middle in (COPIED, BARE, PLAIN)
        for number in range(15)
    ]
    localizer = Localizer(pack, tiny_model, CAMERA, LocalizerSettings(independent=True))
    conditions = Conditions(appearance=0.8, tilt_std_deg=3.0)
    flight = list(Simulator(planted_land, CAMERA, conditions, 3).fly(poses))
    places = places_on(pack, np.array([sight.center_en_m for sight in flight]))
    foretold = outlook(pack, places, FLYING, LIKELIHOOD)
    found = []
    for sight in flight:
        fix = localizer.step(replace(sight.frame), sight.telemetry)
        known = fix.reason is None and fix.center_lat_deg is not None
        east, north = pack.frame.en_from_wgs84(
            fix.center_lat_deg if fix.center_lat_deg is not None else math.nan,
            fix.center_lon_deg if fix.center_lon_deg is not None else math.nan,
        )
        off_m = np.hypot(east - sight.center_en_m[0], north - sight.center_en_m[1])
        found.append(known and off_m < 10)
    share = np.array(found).reshape(3, 15).mean(axis=1)
    chance = foretold.chance.reshape(3, 15).mean(axis=1)
    np.testing.assert_allclose(chance, share, atol=0.35)  # the constants are of another model
    assert share[2] > 0.8
    assert max(share[:2]) < 0.3
