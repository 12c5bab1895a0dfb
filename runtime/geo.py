"""WGS84 to local east/north metres and back, and the regular grids that live in them.

The local frame is the tangent plane of the ellipsoid at an origin. A ground point (height 0 on
the ellipsoid) maps to its east and north coordinates there; the inverse lifts the plane's point
back onto the ellipsoid. Both are exact; a distance d from the origin is
shortened in the plane by d^3 / (6 R^2): 4 mm at 10 km.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WGS84_A_M = 6378137.0  # semi-major axis (NIMA TR8350.2)
WGS84_F = 1 / 298.257223563  # flattening (NIMA TR8350.2)
WGS84_E2 = WGS84_F * (2 - WGS84_F)
WGS84_B_M = WGS84_A_M * (1 - WGS84_F)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalFrame:
    """East/north metres around an origin."""

    lat_deg: float
    lon_deg: float

    def __post_init__(self) -> None:
        """Refuse an origin that is not on the ellipsoid."""
        if not (abs(self.lat_deg) <= 90 and abs(self.lon_deg) <= 180):
            raise ValueError(f"origin {self.lat_deg}, {self.lon_deg} is no latitude, longitude")

    def en_from_wgs84(self, lat_deg: float | Array, lon_deg: float | Array) -> tuple[Array, Array]:
        """East and north metres of points on the ellipsoid, same shape as the input."""
        offset = _ecef(lat_deg, lon_deg) - _ecef(self.lat_deg, self.lon_deg)
        east, north, _ = self._axes() @ offset.reshape(3, -1)
        shape = np.shape(lat_deg)
        return east.reshape(shape), north.reshape(shape)

    def wgs84_from_en(self, east_m: float | Array, north_m: float | Array) -> tuple[Array, Array]:
        """Latitude and longitude in degrees of points on the ellipsoid, same shape as the input."""
        shape = np.shape(east_m)
        plane = np.stack(
            [np.ravel(np.asarray(east_m, float)), np.ravel(np.asarray(north_m, float))]
        )
        axes = self._axes()
        foot = _ecef(self.lat_deg, self.lon_deg).reshape(3, 1) + axes[:2].T @ plane
        point = foot + axes[2:].T * _drop_to_ellipsoid(foot, axes[2])
        lon = np.degrees(np.arctan2(point[1], point[0]))
        lat = np.degrees(np.arctan2(point[2], (1 - WGS84_E2) * np.hypot(point[0], point[1])))
        return lat.reshape(shape), lon.reshape(shape)

    def _axes(self) -> Array:
        """Rows are the unit vectors east, north, up in ECEF, (3, 3)."""
        lat, lon = math.radians(self.lat_deg), math.radians(self.lon_deg)
        sin_lat, cos_lat, sin_lon, cos_lon = (
            math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon),
        )  # fmt: skip
        return np.array(
            [
                [-sin_lon, cos_lon, 0.0],
                [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
                [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
            ]
        )


@dataclass(frozen=True)
class Grid:
    """A regular grid of points, row 0 in the north, column 0 in the west."""

    east_m: float  # of column 0
    north_m: float  # of row 0
    step_m: float
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """How many points the grid has."""
        return self.rows * self.columns

    def en_from_index(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """East and north metres of flat (row-major) indices, same shape as the input."""
        row, column = np.divmod(index, self.columns)
        return self.east_m + column * self.step_m, self.north_m - row * self.step_m

    def cell_from_en(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Row and column, with fractions, of a point; outside the grid they leave its range."""
        return (self.north_m - north_m) / self.step_m, (east_m - self.east_m) / self.step_m

    def window(self, east_m: float, north_m: float, radius_m: float) -> tuple[slice, slice]:
        """Rows and columns within a square of half-width `radius_m`; empty when off the grid."""
        row, column = self.cell_from_en(east_m, north_m)
        reach = radius_m / self.step_m
        return _clipped(row, reach, self.rows), _clipped(column, reach, self.columns)


def _clipped(center: float, reach: float, count: int) -> slice:
    """Indices within `reach` of `center`; neither end negative, where a slice counts backwards."""
    return slice(
        max(0, math.ceil(center - reach)), max(0, min(count, math.floor(center + reach) + 1))
    )


def _ecef(lat_deg: float | Array, lon_deg: float | Array) -> Array:
    """Earth-centred coordinates in metres of points on the ellipsoid, (3,) or (3, n)."""
    lat, lon = np.radians(np.ravel(lat_deg)), np.radians(np.ravel(lon_deg))
    prime_vertical_m = WGS84_A_M / np.sqrt(1 - WGS84_E2 * np.sin(lat) ** 2)
    xyz: Array = np.stack(
        [
            prime_vertical_m * np.cos(lat) * np.cos(lon),
            prime_vertical_m * np.cos(lat) * np.sin(lon),
            prime_vertical_m * (1 - WGS84_E2) * np.sin(lat),
        ]
    )
    return xyz


def _drop_to_ellipsoid(foot: Array, up: Array) -> Array:
    """Signed distance t so that foot + t * up lies on the ellipsoid, (n,); foot is (3, n).

    Scaled by the semi-axes the ellipsoid is the unit sphere, and t the root nearer to zero.
    """
    scale = np.array([1 / WGS84_A_M, 1 / WGS84_A_M, 1 / WGS84_B_M])
    p, d = foot * scale[:, None], up * scale
    a, b, c = d @ d, d @ p, (p * p).sum(axis=0) - 1
    # c / (b + sqrt) is the small root without cancellation; NaN where the plane misses the Earth
    t: Array = -c / (b + np.sqrt(b * b - a * c))
    return t
