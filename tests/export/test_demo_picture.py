"""Where things stand in the demo's picture, and how large they are."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.export.demo_picture import (
    DEGRADED,
    HEIGHT_PX,
    NO_FIX,
    TRACKING,
    WIDTH_PX,
    Track,
    draw_track,
    ellipse_points,
    view_from_track,
)
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

GREY = 100
NOTHING = (math.nan, math.nan)


def grey_land() -> Raster:
    image = np.full((600, 800, 3), GREY, np.uint8)
    frame = LocalFrame(47.0, 8.0)
    return Raster(image, np.ones((600, 800), bool), frame, -400.0, 300.0, 1.0)


def track_of_four() -> Track:
    """No fix, a good one, one with a caveat, and one that is 60 m off to the south."""
    return Track(
        true_en_m=np.array([(-100.0, 0.0), (-50.0, 0.0), (0.0, 0.0), (50.0, 0.0)]),
        fix_en_m=np.array([NOTHING, (-50.0, 0.0), (0.0, 0.0), (50.0, -60.0)]),
        cov_en_m2=np.array([np.full((2, 2), math.nan), *[np.eye(2) * 9] * 3]),
        tracking=np.array([False, True, False, True]),
    )


def test_each_kind_of_fix_has_its_colour_at_its_place() -> None:
    track = track_of_four()
    picture = draw_track(grey_land(), track, "four frames")
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    view = view_from_track(track)
    places = np.array([(-50.0, 0.0), (0.0, 0.0), (50.0, -60.0)])
    for (column, row), color in zip(
        view.pixels(places), (TRACKING, DEGRADED, TRACKING), strict=True
    ):
        assert picture[round(row), round(column)].tolist() == pytest.approx(color, abs=2)
    column, row = view.pixels(np.array([[-100.0, 0.0]]))[0]
    assert picture[round(row), round(column)].tolist() == pytest.approx(NO_FIX, abs=2)


def test_the_ellipse_of_a_fix_tints_the_land_inside_and_not_outside() -> None:
    track = track_of_four()
    view, picture = view_from_track(track), draw_track(grey_land(), track, "")
    radius_m = math.sqrt(9 * 5.9915)
    column, row = view.pixels(np.array([[50.0, -60.0 - 0.8 * radius_m]]))[0]
    outside_column, outside_row = view.pixels(np.array([[50.0, -60.0 - 1.2 * radius_m]]))[0]
    inside = picture[round(row), round(column)].astype(int)
    outside = picture[round(outside_row), round(outside_column)].astype(int)
    assert inside[2] - inside[0] > 15  # bluish
    assert np.ptp(outside) <= 2


@given(
    variances=st.tuples(st.floats(1, 400), st.floats(1, 400)), turn=st.floats(0, math.pi)
)  # fmt: skip
def test_all_points_of_an_ellipse_have_the_mahalanobis_distance_of_95_percent(
    variances: tuple[float, float], turn: float
) -> None:
    axes = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    cov = axes @ np.diag(variances) @ axes.T
    center = np.array([30.0, -70.0])
    offset = ellipse_points(center, cov) - center
    squared = np.einsum("ij,jk,ik->i", offset, np.linalg.inv(cov), offset)
    assert squared == pytest.approx(-2 * math.log(0.05), rel=1e-4)


@given(east=st.floats(-5000, 5000), north=st.floats(-5000, 5000))
def test_a_fix_that_is_far_off_is_still_in_the_picture(east: float, north: float) -> None:
    four = track_of_four()
    far = np.concatenate([four.fix_en_m[:3], [[east, north]]])
    track = Track(four.true_en_m, far, four.cov_en_m2, four.tracking)
    pixels = view_from_track(track).pixels(np.concatenate([four.true_en_m, far[1:]]))
    assert (pixels > 0).all()
    assert (pixels < [WIDTH_PX, HEIGHT_PX]).all()


def test_north_is_up_and_east_is_right() -> None:
    view = view_from_track(track_of_four())
    middle, east, north = view.pixels(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]))
    assert (east - middle).tolist() == pytest.approx([10 * view.px_per_m, 0])
    assert (north - middle).tolist() == pytest.approx([0, -10 * view.px_per_m])


def test_a_track_beyond_the_map_is_drawn_on_dark_ground() -> None:
    four = track_of_four()
    track = Track(four.true_en_m + 5000, four.fix_en_m + 5000, four.cov_en_m2, four.tracking)
    picture = draw_track(grey_land(), track, "")
    assert cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[400:700, 100].max() < 40
