import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

FRAME = LocalFrame(47.0, 8.0)
ROWS, COLUMNS, GSD_M, WEST_M, NORTH_M = 180, 240, 0.5, -40.0, 70.0


def raster_of(image: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> Raster:
    seen = np.ones(image.shape[:2], bool) if valid is None else valid
    return Raster(image, seen, FRAME, WEST_M, NORTH_M, GSD_M)


def ramp() -> Raster:
    """Red grows by 1 a pixel to the east, green by 1 a pixel to the south."""
    image = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    image[..., 0] = np.arange(COLUMNS)[None]
    image[..., 1] = np.arange(ROWS)[:, None]
    return raster_of(image)


def checkerboard() -> Raster:
    rows, columns = np.indices((ROWS, COLUMNS))
    return raster_of(np.repeat(((rows + columns) % 2 * 200)[..., None], 3, axis=2).astype(np.uint8))


def centers(first_m: float, count: int, gsd_m: float) -> NDArray[np.float64]:
    return np.asarray(first_m + (np.arange(count) + 0.5) * gsd_m, np.float64)


def test_bounds_are_the_outer_edges() -> None:
    assert ramp().bounds_m == (-40.0, -20.0, 80.0, 70.0)


def test_reading_at_its_own_grid_gives_back_the_pixels() -> None:
    whole = ramp()
    window = whole.read(WEST_M + 10 * GSD_M, NORTH_M - 20 * GSD_M, (30, 50), GSD_M)
    np.testing.assert_array_equal(window.image, whole.image[20:50, 10:60])
    assert window.valid.all()
    assert window.bounds_m == (-35.0, 45.0, -10.0, 60.0)
    assert window.frame == FRAME


@settings(max_examples=120, deadline=None)
@given(
    ratio=st.floats(0.3, 7.0), east=st.floats(4.0, 40.0), south=st.floats(4.0, 30.0),
    size=st.integers(3, 12),
)  # fmt: skip
def test_a_ramp_reads_as_the_same_ramp_at_any_scale_and_place(
    ratio: float, east: float, south: float, size: int
) -> None:
    gsd_m = GSD_M * ratio
    window = ramp().read(WEST_M + east, NORTH_M - south, (size, size), gsd_m)
    to_east = centers(east, size, gsd_m) / GSD_M - 0.5  # in pixels of the ramp = its values
    to_south = centers(south, size, gsd_m) / GSD_M - 0.5
    # a box that is centred on its pixel keeps a ramp; at the border of the picture it cannot
    inner_east, inner_south = to_east < COLUMNS - 8, to_south < ROWS - 8
    red, green = window.image[..., 0], window.image[..., 1]
    seen = window.valid & inner_east[None] & inner_south[:, None]
    assert seen.any()
    expected_red = np.broadcast_to(to_east[None], red.shape)
    expected_green = np.broadcast_to(to_south[:, None], green.shape)
    np.testing.assert_allclose(red[seen], expected_red[seen], atol=1.05)
    np.testing.assert_allclose(green[seen], expected_green[seen], atol=1.05)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 6])
def test_a_dot_keeps_its_place_at_odd_and_even_factors(factor: int) -> None:
    image = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    row, column = 60, 120  # upper left pixel of a block of 60: multiples of every factor
    image[row : row + 60, column : column + 60] = 240
    gsd_m = GSD_M * factor
    window = raster_of(image).read(WEST_M, NORTH_M, (ROWS // factor, COLUMNS // factor), gsd_m)
    weight = window.image[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    east = WEST_M + ((weight * columns).sum() / weight.sum() + 0.5) * gsd_m
    north = NORTH_M - ((weight * rows).sum() / weight.sum() + 0.5) * gsd_m
    assert east == pytest.approx(WEST_M + (column + 30) * GSD_M, abs=0.02)
    assert north == pytest.approx(NORTH_M - (row + 30) * GSD_M, abs=0.02)


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_coarser_pixels_are_the_mean_of_those_they_cover(factor: int) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (ROWS, COLUMNS, 3), np.uint8)
    first = 3 * factor
    window = raster_of(noise).read(
        WEST_M + first * GSD_M, NORTH_M - first * GSD_M, (20, 25), GSD_M * factor
    )
    blocks = noise[first : first + 20 * factor, first : first + 25 * factor]
    means = blocks.reshape(20, factor, 25, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(window.image, means, atol=1.0)


def test_fine_structure_averages_out_instead_of_beating() -> None:
    window = checkerboard().read(WEST_M + 5, NORTH_M - 5, (20, 20), GSD_M * 4)
    assert int(np.ptp(window.image)) <= 2
    assert window.image.mean() == pytest.approx(100, abs=2)


def test_pixels_off_the_image_are_not_valid() -> None:
    window = ramp().read(WEST_M - 5 * GSD_M, NORTH_M + 3 * GSD_M, (10, 10), GSD_M)
    expected = np.zeros((10, 10), bool)
    expected[3:, 5:] = True
    np.testing.assert_array_equal(window.valid, expected)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(
    ("west_m", "north_m"),
    [(WEST_M - 200, 0.0), (WEST_M + 500, 0.0), (0.0, NORTH_M + 200), (0.0, NORTH_M - 500)],
)
def test_a_window_beside_the_image_has_its_size_and_nothing_valid(
    west_m: float, north_m: float, ratio: float
) -> None:
    window = ramp().read(west_m, north_m, (12, 9), GSD_M * ratio)
    assert window.image.shape == (12, 9, 3)
    assert not window.valid.any()


def test_a_hole_in_the_map_stays_a_hole_at_a_coarser_scale() -> None:
    valid = np.ones((ROWS, COLUMNS), bool)
    valid[40:80, 60:100] = False
    window = raster_of(ramp().image, valid).read(WEST_M, NORTH_M, (45, 60), GSD_M * 4)
    expected = np.ones((45, 60), bool)
    expected[10:20, 15:25] = False
    np.testing.assert_array_equal(window.valid, expected)
