"""A planned route from a file: CSV with latitude and longitude, or a GeoJSON line.

Every mistake is an InputError that names the row or the part, and says what is expected. Whether
the route lies on a pack is another question: `route_in_frame`.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geo import LocalFrame

Array = NDArray[np.float64]

LATITUDE_NAMES = ("lat_deg", "lat", "latitude")
LONGITUDE_NAMES = ("lon_deg", "lon", "lng", "long", "longitude")
NEAR_DEG = 2.0  # the tangent plane holds the other side of the Earth too: farther is no route here


def read_route(path: Path) -> Array:
    """Latitude and longitude in degrees of the route's points, (n, 2), n >= 2."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() == ".csv":
        points = list(_points_from_csv(path, raw))
    elif path.suffix.lower() in {".geojson", ".json"}:
        points = list(_points_from_geojson(path, raw))
    else:
        raise InputError(f"{path}: a route ends in .csv or .geojson")
    for number, (lat, lon) in enumerate(points, start=1):
        _check_point(path, number, lat, lon)
    route = np.array(points, float).reshape(-1, 2)
    distinct = len(np.unique(route, axis=0))
    if distinct < 2:
        raise InputError(f"{path} holds {distinct} places; a route has two or more")
    return route


def route_in_frame(
    route_deg: Array, frame: LocalFrame, bounds_m: tuple[float, float, float, float], name: str
) -> Array:
    """The route's points (n, 2) in east/north metres; InputError where it never meets the map."""
    west, south, east, north = bounds_m
    points_en_m = _points_in_frame(route_deg, frame)
    if _meets(points_en_m, bounds_m):
        return points_en_m
    where = (
        f"the map lies around {frame.lat_deg:.5f}, {frame.lon_deg:.5f} "
        f"({east - west:.0f} x {north - south:.0f} m)"
    )
    swapped = route_deg[:, ::-1]
    if (abs(swapped[:, 0]) <= 90).all() and _meets(_points_in_frame(swapped, frame), bounds_m):
        raise InputError(
            f"{name}: latitude and longitude are swapped: {where}, the route at "
            f"{route_deg[0, 0]:.5f}, {route_deg[0, 1]:.5f}. A CSV names its columns; "
            "GeoJSON has the longitude first."
        )
    raise InputError(
        f"{name}: the route starts at {route_deg[0, 0]:.5f}, {route_deg[0, 1]:.5f} and nowhere "
        f"touches the map: {where}. Is it the pack of this area?"
    )


def _points_in_frame(route_deg: Array, frame: LocalFrame) -> Array:
    """East and north metres (n, 2), infinite where on another part of the Earth."""
    lat, lon = route_deg.T
    east_deg = (lon - frame.lon_deg + 180) % 360 - 180
    near = (abs(lat - frame.lat_deg) < NEAR_DEG) & (
        abs(east_deg) * math.cos(math.radians(frame.lat_deg)) < NEAR_DEG
    )
    points = np.stack(frame.en_from_wgs84(lat, lon), axis=1)
    points[~near] = np.inf
    return points


def _meets(points_en_m: Array, bounds_m: tuple[float, float, float, float]) -> bool:
    """Whether any leg comes into the map's rectangle; every leg has to be near."""
    if not np.isfinite(points_en_m).all():
        return False
    low, high = np.array(bounds_m[:2]), np.array(bounds_m[2:])
    starts, legs = points_en_m[:-1], np.diff(points_en_m, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = (low - starts) / legs, (high - starts) / legs
    between = (starts >= low) & (starts <= high)
    still = legs == 0  # along this axis the leg is inside for all of its length or for none
    first = np.where(still, np.where(between, 0.0, 2.0), np.minimum(enter, leave)).max(axis=1)
    last = np.where(still, np.where(between, 1.0, -1.0), np.maximum(enter, leave)).min(axis=1)
    return bool((np.maximum(first, 0) <= np.minimum(last, 1)).any())


def _check_point(path: Path, number: int, lat: float, lon: float) -> None:
    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise InputError(f"{path}: point {number} is {lat}, {lon}: no latitude, longitude")
    if abs(lat) > 90 and abs(lat) <= 180 and abs(lon) <= 90:
        raise InputError(
            f"{path}: point {number} has latitude {lat}: latitude and longitude are swapped. "
            "A CSV names its columns; GeoJSON has the longitude first."
        )
    if abs(lat) > 90 or abs(lon) > 180:
        raise InputError(
            f"{path}: point {number} is {lat}, {lon}: no latitude, longitude in degrees"
        )


def _points_from_csv(path: Path, raw: bytes) -> Iterator[tuple[float, float]]:
    try:
        lines = raw.decode("utf-8-sig").splitlines()
        rows = [row for row in csv.reader(lines, strict=True) if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV file in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{path} is empty; its first line names lat_deg and lon_deg")
    names = [cell.strip().lower() for cell in rows[0]]
    lat_at, lon_at = _column(path, names, LATITUDE_NAMES), _column(path, names, LONGITUDE_NAMES)
    for number, row in enumerate(rows[1:], start=1):
        yield _number(path, number, row, lat_at), _number(path, number, row, lon_at)


def _number(path: Path, number: int, row: list[str], at: int) -> float:
    try:
        return float(row[at])
    except (ValueError, IndexError):
        raise InputError(
            f"{path}: row {number} ({','.join(row)}) has no number in column {at + 1}"
        ) from None


def _column(path: Path, names: list[str], wanted: tuple[str, ...]) -> int:
    found = [index for index, name in enumerate(names) if name in wanted]
    if len(found) != 1:
        raise InputError(
            f"{path}: its first line has {len(found)} columns named {' or '.join(wanted)}, "
            f"it needs one (found: {', '.join(names)})"
        )
    return found[0]


def _points_from_geojson(path: Path, raw: bytes) -> Iterator[tuple[float, float]]:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path} is no GeoJSON: {error}") from error
    lines = [part for part in _geometries(document) if part.get("type") == "LineString"]
    if len(lines) != 1:
        raise InputError(
            f"{path} holds {len(lines)} lines of the type LineString; a route is one of them"
        )
    positions = lines[0].get("coordinates")
    if not isinstance(positions, list):
        raise InputError(f"{path}: the LineString has no coordinates")
    for number, position in enumerate(positions, start=1):
        if not (
            isinstance(position, list)
            and len(position) >= 2
            and all(isinstance(value, int | float) for value in position[:2])
        ):
            raise InputError(f"{path}: point {number} is {position}, not [longitude, latitude]")
        yield float(position[1]), float(position[0])


def _geometries(part: Any) -> Iterator[Mapping[str, Any]]:
    """Every geometry of a document, out of its features and collections."""
    if not isinstance(part, dict):
        return
    inside: Iterable[Any] | None = {
        "FeatureCollection": part.get("features"),
        "GeometryCollection": part.get("geometries"),
        "Feature": [part.get("geometry")],
    }.get(str(part.get("type")))
    if inside is None:
        yield part
        return
    for item in inside if isinstance(inside, list) else ():
        yield from _geometries(item)
