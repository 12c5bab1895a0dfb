import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.geo import Grid, LocalFrame

LATITUDES = st.floats(-89.9, 89.9)
LONGITUDES = st.floats(-180, 180)
OFFSETS_M = st.floats(-35_000, 35_000)  # per axis: up to 50 km in all
EARTH_RADIUS_M = 6.36e6  # the smaller end, for upper bounds


def topocentric(frame: LocalFrame) -> pyproj.Transformer:
    """PROJ's own route from longitude, latitude to east, north, up."""
    return pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad "
        "+step +proj=cart +ellps=WGS84 +step +proj=topocentric +ellps=WGS84 "
        f"+lon_0={frame.lon_deg!r} +lat_0={frame.lat_deg!r} +h_0=0"
    )


@given(LATITUDES, LONGITUDES, OFFSETS_M, OFFSETS_M)
def test_metres_survive_the_way_to_latitude_and_back(
    lat: float, lon: float, east: float, north: float
) -> None:
    frame = LocalFrame(lat, lon)
    back = frame.en_from_wgs84(*frame.wgs84_from_en(east, north))
    np.testing.assert_allclose(back, (east, north), atol=1e-6)


@given(LATITUDES, LONGITUDES, OFFSETS_M, OFFSETS_M)
def test_metres_agree_with_proj(lat: float, lon: float, east: float, north: float) -> None:
    frame = LocalFrame(lat, lon)
    point_lat, point_lon = frame.wgs84_from_en(east, north)
    proj_east, proj_north, _ = topocentric(frame).transform(float(point_lon), float(point_lat), 0.0)
    assert (proj_east, proj_north) == pytest.approx((east, north), abs=1e-5)


@given(LATITUDES, LONGITUDES, OFFSETS_M, OFFSETS_M)
def test_distances_are_the_geodesics_to_within_the_planes_bend(
    lat: float, lon: float, east: float, north: float
) -> None:
    point_lat, point_lon = LocalFrame(lat, lon).wgs84_from_en(east, north)
    _, _, ground_m = pyproj.Geod(ellps="WGS84").inv(lon, lat, float(point_lon), float(point_lat))
    plane_m = float(np.hypot(east, north))
    bend_m = ground_m**3 / (6 * EARTH_RADIUS_M**2)
    assert plane_m - 1e-3 <= ground_m <= plane_m + 1.02 * bend_m + 1e-3


def test_east_is_where_longitude_grows_and_north_where_latitude_does() -> None:
    frame = LocalFrame(47.0, 8.0)
    east, north = frame.en_from_wgs84(47.0, 8.001)
    assert east == pytest.approx(76.06, abs=0.05)  # cos(47 deg) of 111.5 m
    assert abs(north) < 0.01
    east, north = frame.en_from_wgs84(47.001, 8.0)
    assert abs(east) < 1e-6
    assert north == pytest.approx(111.17, abs=0.05)


def test_arrays_keep_their_shape_and_their_order() -> None:
    frame = LocalFrame(-33.0, 151.0)
    lat = np.array([[-33.01, -33.0, -32.99], [-33.02, -33.01, -33.0]])
    lon = np.array([[150.99, 151.0, 151.01], [151.02, 151.01, 151.0]])
    east, north = frame.en_from_wgs84(lat, lon)
    assert east.shape == north.shape == (2, 3)
    single = [
        frame.en_from_wgs84(float(a), float(o)) for a, o in zip(lat.flat, lon.flat, strict=True)
    ]
    np.testing.assert_allclose(np.ravel(east), [float(pair[0]) for pair in single])
    back_lat, back_lon = frame.wgs84_from_en(east, north)
    np.testing.assert_allclose(back_lat, lat, atol=1e-11)
    np.testing.assert_allclose(back_lon, lon, atol=1e-11)


def test_the_date_line_is_no_border() -> None:
    east, _ = LocalFrame(10.0, 179.999).en_from_wgs84(10.0, -179.999)
    assert float(east) == pytest.approx(219.25, abs=0.1)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, 181), (float("nan"), 0)])
def test_an_origin_off_the_ellipsoid_is_refused(lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match="no latitude, longitude"):
        LocalFrame(lat, lon)


GRID = Grid(east_m=-100.0, north_m=250.0, step_m=12.5, rows=17, columns=23)


def test_a_grid_runs_east_and_south_from_its_first_point() -> None:
    east, north = GRID.en_from_index(np.array([0, 22, 23, GRID.size - 1]))
    np.testing.assert_allclose(east, [-100, 175, -100, 175])
    np.testing.assert_allclose(north, [250, 250, 237.5, 50])


@given(st.integers(0, GRID.size - 1))
def test_a_points_cell_is_its_index(index: int) -> None:
    east, north = GRID.en_from_index(np.array(index))
    row, column = GRID.cell_from_en(float(east), float(north))
    assert (row, column) == pytest.approx((index // 23, index % 23))


@given(st.floats(-600, 700), st.floats(-500, 800), st.floats(0, 300))
def test_a_window_holds_the_points_within_its_square_and_no_others(
    east: float, north: float, radius: float
) -> None:
    rows, columns = GRID.window(east, north, radius)
    chosen = np.zeros((GRID.rows, GRID.columns), bool)
    chosen[rows, columns] = True
    grid_east, grid_north = GRID.en_from_index(np.arange(GRID.size))
    outside = np.maximum(np.abs(grid_east - east), np.abs(grid_north - north)) - radius
    clear = np.abs(outside) > 1e-9  # points on the border itself may fall to either side
    np.testing.assert_array_equal(chosen.ravel()[clear], outside[clear] < 0)
