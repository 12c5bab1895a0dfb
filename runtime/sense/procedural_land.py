"""Where things lie in a procedural landscape: parcels, ways and water, as polygons in metres.

    district -> block -> lot        each a cut across the longer side of a convex polygon

The cuts are the roads, streets, tracks and hedges; what is left are the parcels. All of it is
then bent by a smooth displacement, so that no line stays straight. Coordinates are metres from
the north-west corner: x east, y south.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .procedural_style import Style

MARGIN_M = 80.0  # drawn beyond the border, so that the bending never uncovers a corner
MAIN_ROAD_FROM_M2 = 300_000.0  # a cut through a larger district is a main road
DISTRICT_M2 = 90_000.0  # districts get one use each: town, forest, farmland
STREET_RESERVE_M = 5.2  # from a street's middle to the lots: carriageway and pavement
HIGHWAY_SHARE = 0.25  # of main roads

Points = NDArray[np.float64]  # (n, 2) x, y


class Use(IntEnum):
    """What a parcel is used for."""

    CROP = 0
    MEADOW = 1
    BARE = 2
    FOREST = 3
    ORCHARD = 4
    PARK = 5
    LOT = 6  # one house and its garden
    YARD = 7  # halls and car parks
    VERGE = 8  # between a street and the lots beside it


class Way(IntEnum):
    """What a cut between two parcels became, widest first."""

    HIGHWAY = 0
    MAIN = 1
    STREET = 2
    TRACK = 3
    HEDGE = 4
    FENCE = 5


@dataclass(frozen=True)
class Parcel:
    """A piece of land with one use."""

    outline: Points  # convex before bending
    use: Use


@dataclass(frozen=True)
class Land:
    """A whole landscape before it is painted."""

    parcels: tuple[Parcel, ...]
    ways: dict[Way, list[Points]]  # polylines
    river: Points | None  # polyline of its middle
    river_width_m: float


def land_from_style(
    rng: np.random.Generator, style: Style, width_m: float, height_m: float
) -> Land:
    """Lay out districts, roads, parcels and perhaps a river."""
    layout = _Layout(rng, style, width_m, height_m)
    layout.divide_region()
    river = _river(rng, width_m, height_m) if rng.random() < style.river_share else None
    return Land(tuple(layout.parcels), layout.ways, river, float(rng.uniform(9, 38)))


class _Layout:
    """Cuts the region down and collects what comes of it."""

    def __init__(
        self, rng: np.random.Generator, style: Style, width_m: float, height_m: float
    ) -> None:
        self.rng, self.style = rng, style
        self.size = np.array([width_m, height_m])
        self.parcels: list[Parcel] = []
        self.ways: dict[Way, list[Points]] = {way: [] for way in Way}
        self.waves = _bending_waves(rng, style.bend_m)
        towns = max(1, rng.poisson(style.towns_per_km2 * width_m * height_m / 1e6))
        self.town_centers = rng.uniform(0, 1, (towns, 2)) * self.size
        self.town_radii_m = rng.uniform(*style.town_radius_m, towns)

    def divide_region(self) -> None:
        half = self.size / 2 + MARGIN_M
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * float(half.sum())
        angle = self.rng.uniform(0, np.pi / 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for district in self._divide(square @ turn.T + self.size / 2, DISTRICT_M2, None):
            self._develop(district)

    def _develop(self, district: Points) -> None:
        """Give a district its use and cut it into parcels of that use."""
        style, rng = self.style, self.rng
        middle = district.mean(axis=0)
        reach = np.linalg.norm(self.town_centers - middle, axis=1) / self.town_radii_m
        nearness = float(reach.min()) + rng.normal(0, 0.12)
        if nearness < 1:
            for block in self._divide(district, style.block_m2, Way.STREET):
                self._develop_block(block)
        elif rng.random() < style.forest_share:
            for wood in self._divide(district, DISTRICT_M2 / 2, Way.TRACK):
                self._keep(wood, Use.FOREST)
        else:
            area = style.field_m2 * float(rng.uniform(0.5, 2.0))
            for field in self._divide(district, area, Way.HEDGE):
                self._keep(field, Use(int(rng.choice(5, p=style.field_shares))))

    def _develop_block(self, block: Points) -> None:
        style, rng = self.style, self.rng
        self._keep(block, Use.VERGE)
        block = _inset(block, STREET_RESERVE_M)
        if len(block) < 3:
            return
        draw = rng.random()
        if draw < style.park_share:
            self._keep(block, Use.PARK if rng.random() < 0.7 else Use.FOREST)
        elif draw < style.park_share + style.yard_share:
            for yard in self._divide(block, 9_000, Way.FENCE):
                self._keep(yard, Use.YARD)
        else:
            lot_m2 = style.lot_m2 * float(rng.uniform(0.7, 1.8))
            for lot in self._divide(block, lot_m2, Way.FENCE):
                vacant = rng.random() < style.vacant_share
                self._keep(lot, Use.MEADOW if vacant else Use.LOT)

    def _divide(self, polygon: Points, until_m2: float, way: Way | None) -> list[Points]:
        """Cut until no piece is larger; cuts become `way`, or roads by the piece's size."""
        stack, done = [polygon], []
        while stack:
            piece = stack.pop()
            if self._is_outside(piece):
                continue
            area = _area(piece)
            if area <= until_m2 * self.rng.uniform(0.8, 1.3):
                done.append(piece)
                continue
            halves, cut = _halves(piece, self.rng, self.style.wobble_rad)
            stack.extend(halves)
            self.ways[self._way_of_cut(way, area)].append(self.bend(densify(cut, 12.0)))
        return done

    def _way_of_cut(self, way: Way | None, area_m2: float) -> Way:
        if way is None and area_m2 > MAIN_ROAD_FROM_M2:
            return Way.HIGHWAY if self.rng.random() < HIGHWAY_SHARE else Way.MAIN
        if way is None:
            return Way.STREET
        if way is Way.HEDGE:
            return Way(int(self.rng.choice([3, 4, 5], p=self.style.field_edge_shares)))
        return way

    def _keep(self, polygon: Points, use: Use) -> None:
        step_m = 60.0 if use is Use.LOT else 15.0
        self.parcels.append(Parcel(self.bend(densify(polygon, step_m, closed=True)), use))

    def _is_outside(self, polygon: Points) -> bool:
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        return bool(np.any(high < -MARGIN_M) or np.any(low > self.size + MARGIN_M))

    def bend(self, points: Points) -> Points:
        """Displace points smoothly: a sum of plane waves."""
        wave_xy, phase, shift = self.waves
        bent: Points = points + np.sin(points @ wave_xy.T + phase) @ shift
        return bent


def densify(points: Points, step_m: float, *, closed: bool = False) -> Points:
    """Insert points so that none are further apart than `step_m`."""
    ends = np.roll(points, -1, axis=0) if closed else points[1:]
    pieces = []
    for start, end in zip(points, ends, strict=False):
        count = int(np.hypot(*(end - start)) / step_m) + 1
        share = np.arange(count)[:, None] / count
        pieces.append(start + share * (end - start))
    if not closed:
        pieces.append(points[-1:])
    return np.concatenate(pieces)


def _halves(
    polygon: Points, rng: np.random.Generator, wobble_rad: float
) -> tuple[list[Points], Points]:
    """Both pieces of a convex polygon cut across its longer side, and the cut."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    axis = edges[lengths.argmax()] / lengths.max()
    frame = np.array([axis, [-axis[1], axis[0]]])
    along = polygon @ frame.T
    low, high = along.min(axis=0), along.max(axis=0)
    longer = int(np.argmax(high - low))
    through = (low + high) / 2
    through[longer] = low[longer] + (high - low)[longer] * rng.uniform(0.37, 0.63)
    turn = rng.normal(0, wobble_rad)
    normal = np.cos(turn) * frame[longer] + np.sin(turn) * frame[1 - longer]
    return _cut(polygon, (polygon - through @ frame) @ normal)


def _cut(polygon: Points, side: NDArray[np.float64]) -> tuple[list[Points], Points]:
    """Split a convex polygon where `side` (n,) changes sign."""
    left: list[Points] = []
    right: list[Points] = []
    cut: list[Points] = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        (left if side[i] >= 0 else right).append(polygon[i])
        if (side[i] >= 0) != (side[j] >= 0):
            crossing = polygon[i] + (polygon[j] - polygon[i]) * side[i] / (side[i] - side[j])
            for points in (left, right, cut):
                points.append(crossing)
    return [np.array(left), np.array(right)], np.array(cut)


def _inset(polygon: Points, margin_m: float) -> Points:
    """What a convex polygon keeps when each side moves in by `margin_m`; maybe nothing."""
    middle = polygon.mean(axis=0)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        edge = end - start
        normal = np.array([-edge[1], edge[0]]) / max(float(np.hypot(*edge)), 1e-6)
        normal = normal * np.sign((middle - start) @ normal)
        polygon = _cut(polygon, (polygon - start) @ normal - margin_m)[0][0]
        if len(polygon) < 3:
            return np.zeros((0, 2))
    return polygon


def _area(polygon: Points) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _bending_waves(rng: np.random.Generator, bend_m: float) -> tuple[Points, Points, Points]:
    """Wave vectors (k, 2), phases (k,) and displacements (k, 2) of `bend_m` in all."""
    length_m = np.geomspace(180, 1100, 7) * rng.uniform(0.85, 1.15, 7)
    heading, toward = rng.uniform(0, 2 * np.pi, (2, 7))
    size_m = bend_m * length_m / length_m.sum()
    wave_xy = (2 * np.pi / length_m * np.array([np.cos(heading), np.sin(heading)])).T
    shift = (size_m * np.array([np.cos(toward), np.sin(toward)])).T
    return wave_xy, rng.uniform(0, 2 * np.pi, 7), shift


def _river(rng: np.random.Generator, width_m: float, height_m: float) -> Points:
    """The middle of a meandering river through the picture, in steps of 10 m."""
    reach_m = width_m + height_m
    steps = int(2 * reach_m / 10)
    turning = np.convolve(rng.normal(0, 1, steps), np.hanning(21) / 9, mode="same")
    heading = rng.uniform(0, 2 * np.pi) + 0.35 * np.convolve(turning, np.hanning(15), mode="same")
    path = np.cumsum(10 * np.array([np.cos(heading), np.sin(heading)]).T, axis=0)
    through = rng.uniform(0.25, 0.75, 2) * (width_m, height_m)
    river: Points = path - path[steps // 2] + through
    return river
