"""The sweep on ground that repeats itself: what holds a place there, and how sure it is."""

import math

import numpy as np
import pytest

from skyfix.runtime.fuse.attitude import Attitude
from skyfix.runtime.fuse.awaited import Awaited
from skyfix.runtime.fuse.chart import Chart
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.query import Query, Shown
from skyfix.runtime.fuse.scales import Scale, scales_of
from skyfix.runtime.fuse.swept import swept_places
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.types import Hypothesis

from .conftest import Land, picture

TILE_M = 96.0
TOLD = Attitude(0.0, 1.0, 0.0, 0.02)
LIKELIHOOD = Likelihood()
REACH_M = 24.0


def furrows(east_share: float) -> Land:
    """Ground that changes from south to north, and but little from west to east."""
    lines = np.random.default_rng(2).standard_normal(75).repeat(8)
    field = 127 + 40 * lines[:, None] + east_share * (picture(6, 600, 4.0).astype(np.float64) - 127)
    image = np.repeat(field.clip(1, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Land(Raster(image, np.ones((600, 600), bool), LocalFrame(45.0, 9.0), -300.0, 300.0, 1.0))


def turned_furrows() -> Land:
    """Furrows from the south-west to the north-east."""
    lines = np.random.default_rng(2).standard_normal(160).repeat(8)
    row, column = np.indices((600, 600))
    field = (127 + 40 * lines[row + column]).clip(1, 255).astype(np.uint8)
    image = np.repeat(field[..., None], 3, axis=2)
    return Land(Raster(image, np.ones((600, 600), bool), LocalFrame(45.0, 9.0), -300.0, 300.0, 1.0))


def place(east_m: float, north_m: float) -> Hypothesis:
    return Hypothesis(
        east_m, north_m, 1.0, 0.5, math.nan, np.eye(2), 0.0, 0.0, np.diag([0.3, 1e-4])
    )


def coarse(chart: Chart) -> Scale:
    return scales_of(chart, TILE_M).coarse


def swept_alone(land: Land, start: Hypothesis, awaited: Awaited | None = None) -> Hypothesis:
    query = Query(Shown(land.seen(10.0, -20.0), TILE_M), TOLD, awaited=awaited)
    (found,) = swept_places([start], query, coarse(land.chart), REACH_M, LIKELIHOOD)
    return found


def test_a_place_on_furrows_says_how_far_it_could_have_slid_along_them() -> None:
    found = swept_alone(furrows(0.05), place(10.0, -20.0))
    east_m, north_m = np.sqrt(np.diag(found.slide_en_m2))
    assert east_m > 8.0  # everywhere within reach as well
    assert north_m < 5.0  # a pixel


def test_a_place_on_turned_furrows_has_slid_to_the_north_east_or_back() -> None:
    slide_m2 = swept_alone(turned_furrows(), place(10.0, -20.0)).slide_en_m2
    along, across = np.array([1.0, 1.0]) / math.sqrt(2), np.array([1.0, -1.0]) / math.sqrt(2)
    assert math.sqrt(along @ slide_m2 @ along) > 8.0
    assert math.sqrt(across @ slide_m2 @ across) < 5.0


@pytest.mark.parametrize("share", [-12.0, 12.0])
def test_along_turned_furrows_a_place_goes_where_pictures_have_carried_it(share: float) -> None:
    awaited = Awaited(10.0 + share, -20.0 + share, 3.0)
    found = swept_alone(turned_furrows(), place(10.0, -20.0), awaited)
    assert (found.east_m, found.north_m) == pytest.approx((10 + share, -20 + share), abs=5.0)


def test_a_place_where_everything_is_somewhere_once_has_slid_nowhere(land: Land) -> None:
    found = swept_alone(land, place(14.0, -26.0))
    assert np.sqrt(np.diag(found.slide_en_m2)).max() < 1.5
    assert (found.east_m, found.north_m) == pytest.approx((10.0, -20.0), abs=4.0)


def test_along_furrows_a_place_stays_where_pictures_have_carried_it() -> None:
    land = furrows(0.0)
    free = swept_alone(land, place(10.0, -20.0))
    held = [
        swept_alone(land, place(10.0, -20.0), Awaited(east_m, -20.0, 3.0))
        for east_m in (-6.0, 10.0, 26.0)
    ]
    assert [found.east_m for found in held] == pytest.approx([-6.0, 10.0, 26.0], abs=4.0)
    assert all(abs(found.north_m + 20.0) < 4.0 for found in (free, *held))


def test_pictures_that_are_wrong_hold_no_place_that_looks_right(land: Land) -> None:
    found = swept_alone(land, place(10.0, -20.0), Awaited(34.0, -20.0, 3.0))
    assert (found.east_m, found.north_m) == pytest.approx((10.0, -20.0), abs=4.0)


def test_what_is_awaited_weighs_by_its_deviation_and_never_forbids() -> None:
    awaited = Awaited(100.0, 50.0, 5.0)
    east_m, north_m = np.array([100.0, 105.0, 100.0]), np.array([50.0, 50.0, 1050.0])
    expected = [0.0, -math.log(1.5), -math.log(1 + 200**2 / 2)]
    assert awaited.log_prior(east_m, north_m) == pytest.approx(expected)
