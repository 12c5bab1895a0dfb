"""Route files: what they may look like, and what is said of those that are wrong."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.coverage.mission import evenly
from skyfix.runtime.coverage.route import read_route, route_in_frame
from skyfix.runtime.errors import InputError
from skyfix.runtime.geo import LocalFrame

FRAME = LocalFrame(47.0, 8.0)
BOUNDS_M = (-500.0, -400.0, 500.0, 400.0)
LINE = {"type": "LineString", "coordinates": [[8.001, 47.002, 130], [8.003, 47.001]]}
FEATURE = {"type": "Feature", "properties": {}, "geometry": LINE}
POINT = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [8, 47]}}
PLACES = np.array([[47.002, 8.001], [47.001, 8.003]])


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "lat_deg,lon_deg\n47.002,8.001\n47.001,8.003\n",
        "name,Longitude, Latitude\na,8.001,47.002\n\nb,8.003,47.001\n",
        "\ufefflat,lng\r\n47.002,8.001\r\n47.001,8.003\r\n",
    ],
)
def test_a_csv_names_its_columns(tmp_path: Path, text: str) -> None:
    np.testing.assert_allclose(read_route(written(tmp_path, "route.csv", text)), PLACES)


@pytest.mark.parametrize(
    "document", [LINE, FEATURE, {"type": "FeatureCollection", "features": [POINT, FEATURE]}]
)
def test_a_geojson_line_is_found_wherever_it_stands(tmp_path: Path, document: object) -> None:
    path = written(tmp_path, "route.geojson", json.dumps(document))
    np.testing.assert_allclose(read_route(path), PLACES)


@given(
    st.lists(
        st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=2, max_size=20, unique=True
    )
)
def test_any_route_comes_back_from_either_format(points: list[tuple[float, float]]) -> None:
    rows = "".join(f"{lat!r},{lon!r}\n" for lat, lon in points)
    line = {"type": "LineString", "coordinates": [[lon, lat] for lat, lon in points]}
    with TemporaryDirectory() as folder:
        table = written(Path(folder), "a.csv", "lat_deg,lon_deg\n" + rows)
        document = written(Path(folder), "a.json", json.dumps(line))
        if len(np.unique(np.array(points), axis=0)) < 2:  # 0.0 and -0.0
            return
        np.testing.assert_array_equal(read_route(table), np.array(points))
        np.testing.assert_array_equal(read_route(document), np.array(points))


WRONG = {
    "empty": ("r.csv", "", "is empty"),
    "only a header": ("r.csv", "lat,lon\n", "0 places"),
    "one point": ("r.csv", "lat,lon\n47,8\n", "1 places"),
    "the same point twice": ("r.csv", "lat,lon\n47,8\n47,8\n", "1 places"),
    "no header": ("r.csv", "47,8\n47.1,8\n", "0 columns named lat_deg"),
    "a column twice": ("r.csv", "lat,latitude,lon\n47,47,8\n47.1,47.1,8\n", "2 columns"),
    "no number": ("r.csv", "lat,lon\n47,8\n47.1,\n", "row 2"),
    "a short row": ("r.csv", "lat,lon\n47,8\n47.1\n", "row 2"),
    "NaN": ("r.csv", "lat,lon\n47,8\nnan,8\n", "point 2 is nan"),
    "out of range": ("r.csv", "lat,lon\n47,8\n47,181\n", "point 2"),
    "swapped, and seen by the range": ("r.csv", "lat,lon\n120,24\n120.1,24\n", "swapped"),
    "broken JSON": ("r.geojson", '{"type": "LineString", "coordi', "is no GeoJSON"),
    "deep JSON": ("r.geojson", "[" * 100_000, "is no GeoJSON"),
    "no line": ("r.geojson", json.dumps(POINT), "0 lines"),
    "a list": ("r.geojson", "[1, 2]", "0 lines"),
    "two lines": (
        "r.geojson",
        json.dumps({"type": "FeatureCollection", "features": [FEATURE, FEATURE]}),
        "2 lines",
    ),
    "no coordinates": ("r.geojson", '{"type": "LineString"}', "no coordinates"),
    "a point of one number": (
        "r.geojson", '{"type": "LineString", "coordinates": [[8, 47], [8]]}', "point 2",
    ),
    "another suffix": ("r.kml", "<kml/>", ".csv or .geojson"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_an_input_error_that_says_what(tmp_path: Path, case: str) -> None:
    name, text, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        read_route(written(tmp_path, name, text))


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_route(tmp_path / "none.csv")


def test_a_route_elsewhere_is_told_from_one_that_is_swapped() -> None:
    with pytest.raises(InputError, match="nowhere touches the map"):
        route_in_frame(PLACES + 0.5, FRAME, BOUNDS_M, "r")
    with pytest.raises(InputError, match="are swapped"):
        route_in_frame(PLACES[:, ::-1], FRAME, BOUNDS_M, "r")


def test_the_other_side_of_the_earth_is_not_the_map() -> None:
    """Its points fall onto the same tangent plane."""
    with pytest.raises(InputError, match="nowhere touches"):
        route_in_frame(np.array([[-47.0, -172.0], [-47.001, -172.0]]), FRAME, BOUNDS_M, "r")


def test_a_leg_that_only_crosses_the_map_meets_it() -> None:
    west_and_east = np.array([[47.0, 7.98], [47.0, 8.02]])
    points = route_in_frame(west_and_east, FRAME, BOUNDS_M, "r")
    assert points[0, 0] < BOUNDS_M[0]
    assert points[1, 0] > BOUNDS_M[2]
    with pytest.raises(InputError, match="nowhere touches"):
        route_in_frame(west_and_east + np.array([0.01, 0]), FRAME, BOUNDS_M, "r")


def test_places_along_a_line_are_evenly_apart_and_hold_its_ends() -> None:
    points, length_m = evenly(np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]]), 7.0)
    assert length_m == 70
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [30, 40]])
    np.testing.assert_allclose(abs(np.diff(points, axis=0)).sum(axis=1), 7.0)
