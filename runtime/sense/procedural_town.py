"""Houses, halls and cars of a procedural landscape: rectangles in metres, and how they are drawn.

A building is a rectangle with a height and a ridge. Ridge length 0..1 of the length turns a tent
roof (0) through a hipped one into a gable (1); a flat roof has a parapet instead. Every roof facet
is as bright as it faces the sun, and every building throws its shadow away from it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .procedural_land import Points
from .procedural_style import Style

STOREY_M = 3.1
ROOF_PITCH = 0.55  # rise over run of pitched roofs
BLUE_STEEL = (92, 128, 160)  # RGB of painted halls
CAR_M = (4.4, 1.8)
CAR_COLORS = np.array(
    [(235, 235, 232), (238, 238, 236), (196, 198, 200), (60, 62, 66), (38, 40, 44),
     (138, 28, 30), (40, 62, 112), (150, 152, 156), (190, 176, 150)], np.float32,
)  # fmt: skip
SUBPIXEL_BITS = 4  # of cv2's fixed-point vertices

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sun:
    """Where the light comes from."""

    toward_xy: Array  # (2,) horizontal unit vector to the sun, x east, y south
    elevation_rad: float

    @property
    def shadow_per_height(self) -> Array:
        """Displacement in metres of the shadow of a point one metre high, (2,)."""
        offset: Array = -self.toward_xy / np.tan(self.elevation_rad)
        return offset


@dataclass(frozen=True)
class Boxes:
    """Rectangles on the ground, n of them."""

    center: Points  # (n, 2)
    angle_rad: Array  # (n,) of the longer side
    half_m: Points  # (n, 2) half length, half width
    height_m: Array  # (n,) of the walls
    ridge: Array  # (n,) ridge length over length, NaN = flat roof
    color: NDArray[np.float32]  # (n, 3)

    def corners(self, scale: float = 1.0) -> NDArray[np.float64]:
        """The corners of the rectangles, (n, 4, 2)."""
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * scale
        return self.at(signs[None] * self.half_m[:, None])

    def at(self, local_m: Array) -> Array:
        """Ground points of points (n, k, 2) in each box's own axes."""
        cos, sin = np.cos(self.angle_rad)[:, None], np.sin(self.angle_rad)[:, None]
        x, y = local_m[..., 0], local_m[..., 1]
        return np.stack([x * cos - y * sin, x * sin + y * cos], axis=2) + self.center[:, None]

    def keep(self, chosen: NDArray[np.bool_]) -> "Boxes":
        """Some of the boxes."""
        return Boxes(
            self.center[chosen], self.angle_rad[chosen], self.half_m[chosen],
            self.height_m[chosen], self.ridge[chosen], self.color[chosen],
        )  # fmt: skip


def houses_from_lots(rng: np.random.Generator, style: Style, lots: list[Points]) -> Boxes:
    """One house on each lot, along its longest side, now and then with a wing or a shed."""
    center, angle, half = _frames(lots)
    count = len(lots)
    fill = np.clip(style.built_share + rng.normal(0, 0.12, (count, 2)), 0.25, 0.94)
    size = np.clip(half * fill, 1.8, rng.uniform([[9, 6]], [[17, 12]], (count, 2)))
    center = center + rng.normal(0, 0.1, (count, 2)) * (half - size)
    angle = angle + rng.normal(0, style.wobble_rad / 3, count)
    palette = np.array(style.roofs, np.float32)
    # neighbours often share a roofer: runs of lots draw from few colours
    color = palette[(rng.integers(0, len(palette), count) * (rng.random(count) < 0.6)
                     + np.repeat(rng.integers(0, len(palette), count // 7 + 1), 7)[:count])
                    % len(palette)]  # fmt: skip
    color = color * rng.normal(1, 0.1, (count, 1)) + rng.normal(0, 5, (count, 3))
    ridge = np.where(rng.random(count) < 0.5, 1.0, rng.uniform(0.2, 0.6, count))
    ridge[rng.random(count) < style.flat_share] = np.nan
    height = STOREY_M * rng.uniform(*style.storeys, count)
    houses = Boxes(center, angle, size, height, ridge, color.astype(np.float32))
    return _joined(houses, _annexes(rng, houses, half))


def halls_from_yards(rng: np.random.Generator, yards: list[Points]) -> Boxes:
    """A large flat or shallow-gabled hall on one end of each yard."""
    center, angle, half = _frames(yards)
    count = len(yards)
    size = half * rng.uniform([[0.35, 0.45]], [[0.62, 0.75]], (count, 2))
    shift = np.stack([(half - size)[:, 0] * rng.choice([-0.75, 0.75], count), 0 * angle], 1)
    grey = rng.uniform(120, 235, (count, 1)) + rng.normal(0, 6, (count, 3))
    blue = rng.random(count) < 0.2
    grey[blue] = np.array(BLUE_STEEL) + rng.normal(0, 8, (int(blue.sum()), 3))
    ridge = np.where(rng.random(count) < 0.35, 1.0, np.nan)
    halls = Boxes(center, angle, size, rng.uniform(6, 12, count), ridge, grey.astype(np.float32))
    moved = halls.at(shift[:, None])[:, 0]
    return Boxes(moved, angle, size, halls.height_m, halls.ridge, halls.color)


def cars_from_yards(rng: np.random.Generator, yards: list[Points], halls: Boxes) -> Boxes:
    """Rows of parked cars on the end of each yard that its hall leaves free."""
    center, angle, half = _frames(yards)
    places, angles = [], []
    for i in range(len(yards)):
        axis = np.array([np.cos(angle[i]), np.sin(angle[i])])
        side = -np.sign((halls.center[i] - center[i]) @ axis)
        reach = 2 * (half[i, 0] - halls.half_m[i, 0]) - 6
        if reach < 8 or rng.random() < 0.3:
            continue
        rows = np.arange(4, reach, 8.5) * -side + side * half[i, 0]
        slots = np.arange(-half[i, 1] + 5, half[i, 1] - 5, 2.6)
        grid = np.stack(np.meshgrid(rows, slots), axis=2).reshape(-1, 2)
        grid = grid[rng.random(len(grid)) < rng.uniform(0.15, 0.85)]
        places.append(center[i] + grid @ np.array([axis, [-axis[1], axis[0]]]))
        angles.append(np.full(len(grid), angle[i]))
    if not places:
        return _cars(rng, np.zeros((0, 2)), np.zeros(0))
    return _cars(rng, np.concatenate(places), np.concatenate(angles))


def cars_from_ways(
    rng: np.random.Generator, ways: list[Points], offset_m: float, spacing_m: float
) -> Boxes:
    """Cars on both sides of roads, `offset_m` from the middle and about `spacing_m` apart."""
    places, angles = [np.zeros((0, 2))], [np.zeros(0)]
    for way in ways:
        step = np.diff(way, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        count = rng.poisson(length.sum() / spacing_m)
        if count == 0:
            continue
        leg = rng.choice(len(step), count, p=length / length.sum())
        axis = step[leg] / length[leg, None]
        normal = np.stack([-axis[:, 1], axis[:, 0]], 1) * rng.choice([-1, 1], (count, 1))
        places.append(way[leg] + step[leg] * rng.random((count, 1)) + normal * offset_m)
        angles.append(np.arctan2(axis[:, 1], axis[:, 0]))
    return _cars(rng, np.concatenate(places), np.concatenate(angles))


def shade_ground(mask: NDArray[np.uint8], boxes: Boxes, sun: Sun, gsd_m: float) -> None:
    """Draw the shadows of the boxes into a mask (H, W) as 255."""
    corners = boxes.corners()
    thrown = corners + boxes.height_m[:, None, None] * sun.shadow_per_height
    for outline in fixed_from_points(np.concatenate([corners, thrown], axis=1), gsd_m):
        hull = cv2.convexHull(outline)
        cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_roofs(
    rng: np.random.Generator, image: NDArray[np.uint8], boxes: Boxes, sun: Sun, gsd_m: float
) -> None:
    """Draw pitched and flat roofs into an RGB image."""
    flat = np.isnan(boxes.ridge)
    _draw_pitched(image, boxes.keep(~flat), sun, gsd_m)
    level = boxes.keep(flat)
    draw_flat(image, level, level.color * 1.12, gsd_m)  # the parapet catches the light
    inner = Boxes(level.center, level.angle_rad, np.maximum(level.half_m - 0.5, 0.5),
                  level.height_m, level.ridge, level.color)  # fmt: skip
    draw_flat(image, inner, level.color * 0.94, gsd_m)
    plant = inner.keep(rng.random(len(inner.center)) < 0.7)
    size = np.minimum(rng.uniform(0.8, 3.0, plant.half_m.shape), plant.half_m * 0.4)
    spot = rng.uniform(-0.55, 0.55, plant.half_m.shape) * plant.half_m
    units = Boxes(plant.at(spot[:, None])[:, 0], plant.angle_rad, size, plant.height_m,
                  plant.ridge, plant.color)  # fmt: skip
    draw_flat(image, units, plant.color * rng.uniform(0.5, 1.3, (len(size), 1)), gsd_m)


def draw_flat(
    image: NDArray[np.uint8], boxes: Boxes, color: NDArray[np.floating], gsd_m: float
) -> None:
    """Draw the boxes' outlines filled with a colour (n, 3) each."""
    _fill(image, boxes.corners(), color, gsd_m)


def _draw_pitched(image: NDArray[np.uint8], boxes: Boxes, sun: Sun, gsd_m: float) -> None:
    corners = boxes.corners()
    ridge = np.stack([boxes.half_m[:, 0] * boxes.ridge, 0 * boxes.ridge], axis=1)
    ends = boxes.at(np.stack([-ridge, ridge], axis=1))
    first, last = ends[:, 0], ends[:, 1]
    c = corners.transpose(1, 0, 2)
    facets = ((c[0], c[1], last, first), (c[1], c[2], last, last),
              (c[2], c[3], first, last), (c[3], c[0], first, first))  # fmt: skip
    for facet in facets:
        edge = facet[1] - facet[0]
        outward = np.stack([edge[:, 1], -edge[:, 0]], 1)
        outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
        facing = ROOF_PITCH * np.cos(sun.elevation_rad) * (outward @ sun.toward_xy)
        light = (facing + np.sin(sun.elevation_rad)) / np.hypot(1, ROOF_PITCH)
        light = (0.45 + light) / (0.45 + np.sin(sun.elevation_rad))
        _fill(image, np.stack(facet, axis=1), boxes.color * light[:, None], gsd_m)


def _fill(
    image: NDArray[np.uint8], outlines: Array, color: NDArray[np.floating], gsd_m: float
) -> None:
    colors = np.clip(color, 0, 255).tolist()
    for outline, rgb in zip(fixed_from_points(outlines, gsd_m), colors, strict=True):
        cv2.fillConvexPoly(image, outline, rgb, cv2.LINE_AA, SUBPIXEL_BITS)


def fixed_from_points(points_m: Array, gsd_m: float) -> NDArray[np.int32]:
    """Pixels of ground points in cv2's fixed point."""
    fixed: NDArray[np.int32] = np.rint((points_m / gsd_m - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)
    return fixed


def _frames(outlines: list[Points]) -> tuple[Points, Array, Points]:
    """Centre (n, 2), angle (n,) of the longest side and half extents (n, 2) of polygons."""
    count = len(outlines)
    center, angle, half = np.zeros((count, 2)), np.zeros(count), np.zeros((count, 2))
    for i, outline in enumerate(outlines):
        edge = np.roll(outline, -1, axis=0) - outline
        along = edge[np.hypot(edge[:, 0], edge[:, 1]).argmax()]
        angle[i] = np.arctan2(along[1], along[0])
        axes = np.array(
            [[np.cos(angle[i]), np.sin(angle[i])], [-np.sin(angle[i]), np.cos(angle[i])]]
        )
        local = outline @ axes.T
        low, high = local.min(axis=0), local.max(axis=0)
        center[i], half[i] = (low + high) / 2 @ axes, (high - low) / 2
        if half[i, 1] > half[i, 0]:
            angle[i], half[i] = angle[i] + np.pi / 2, half[i, ::-1]
    return center, angle, half


def _annexes(rng: np.random.Generator, houses: Boxes, lot_half: Points) -> Boxes:
    """Wings across the houses, and sheds in the corners of the larger lots."""
    chosen = houses.keep(rng.random(len(houses.center)) < 0.35)
    spot = chosen.half_m * rng.choice([-1, 1], chosen.half_m.shape) * (0.45, 0.75)
    wings = Boxes(chosen.at(spot[:, None])[:, 0], chosen.angle_rad + np.pi / 2,
                  chosen.half_m * (0.45, 0.5), chosen.height_m * 0.85, chosen.ridge,
                  chosen.color * 0.97)  # fmt: skip
    roomy = (lot_half - houses.half_m).min(axis=1) > 3.0
    plots = houses.keep(roomy)
    spot = (plots.half_m + 2.2) * rng.choice([-1, 1], plots.half_m.shape)
    count = len(plots.center)
    size, grey = rng.uniform(1.0, 2.4, (count, 2)), rng.uniform(90, 200, (count, 1))
    sheds = Boxes(plots.at(spot[:, None])[:, 0], plots.angle_rad, size, np.full(count, 2.4),
                  np.full(count, np.nan), grey.astype(np.float32).repeat(3, axis=1))  # fmt: skip
    return _joined(wings, sheds)


def _joined(first: Boxes, second: Boxes) -> Boxes:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Boxes(*(np.concatenate(pair) for pair in pairs))


def _cars(rng: np.random.Generator, center: Points, angle_rad: Array) -> Boxes:
    count = len(center)
    size = np.array(CAR_M) / 2 * rng.normal(1, 0.07, (count, 1))
    color = CAR_COLORS[rng.integers(0, len(CAR_COLORS), count)]
    center = center + rng.normal(0, 0.15, (count, 2))
    return Boxes(center, angle_rad, size, np.full(count, 1.5), np.full(count, np.nan), color)
