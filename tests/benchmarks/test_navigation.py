"""What navigation.py measures with: its errors, its large maps, its scores, its nowhere."""

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.pack import read_manifest
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.sense.telemetry import TelemetryRow
from skyfix.runtime.truth import Truth
from skyfix.runtime.types import Reason, Status, Telemetry

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FRAME = LocalFrame(24.26, 120.72)
MODULES = (
    "bench", "noise", "land", "scores", "still", "flights", "wrong", "results", "floors", "tables",
)  # fmt: skip


@pytest.fixture(scope="module")
def nav() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules by their last name; scripts find each other by their folder."""
    sys.path.insert(0, str(BENCHMARKS))
    found = {name: importlib.import_module(f"navigation_{name}") for name in MODULES}
    yield {**found, "main": importlib.import_module("navigation")}
    sys.path.remove(str(BENCHMARKS))


def rows(count: int, yaw_deg: float = 170.0, height_m: float = 100.0) -> list[TelemetryRow]:
    return [
        TelemetryRow(str(index), index, Telemetry(index, yaw_deg, -90.0, 0.0, height_m))
        for index in range(count)
    ]


def fix(
    number: int, *, off_m: tuple[float, float] | None = (0.0, 0.0), std_m: float = 5.0,
    status: Status = Status.TRACKING, latency_ms: float = 10.0, reason: Reason | None = None,
) -> FixMessage:  # fmt: skip
    """A fix of frame `number`, which is truly at the frame's origin, one every two seconds."""
    lat, lon = (None, None) if off_m is None else map(float, FRAME.wgs84_from_en(*off_m))
    covariance = None if off_m is None else ((std_m**2, 0.0), (0.0, std_m**2))
    return FixMessage(
        session="", sequence=number, frame=str(number), time_ns=number * 2_000_000_000,
        utc_ns=None, status=status, reason=reason, lat_deg=lat, lon_deg=lon,
        cov_en_m2=covariance, std_m=None, center_lat_deg=lat, center_lon_deg=lon,
        center_cov_en_m2=covariance, score=None, margin=None, match_age_ms=None,
        reset_counter=0, latency_ms=latency_ms, stages_ms={}, model_id="", pack_id="",
    )  # fmt: skip


def truth_at_origin(count: int) -> dict[str, Truth]:
    place = Truth(
        tuple(map(str, range(count))), np.full(count, FRAME.lat_deg),
        np.full(count, FRAME.lon_deg), np.zeros(count),
    )  # fmt: skip
    return {"drone": place, "center": place}


def test_errors_are_uniform_within_their_bounds_and_state_their_deviation(
    nav: dict[str, ModuleType],
) -> None:
    told = nav["noise"].with_errors(rows(4000), nav["noise"].WITHIN_20, seed=1)
    yaw = np.array([row.telemetry.yaw_deg for row in told])
    error_deg = (yaw - 170 + 180) % 360 - 180
    height = np.array([row.telemetry.height_agl_m for row in told]) / 100 - 1
    assert (np.abs(yaw) <= 180).all()
    for error, half in ((error_deg, 20.0), (height, 0.2)):
        assert 0.99 * half < np.abs(error).max() <= half + 1e-9
        counts = np.histogram(error, 8, (-half, half))[0]
        assert (abs(counts - 500) < 5 * math.sqrt(500)).all()
    drawn = np.array([error_deg.std(), height.std()])
    for own in ((1e-6, 1e-6), (3.0, 0.08), (12.0, 0.2)):  # of the recording's own telemetry
        recorded = Telemetry(0, 0.0, -90.0, 0.0, 100.0, yaw_std_deg=own[0], height_std=own[1])
        row = TelemetryRow("0", 0, recorded)
        (stated,) = nav["noise"].with_errors([row], nav["noise"].WITHIN_20, seed=1)
        both = np.sqrt(drawn**2 + np.square(own))  # errors that know nothing of one another
        assert stated.telemetry.yaw_std_deg == pytest.approx(both[0], rel=0.03)
        assert stated.telemetry.height_std == pytest.approx(both[1], rel=0.03)


def test_a_heading_that_no_compass_told_stays_unknown(nav: dict[str, ModuleType]) -> None:
    unknown = Telemetry(0, 0.0, -90.0, 0.0, 100.0, yaw_std_deg=math.inf)
    (row,) = nav["noise"].with_errors(
        [TelemetryRow("0", 0, unknown)], nav["noise"].WITHIN_20, seed=1
    )
    assert math.isinf(row.telemetry.yaw_std_deg)


def test_the_same_seed_draws_the_same_errors_and_another_others(
    nav: dict[str, ModuleType],
) -> None:
    noise = nav["noise"]
    first, again, other = (noise.with_errors(rows(5), noise.WITHIN_20, seed) for seed in (3, 3, 4))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_an_unknown_heading_is_any_heading_and_is_stated_as_unknown(
    nav: dict[str, ModuleType],
) -> None:
    told = nav["noise"].with_errors(rows(2000), nav["noise"].UNKNOWN, seed=0)
    assert all(math.isinf(row.telemetry.yaw_std_deg) for row in told)
    counts = np.histogram([row.telemetry.yaw_deg for row in told], 8, (-180, 180))[0]
    assert (abs(counts - 250) < 5 * math.sqrt(250)).all()


def test_one_error_a_flight_moves_all_its_frames_alike(nav: dict[str, ModuleType]) -> None:
    told = nav["noise"].with_errors(rows(9), nav["noise"].CONSTANT_20, seed=2)
    assert len({(row.telemetry.yaw_deg, row.telemetry.height_agl_m) for row in told}) == 1
    assert told[0].telemetry.height_agl_m != 100.0


def test_exact_telemetry_stays_as_it_was_recorded(nav: dict[str, ModuleType]) -> None:
    before = [*rows(3), TelemetryRow("lost", 9, None)]
    assert list(nav["noise"].with_errors(before, nav["noise"].EXACT, seed=7)) == before


@pytest.fixture
def small_land(nav: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """2 x 2 blocks of 60 m, so that drawing takes no time."""
    monkeypatch.setattr(nav["land"], "BLOCK_M", 60.0)
    return nav["land"].DrawnLand(tmp_path, FRAME, 0, 2, 1.0, -70.0, 50.0)


def test_a_map_set_into_drawn_land_keeps_its_coordinates(
    nav: dict[str, ModuleType], small_land: Any
) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[4, 7] = (255, 1, 2)  # 7.5 m east and 4.5 m south of the corner
    inner = Raster(image, np.ones((20, 20), bool), FRAME, -10.0, 10.0, 1.0)
    window = nav["land"].Inset(small_land, [(inner, (0.0, 0.0))]).read(-30.0, 30.0, (60, 60), 1.0)
    assert np.argwhere((window.image == (255, 1, 2)).all(axis=2)).tolist() == [[24, 27]]
    outside = np.ones((60, 60), bool)
    outside[20:40, 20:40] = False
    plain = small_land.read(-30.0, 30.0, (60, 60), 1.0)
    assert (window.image[outside] == plain.image[outside]).all()
    moved = nav["land"].Inset(small_land, [(inner, (5.0, -3.0))])
    again = moved.read(-30.0, 30.0, (60, 60), 1.0)
    assert np.argwhere((again.image == (255, 1, 2)).all(axis=2)).tolist() == [[27, 32]]


@pytest.mark.real
def test_fengyuan_lies_in_the_large_map_where_it_lies_alone(
    nav: dict[str, ModuleType], shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land = nav["land"]
    monkeypatch.setattr(
        land, "town_and_country",
        lambda _seed, width, height, gsd_m, frame: Raster(
            np.full((round(height / gsd_m), round(width / gsd_m), 3), 77, np.uint8),
            np.ones((1, 1), bool), frame, 0.0, 0.0, gsd_m,
        ),
    )  # fmt: skip
    large = land.large_map(shared_data, tmp_path, 0, 1)
    alone = open_raster(shared_data / "fengyuan" / "map.tif").reader
    there = large.read(-100.0, 120.0, (80, 90), 1.25)
    assert large.frame == alone.frame
    assert (there.image == alone.read(-100.0, 120.0, (80, 90), 1.25).image).all()
    assert (large.read(900.0, -900.0, (20, 20), 1.25).image == 77).all()


def test_land_is_drawn_once_and_only_where_it_is_looked_at(
    nav: dict[str, ModuleType], small_land: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_land.read(-65.0, 45.0, (30, 30), 1.0).image
    assert small_land._is_drawn.tolist() == [[1, 0], [0, 0]]
    monkeypatch.delattr(nav["land"], "town_and_country")  # a second drawing would fail
    opened = nav["land"].DrawnLand(small_land.folder, FRAME, 0, 2, 1.0, -70.0, 50.0)
    assert (opened.read(-65.0, 45.0, (30, 30), 1.0).image == first).all()
    with pytest.raises(NameError):
        opened.read(-20.0, 45.0, (30, 30), 1.0)


def test_a_window_across_blocks_shows_each_where_it_is(small_land: Any) -> None:
    whole = small_land.read(-70.0, 50.0, (120, 120), 1.0).image
    across = small_land.read(-25.0, 5.0, (30, 30), 1.0).image
    assert (across == whole[45:75, 45:75]).all()
    assert small_land._is_drawn.all()


def test_the_first_fix_is_timed_in_seconds_of_flight(nav: dict[str, ModuleType]) -> None:
    searching = [fix(number, off_m=None, status=Status.SEARCHING) for number in range(3)]
    fixes = [*searching, fix(3, off_m=(30.0, 40.0)), fix(4)]
    start = nav["scores"].first_position(fixes, truth_at_origin(5))
    assert (start.seconds, start.frames) == (6.0, 4)
    assert start.error_m == pytest.approx(50.0, abs=1e-3)
    assert nav["scores"].first_position(searching, truth_at_origin(5)).seconds is None


def test_a_lost_start_that_ends_at_the_wrong_place_or_too_late_is_not_found(
    nav: dict[str, ModuleType],
) -> None:
    start = nav["scores"].Start
    ended = [start(10.0, 6, 4.0), start(10.0, 6, 400.0), start(70.0, 36, 4.0)]
    starts = [*ended, start(None, 61, None)]
    assert nav["scores"].found_percent(starts, 60.0, 25.0) == 25.0


def test_a_frame_costs_what_the_state_before_it_made_it_search(
    nav: dict[str, ModuleType],
) -> None:
    fixes = [
        fix(0, off_m=None, status=Status.SEARCHING, latency_ms=100.0),
        fix(1, status=Status.TRACKING, latency_ms=200.0),
        fix(2, status=Status.TRACKING, latency_ms=10.0),
        fix(3, off_m=None, status=Status.LOST, latency_ms=20.0),
        fix(4, off_m=None, status=Status.LOST, latency_ms=300.0),
    ]  # fmt: skip
    tracking, lost = nav["scores"].times_by_state(fixes)
    assert (tracking.frames, tracking.median_ms) == (2, 15.0)
    assert (lost.frames, lost.median_ms) == (3, 200.0)


def test_a_flight_is_scored_from_its_first_fix_on(nav: dict[str, ModuleType]) -> None:
    fixes = [
        fix(0, off_m=None), fix(1, off_m=(3.0, 4.0)), fix(2, off_m=(0.0, 30.0)),
        fix(3, off_m=(30.0, 0.0), std_m=20.0), fix(4, off_m=(0.0, 5.0)),
    ]  # fmt: skip
    later = nav["scores"].flight_result(fixes, truth_at_origin(5)).later
    assert (later.frames, later.within_25_m_percent, later.false_fixes) == (4, 50.0, 1)


def test_every_position_over_no_place_is_false(nav: dict[str, ModuleType]) -> None:
    blank = [fix(number, off_m=None, reason=Reason.BLANK) for number in range(4)]
    claims = nav["scores"].claims_of([*blank, fix(4)])
    assert (claims.frames, claims.positions) == (5, 1)
    assert claims.reasons == {"blank": 4, "none": 1}


def test_pooled_runs_keep_each_frame_beside_its_own_truth(nav: dict[str, ModuleType]) -> None:
    runs = [[fix(0), fix(1, off_m=(0.0, 100.0))], [fix(0, off_m=(0.0, 30.0)), fix(1)]]
    scores = nav["scores"]
    pooled = scores.score_flight(
        scores.pooled_fixes(runs), scores.pooled_truths([truth_at_origin(2)] * 2)
    )
    center = pooled.center.all_frames
    assert (center.frames, center.within_25_m_percent, center.within_50_m_percent) == (4, 50, 75)


def test_the_sweep_reaches_the_true_height_from_every_told_one(
    nav: dict[str, ModuleType],
) -> None:
    """Told heights are true ones times 0.8 .. 1.2; the sweep multiplies them back."""
    spectra = type("Spectra", (), {"gsd_m": 2.0})()
    single, swept = nav["still"].sweeps_under(nav["noise"].WITHIN_20, spectra)
    assert (single[1], single[2]) == ((0.0,), (1.0,))
    _, headings, scales = swept
    assert (len(headings), min(headings), max(headings)) == (9, -20.0, 20.0)
    told = np.random.default_rng(0).uniform(0.8, 1.2, 200)
    off = np.abs(np.log(np.outer(told, scales))).min(axis=1)
    assert off.max() < 0.07  # half a step of the sweep
    _, around, _ = nav["still"].sweeps_under(nav["noise"].UNKNOWN, spectra)[1]
    assert (len(around), np.diff(around).tolist()) == (45, [8.0] * 44)


def test_halves_of_the_video_share_no_frame(nav: dict[str, ModuleType]) -> None:
    from skyfix.runtime.replay import Recording

    video = Recording("video.mp4", tuple(rows(1352)), nav["flights"].CAMERA)
    halves = [nav["main"].nust_half(video, part).rows for part in ("seen", "unseen")]
    assert [len(half) for half in halves] == [676, 676]
    assert halves[0][-1].frame == "675"


def test_seeds_of_the_seen_part_are_even_and_all_others_odd(nav: dict[str, ModuleType]) -> None:
    main = nav["main"]
    assert all(seed % 2 == 0 for seed in main.SEEDS["seen"])
    assert all(seed % 2 == 1 for seed in main.SEEDS["unseen"])
    assert not any("20200831" in main.YEARS[seed] for seed in main.SEEDS["seen"])


def test_a_route_stays_on_its_map_at_one_speed(nav: dict[str, ModuleType]) -> None:
    flights = nav["flights"]
    route = flights.random_route((0.0, 0.0, 3000.0, 2000.0), 120.0, 1000, seed=0)
    places = np.array([(pose.east_m, pose.north_m) for pose in route])
    assert len(route) == 1000
    assert (places >= 180).all()
    assert (places <= (2820, 1820)).all()
    straight = np.hypot(*np.diff(places, axis=0).T)
    assert np.median(straight) == pytest.approx(20.0)
    assert straight.max() < 20.001  # shorter only where a leg ends


@pytest.mark.parametrize("ground", ["fog", "sea", "night"])
def test_nowhere_has_some_light_and_no_two_corners_alike(
    nav: dict[str, ModuleType], ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nav["wrong"], "SIDE_M", 320.0)
    picture = getattr(nav["wrong"], ground)(np.random.default_rng(0))
    assert picture.shape == (400, 400, 3)
    assert {"fog": 150 < picture.mean() < 240, "sea": 20 < picture.mean() < 120,
            "night": picture.mean() < 40}[ground]  # fmt: skip
    grey = picture.mean(axis=2)
    corner = np.corrcoef(grey[:150, :150].ravel(), grey[-150:, -150:].ravel())
    assert abs(corner[0, 1]) < 0.5


def test_naips_two_years_are_as_far_apart_as_the_specification_lets_them(
    nav: dict[str, ModuleType],
) -> None:
    main, rng = nav["main"], np.random.default_rng(4)
    years = rng.normal(0, main.NAIP_YEAR_STD_M, (2, 200_000, 2))  # each against true ground
    assert np.mean(np.hypot(*years[0].T) <= 6.0) == pytest.approx(0.95, abs=0.002)
    assert (years[0] - years[1]).std() == pytest.approx(main.NAIP_ACCURACY_M, rel=0.01)


def test_a_kept_pack_states_the_accuracy_that_is_asked_for(
    nav: dict[str, ModuleType], town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    bench = nav["bench"].Bench(
        tmp_path, tmp_path, tiny_model, tiny_model, step_m=None, peers=False, quick=True, draws=1
    )
    built = bench.pack("town", town, 1.0, 30.0, accuracy_m=3.5)
    assert read_manifest(built.folder).imagery.accuracy_m == 3.5
    kept = bench.pack("town", town, 1.0, 30.0, accuracy_m=0.0)
    assert kept.folder == built.folder
    assert kept.manifest.imagery.accuracy_m == 0.0
    assert kept.manifest.shards == built.manifest.shards


def test_a_floor_is_missed_where_there_is_no_fix_at_all(nav: dict[str, ModuleType]) -> None:
    results, scores = nav["results"], nav["scores"]
    lost = [fix(number, off_m=None, status=Status.SEARCHING) for number in range(5)]
    row = nav["flights"].FlightRow(
        flight="fengyuan A", errors="exact", part="seen", step_m=16.0,
        result=scores.flight_result(lost, truth_at_origin(5)), starts=[], found_percent=None,
    )  # fmt: skip
    table = nav["floors"].floor_table(results.Results(flights=[row]))
    asked = {line[0]: line[3] for line in table.rows}
    assert asked["fengyuan flights: within 25 m after the first fix, %"] == "MISSED"
    assert asked["fengyuan flights: first fix at frame"] == "MISSED"
    assert all(line[4] == "-" for line in table.rows)


def test_peers_that_see_a_part_of_the_frames_see_those_with_a_known_centre(
    nav: dict[str, ModuleType],
) -> None:
    from skyfix.runtime.replay import Recording

    truth = truth_at_origin(9)
    truth["center"].lat_deg[[0, 3, 6]] = np.nan
    recording = Recording("", tuple(rows(9)), nav["flights"].CAMERA)
    flight = nav["still"].StillFlight(recording, truth)
    assert nav["still"].compared(flight, 2) == {"1", "4", "7"}
    assert len(nav["still"].compared(flight, 1)) == 9
