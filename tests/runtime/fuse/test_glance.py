"""The glance: the true place is kept among many, by how it fits and by what descriptors say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from skyfix.runtime.fuse.attitude import Attitude
from skyfix.runtime.fuse.glance import BESIDE_PX, GLANCED_FROM, KEPT, glanced
from skyfix.runtime.fuse.query import Query, Shown
from skyfix.runtime.fuse.scales import Scale, scales_of
from skyfix.runtime.types import Hypothesis

from .conftest import TILE_M, Land

TRUE_EN_M = (13.0, -31.0)
MIDDLE = 10 * 21 + 10  # number of the place at the truth


def place(east_m: float, north_m: float, turn_deg: float, weight: float = 1.0) -> Hypothesis:
    return Hypothesis(
        east_m, north_m, weight, 0.5, math.nan, np.eye(2), turn_deg, 0.0, np.diag([50.0, 3e-3])
    )


def lattice(turn_deg: float, off_m: tuple[float, float] = (0.0, 0.0)) -> list[Hypothesis]:
    """All of the land in rows and columns, all alike; the one in the middle is off the truth."""
    steps = np.arange(-10, 11)
    return [
        place(TRUE_EN_M[0] + off_m[0] + 26 * i, TRUE_EN_M[1] + off_m[1] + 26 * j, turn_deg)
        for i in steps for j in steps
    ]  # fmt: skip


def many(turn_deg: float, off_m: tuple[float, float] = (0.0, 0.0)) -> list[Hypothesis]:
    """Those of one heading, and as many of another."""
    return [*lattice(turn_deg, off_m), *lattice(turn_deg - 90.0, off_m)]


def number_of(places: list[Hypothesis], kept: list[Hypothesis]) -> list[int]:
    numbers = {id(one): number for number, one in enumerate(places)}
    return [numbers[id(one)] for one in kept]


def numbers_kept(places: list[Hypothesis], query: Query, rough: Scale) -> list[int]:
    """Those of the kept ones, without what lies beside them."""
    return number_of(places, glanced(places, query, rough)[:KEPT])


def all_east_by(east_m: float, places: list[Hypothesis]) -> list[Hypothesis]:
    return [replace(one, east_m=one.east_m + east_m) for one in places]


@pytest.mark.parametrize(
    ("turn_deg", "told"),
    [(0.0, Attitude(0.0, 11.0, 0.0, 0.1)), (70.0, Attitude(0.0, math.inf, 0.0, 0.1))],
)
def test_the_place_that_fits_is_first_of_many_alike(
    land: Land, turn_deg: float, told: Attitude
) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M, turn_deg + 8.0, 1.08), TILE_M), told)
    places = many(turn_deg)
    assert len(places) > GLANCED_FROM
    kept = numbers_kept(places, query, scales_of(land.chart, TILE_M).rough)
    assert len(kept) == KEPT
    assert kept[0] == MIDDLE


@pytest.mark.parametrize("off_m", [(-10.0, 0.0), (0.0, -10.0), (-10.0, 10.0)])
def test_it_reaches_a_pixel_either_way(land: Land, off_m: tuple[float, float]) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M, 8.0, 1.08), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    places = many(0.0, off_m)
    kept = numbers_kept(places, query, scales_of(land.chart, TILE_M).rough)
    assert kept[0] == MIDDLE


@pytest.mark.parametrize("off_deg", [-22.0, 0.0, 22.0])
def test_it_looks_at_all_headings_that_the_telemetry_allows(land: Land, off_deg: float) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M, off_deg), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    places = many(0.0)
    kept = numbers_kept(places, query, scales_of(land.chart, TILE_M).rough)
    assert kept[0] == MIDDLE


def test_what_descriptors_say_counts_as_well(land: Land) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    places = many(0.0)
    rough = scales_of(land.chart, TILE_M).rough
    last = next(
        number for number in range(len(places))
        if number not in numbers_kept(places, query, rough)
    )  # fmt: skip
    places[last] = replace(places[last], weight=1e12)
    assert numbers_kept(places, query, rough)[0] == last


@pytest.mark.parametrize(("right", "down"), [(2, 0), (-2, 1), (0, 2), (1, -2)])
def test_a_place_two_pixels_beside_a_kept_one_is_swept_as_well(
    land: Land, right: int, down: int
) -> None:
    """Descriptors have put it there, and none of the others reaches the truth."""
    query = Query(Shown(land.seen(*TRUE_EN_M), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    rough = scales_of(land.chart, TILE_M).rough
    off_m = (-right * rough.gsd_m, down * rough.gsd_m)
    places = [
        one for one in many(0.0)
        if math.hypot(one.east_m - TRUE_EN_M[0], one.north_m - TRUE_EN_M[1]) > 40
    ]  # fmt: skip
    heavy = place(TRUE_EN_M[0] + off_m[0], TRUE_EN_M[1] + off_m[1], 0.0, 1e12)
    found = glanced([*places, heavy], query, rough)
    assert found[0] is heavy
    beside = [(one.east_m, one.north_m) for one in found[KEPT:]]
    assert beside[0] == pytest.approx(TRUE_EN_M, abs=0.01)
    assert len(set(beside)) == len(beside)


def test_nothing_is_swept_beside_a_place_that_fits_where_it_is(land: Land) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    rough = scales_of(land.chart, TILE_M).rough
    alike = [place(*TRUE_EN_M, 0.0) for _ in range(GLANCED_FROM)]
    assert len(glanced(alike, query, rough)) == KEPT
    assert len(glanced(all_east_by(rough.gsd_m, alike), query, rough)) == KEPT  # swept from there


def test_what_many_are_beside_is_swept_once_for_each_heading(land: Land) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    rough = scales_of(land.chart, TILE_M).rough
    alike = all_east_by(BESIDE_PX * rough.gsd_m, [place(*TRUE_EN_M, 0.0)] * GLANCED_FROM)
    assert len(glanced(alike, query, rough)) == KEPT + 1
    turned = [
        replace(one, turn_deg=5.0 * (number % 2), weight=1e12 if number < KEPT else 1.0)
        for number, one in enumerate(alike)
    ]
    beside = glanced(turned, query, rough)[KEPT:]
    assert sorted(one.turn_deg for one in beside) == [0.0, 5.0]


def test_not_many_stay_as_they_are_in_their_order(land: Land) -> None:
    query = Query(Shown(land.seen(*TRUE_EN_M), TILE_M), Attitude(0.0, 11.0, 0.0, 0.1))
    places = many(0.0)[: GLANCED_FROM - 1]
    kept = glanced(places, query, scales_of(land.chart, TILE_M).rough)
    assert number_of(places, kept) == list(range(len(places)))
