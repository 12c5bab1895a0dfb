"""A believable satellite picture out of a seed: town and country, drawn from nothing.

    land (parcels, ways, river) -> ground -> water -> roads -> shadows -> roofs, cars -> crowns

The demo flies over it and training draws from it where real imagery is short. Every seed has its
own plan, and the seeds take turns among the styles of procedural_style.py.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geo import LocalFrame
from ..maps.raster import Raster
from .procedural_ground import (
    Cover,
    Crowns,
    Field,
    Picture,
    blend,
    cover_from_parcels,
    grow_crowns,
    noise,
    paint_ground,
    ramp,
)
from .procedural_land import Land, Points, Use, Way, land_from_style
from .procedural_style import STYLES, Style
from .procedural_town import (
    SUBPIXEL_BITS,
    Boxes,
    Sun,
    cars_from_ways,
    cars_from_yards,
    draw_flat,
    draw_roofs,
    fixed_from_points,
    halls_from_yards,
    houses_from_lots,
    shade_ground,
)

HALF_WIDTH_M: dict[Way, float] = {Way.HIGHWAY: 8.5, Way.MAIN: 4.4, Way.STREET: 3.1, Way.TRACK: 1.6}
PAVEMENT_M = 1.8
OPTICS_PX = 0.55  # deviation of the satellite's blur
SHADE = np.array([0.42, 0.45, 0.52], np.float32)  # what the blue sky leaves of sunlit ground
FAR_M = 1e4  # distance to a way of a kind that the picture has none of


def town_and_country(
    seed: int, width_m: float, height_m: float, gsd_m: float, origin: LocalFrame
) -> Raster:
    """Draw a landscape of `width_m` x `height_m` around the origin.

    The same seed and size give the same fields and streets at every `gsd_m`; textures differ.
    """
    plan = np.random.default_rng((seed, 0))
    style = STYLES[seed % len(STYLES)]
    shape = (round(height_m / gsd_m), round(width_m / gsd_m))
    land = land_from_style(plan, style, width_m, height_m)
    image = _Painter(plan, np.random.default_rng((seed, 1)), style, land, shape, gsd_m).paint()
    return Raster(image, np.ones(shape, bool), origin, -width_m / 2, height_m / 2, gsd_m)


class _Painter:
    """The layers of one picture, from the ground up."""

    def __init__(
        self, plan: np.random.Generator, texture: np.random.Generator, style: Style, land: Land,
        shape: tuple[int, int], gsd_m: float,
    ) -> None:  # fmt: skip
        self.plan, self.texture = plan, texture  # what must not depend on the scale, what may
        self.style, self.land, self.shape, self.gsd_m = style, land, shape, gsd_m
        bearing = plan.uniform(np.radians(100), np.radians(260))
        self.sun = Sun(np.array([np.sin(bearing), -np.cos(bearing)]), plan.uniform(0.6, 1.1))
        self.away_m: dict[Way, Field] = {
            way: self._distance_m(land.ways[way]) for way in Way if way != Way.FENCE
        }
        self.road_edge_m = np.minimum.reduce(
            [self.away_m[way] - np.float32(half) for way, half in HALF_WIDTH_M.items()]
        )

    def paint(self) -> NDArray[np.uint8]:
        """All layers, (H, W, 3) RGB."""
        cover = cover_from_parcels(self.plan, self.style, self.land.parcels)
        label = self._labels()
        picture = paint_ground(self.texture, self.style, cover, label, self.gsd_m)
        self._paint_edges(picture)
        water = self._paint_water(picture)
        urban = cv2.blur(cover.urban[label], (round(30 / self.gsd_m) | 1,) * 2)
        self._paint_roads(picture, water, urban.astype(np.float32))
        houses, halls = self._buildings(water)
        built = self._footprints(houses, halls)
        crowns = self._crowns(cover, label, np.maximum(water, built))
        self._shade(picture, crowns, houses, halls)
        solid = np.clip(picture, 0, 255).astype(np.uint8)
        self._draw_objects(solid, houses, halls, water)
        return self._finish(solid, crowns)

    def _labels(self) -> NDArray[np.int32]:
        label = np.zeros(self.shape, np.int32)
        for index, parcel in enumerate(self.land.parcels):
            cv2.fillPoly(label, [self._fixed(parcel.outline)], index + 1, shift=SUBPIXEL_BITS)
        sway = [noise(self.texture, self.shape, 7 / self.gsd_m, 3) for _ in range(2)]
        reach = np.float32(0.8 / self.gsd_m)
        row = np.arange(self.shape[0])[:, None] + np.rint(sway[0] * reach).astype(np.int32)
        column = np.arange(self.shape[1])[None] + np.rint(sway[1] * reach).astype(np.int32)
        row, column = row.clip(0, self.shape[0] - 1), column.clip(0, self.shape[1] - 1)
        swayed: NDArray[np.int32] = label[row, column]
        return swayed

    def _paint_edges(self, picture: Picture) -> None:
        """Hedges, and the fences that the parcels meet at."""
        lines = np.zeros(self.shape, np.uint8)
        fences = [self._fixed(fence) for fence in self.land.ways[Way.FENCE]]
        cv2.polylines(lines, fences, False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
        blend(picture, np.array(self.style.soil) * 0.62, lines * np.float32(0.4 / 255))
        ragged = np.float32(0.9) * noise(self.texture, self.shape, 6 / self.gsd_m, 3)
        hedge = ramp(ragged - self.away_m[Way.HEDGE], -1.9, -0.9)
        blend(picture, np.array(self.style.forest) * 0.95, hedge)

    def _paint_water(self, picture: Picture) -> Field:
        """River and lakes with muddy banks; returns their coverage."""
        depth = np.full(self.shape, -FAR_M, np.float32)
        shore = noise(self.texture, self.shape, 45 / self.gsd_m, 4)
        if self.land.river is not None:
            half = np.float32(self.land.river_width_m / 2) * (1 + np.float32(0.16) * shore)
            depth = half - self._distance_m([self.land.river])
        if self.plan.random() < self.style.lake_share:
            basin = noise(self.texture, self.shape, 420 / self.gsd_m, 3)
            basin -= ramp(30 - self.road_edge_m, 0, 30) * np.float32(0.9)
            depth = np.maximum(depth, (basin - np.float32(1.75)) * 60 + 2 * shore)
        bank = ramp(depth + 1.3 * shore, -7, -0.5)
        blend(picture, np.array(self.style.soil) * 0.82, bank * np.float32(0.7))
        water = ramp(depth, -0.5, 0.8)
        ripple = 1 + np.float32(0.05) * noise(self.texture, self.shape, 30 / self.gsd_m, 5)
        tone = ripple * (np.float32(1.2) - np.float32(0.25) * ramp(depth, 0, 14))
        blend(picture, np.array(self.style.water), water, tone)
        return water

    def _paint_roads(self, picture: Picture, water: Field, urban: Field) -> None:
        """Tracks first, highways last; only main roads have bridges."""
        gsd, dry = self.gsd_m, 1 - water
        asphalt, dirt = np.array(self.style.asphalt), np.array(self.style.dirt_road)
        tone = 1 + np.float32(0.045) * noise(self.texture, self.shape, 12 / gsd, 4)
        track = self._within(Way.TRACK, 6 * (tone - 1)) * np.float32(0.85) * dry
        blend(picture, dirt, track, tone)
        walk = ramp(HALF_WIDTH_M[Way.STREET] + PAVEMENT_M - self.away_m[Way.STREET], 0, gsd)
        blend(picture, asphalt * 1.22, walk * urban * dry * np.float32(0.8), tone)
        street = self._within(Way.STREET) * dry
        blend(picture, asphalt, street, tone)
        dust = noise(self.texture, self.shape, 160 / gsd, 2)
        unpaved = ramp(dust, 1.2 - 2 * self.style.dryness, 1.5 - 2 * self.style.dryness)
        blend(picture, dirt, street * unpaved, tone)
        for way, verge_m in ((Way.MAIN, 2.0), (Way.HIGHWAY, 3.5)):
            verge = ramp(HALF_WIDTH_M[way] + verge_m - self.away_m[way] + 20 * (tone - 1), 0, 2)
            blend(picture, dirt * 0.88, verge * np.float32(0.55) * dry, tone)
            blend(picture, asphalt * 0.95, self._within(way), tone)
        self._paint_lanes(picture)

    def _paint_lanes(self, picture: Picture) -> None:
        """Dashed centre lines, edge lines, and the green between two carriageways."""
        highway, main = self.away_m[Way.HIGHWAY], self.away_m[Way.MAIN]
        blend(picture, np.array(self.style.grass) * 0.9, ramp(1.3 - highway, 0, self.gsd_m))
        dashes = np.zeros(self.shape, np.uint8)
        radius = round(3.2 / self.gsd_m * 2**SUBPIXEL_BITS)
        for way in self.land.ways[Way.MAIN] + self.land.ways[Way.HIGHWAY]:
            for center in self._fixed(way[::2]):
                cv2.circle(dashes, center.tolist(), radius, 255, -1, shift=SUBPIXEL_BITS)
        dash, whole = dashes.astype(np.float32) / 255, np.ones(self.shape, np.float32)
        paint, share = np.array(self.style.asphalt) * 0.3 + 165, min(1.0, 0.2 / self.gsd_m)
        for away, offset_m, gaps in ((main, 0, dash), (main, 4.0, whole), (highway, 8.0, whole),
                                     (highway, 4.8, dash), (highway, 1.6, whole)):  # fmt: skip
            line = ramp(np.abs(away - np.float32(offset_m)), 0.1 + self.gsd_m / 2, 0.05)
            blend(picture, paint, line * np.float32(share) * gaps)

    def _buildings(self, water: Field) -> tuple[Boxes, Boxes]:
        """Houses and halls that stand on dry ground beside the roads."""
        houses = houses_from_lots(self.plan, self.style, self._outlines(Use.LOT))
        halls = halls_from_yards(self.plan, self._outlines(Use.YARD))
        return houses.keep(self._stands(houses, water)), halls

    def _draw_objects(
        self, image: NDArray[np.uint8], houses: Boxes, halls: Boxes, water: Field
    ) -> None:
        """Cars and their shadows, then roofs."""
        rng, ways = self.plan, self.land.ways
        fleets = [cars_from_yards(rng, self._outlines(Use.YARD), halls)]
        for way, offset_m, spacing_m in ((Way.STREET, 2.0, 55), (Way.MAIN, 1.9, 90),
                                         (Way.HIGHWAY, 4.0, 60)):  # fmt: skip
            fleets.append(cars_from_ways(rng, ways[way], offset_m, spacing_m))
        for fleet in fleets:
            cars = fleet.keep(self._probe(water, fleet.center) < 0.5)
            half = np.maximum(cars.half_m - 0.3 * self.gsd_m, 0.25)  # drawing adds its own edge
            cars = replace(cars, half_m=half)
            dark = replace(cars, center=cars.center + self.sun.shadow_per_height * 0.7)
            draw_flat(image, dark, np.full(cars.color.shape, 52.0), self.gsd_m)
            draw_flat(image, cars, cars.color, self.gsd_m)
        draw_roofs(rng, image, halls, self.sun, self.gsd_m)
        draw_roofs(rng, image, houses, self.sun, self.gsd_m)

    def _footprints(self, *buildings: Boxes) -> Field:
        """Where buildings stand, with a margin that crowns keep off, 0..1."""
        mask = np.zeros(self.shape, np.uint8)
        for boxes in buildings:
            for outline in self._fixed(boxes.corners(1.15)):
                cv2.fillConvexPoly(mask, outline, 255, shift=SUBPIXEL_BITS)
        share: Field = mask.astype(np.float32) * np.float32(1 / 255)
        return share

    def _crowns(self, cover: Cover, label: NDArray[np.int32], taken: Field) -> Crowns:
        """Trees where parcels, hedges and road sides have them, none on roads and roofs."""
        density = cover.tree_share[label]
        clearing = noise(self.texture, self.shape, 70 / self.gsd_m, 4)
        density *= ramp(clearing, -2.2, -1.1) + np.float32(0.3) * ramp(clearing, 1.0, 2.0)
        hedge = ramp(self.away_m[Way.HEDGE], 3.2, 2.0) * np.float32(0.75)
        avenue = ramp(np.abs(self.road_edge_m - np.float32(3.0)), 1.5, 0.8) * np.float32(0.1)
        density = np.maximum.reduce([density, hedge, avenue])
        density *= (self.road_edge_m > 1.2) * (1 - taken)
        return grow_crowns(self.texture, self.style, density, self.sun, self.gsd_m)

    def _shade(self, picture: Picture, crowns: Crowns, *buildings: Boxes) -> None:
        """Darken the ground where buildings and crowns keep the sun off."""
        mask = np.zeros(self.shape, np.uint8)
        for boxes in buildings:
            shade_ground(mask, boxes, self.sun, self.gsd_m)
        shade = np.maximum(mask.astype(np.float32) / 255, crowns.shadow(self.sun, self.gsd_m))
        picture *= 1 - shade[..., None] * (1 - SHADE)

    def _stands(self, boxes: Boxes, water: Field) -> NDArray[np.bool_]:
        """Which boxes keep clear of roads and water, (n,)."""
        probes = np.concatenate([boxes.corners(), boxes.center[:, None]], axis=1)
        clear = (self._probe(self.road_edge_m, probes) > 0.8) & (self._probe(water, probes) < 0.05)
        return np.asarray(clear.all(axis=1), bool)

    def _probe(self, layer: Field, points_m: NDArray[np.float64]) -> Field:
        """Values of a layer at ground points (..., 2), those outside at the border."""
        cell = (points_m / self.gsd_m).astype(np.int64)
        values: Field = layer[
            cell[..., 1].clip(0, self.shape[0] - 1), cell[..., 0].clip(0, self.shape[1] - 1)
        ]
        return values

    def _outlines(self, use: Use) -> list[Points]:
        return [parcel.outline for parcel in self.land.parcels if parcel.use is use]

    def _within(self, way: Way, slack_m: Field | float = 0.0) -> Field:
        """Coverage of a road's surface, 0..1."""
        return ramp(HALF_WIDTH_M[way] + slack_m - self.away_m[way], -self.gsd_m / 2, self.gsd_m / 2)

    def _distance_m(self, lines: list[Points]) -> Field:
        """Distance to the nearest of some polylines, (H, W)."""
        if not lines:
            return np.full(self.shape, FAR_M, np.float32)
        mask = np.zeros(self.shape, np.uint8)
        fixed = [self._fixed(line) for line in lines]
        cv2.polylines(mask, fixed, isClosed=False, color=255, shift=SUBPIXEL_BITS)
        away_px = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 5)
        away_m: Field = np.minimum(away_px, FAR_M).astype(np.float32) * np.float32(self.gsd_m)
        return away_m

    def _fixed(self, points_m: NDArray[np.float64]) -> NDArray[np.int32]:
        return fixed_from_points(points_m, self.gsd_m)

    def _finish(self, solid: NDArray[np.uint8], crowns: Crowns) -> NDArray[np.uint8]:
        """Crowns over all, then grain, haze and the optics' blur."""
        picture = solid.astype(np.float32)
        blend(picture, crowns.color, crowns.alpha)
        jitter = self.style.jittered(self.plan)
        grain = self.texture.standard_normal(self.shape, np.float32)
        light = 1 + np.float32(0.03) * noise(self.texture, self.shape, 300 / self.gsd_m, 2)
        light += np.float32(0.022) * grain
        picture *= light[..., None] * (jitter.tint * np.float32(jitter.brightness))
        return np.clip(cv2.GaussianBlur(picture, (0, 0), OPTICS_PX), 0, 255).astype(np.uint8)
