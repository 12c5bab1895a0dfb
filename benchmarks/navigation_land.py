"""Large maps to be lost in: 100 km2 that are drawn from a seed, with real maps set into them.

    0 km                                              10 km
    +-----------------+                                    ^
    | naip, 5 m/px    |     [fengyuan, 0.16 m/px]          | 3.8 km
    +-----------------+                                    v
    procedural blocks of 2.5 km, a seed and a style each    <- here the simulated flights are
    +------------------------------------------------+

The land is in fengyuan's own east/north frame, so its map keeps its coordinates. Blocks are drawn
when they are first read, into a file that is kept. The camera flies over another drawing of the
same plan: the same fields and streets, other textures, another scale.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.export.rasters import open_raster
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster, RasterReader
from skyfix.runtime.sense.procedural import town_and_country

BLOCK_M = 2500.0
FIRST_SEED = 600  # maps 1000 and up are trained on, 500 to 503 calibrate, small seeds fly the demo
MAP_GSD_M, CAMERA_GSD_M = 1.25, 1.0
WEST_M, NORTH_M = -6200.0, 2700.0  # of the land, from fengyuan's centre
NAIP_SHIFT_M = (-3700.0, 800.0)  # of naip's centre, to the north-west corner
FLOWN_SOUTH_OF_M = -1150.0  # clear of both insets

Bounds = tuple[float, float, float, float]  # west, south, east, north


@dataclass(frozen=True)
class DrawnLand:
    """A RasterReader over blocks of town and country, each drawn when it is first touched."""

    folder: Path  # keeps the drawing
    frame: LocalFrame
    number: int  # each land has seeds of its own
    blocks: int  # on a side
    gsd_m: float
    west_m: float = WEST_M
    north_m: float = NORTH_M

    @property
    def bounds_m(self) -> Bounds:
        """West, south, east, north edges."""
        side_m = self.blocks * BLOCK_M
        return self.west_m, self.north_m - side_m, self.west_m + side_m, self.north_m

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float) -> Raster:
        """The window whose outer corner is (west_m, north_m)."""
        rows, columns = size_px
        down = (self.north_m - north_m, self.north_m - north_m + rows * gsd_m)
        right = (west_m - self.west_m, west_m - self.west_m + columns * gsd_m)
        for row, column in product(self._touched(*down), self._touched(*right)):
            self._draw(row, column)
        return self._picture.read(west_m, north_m, size_px, gsd_m)

    @property
    def _side_px(self) -> int:
        return round(BLOCK_M / self.gsd_m)

    @cached_property
    def _picture(self) -> Raster:
        """All blocks as one picture on disk, black where nothing was drawn yet."""
        side = self.blocks * self._side_px
        image = np.asarray(_mapped(self._name("image.npy"), (side, side, 3)))
        return Raster(
            image, np.ones((side, side), bool), self.frame, self.west_m, self.north_m, self.gsd_m
        )

    @cached_property
    def _is_drawn(self) -> NDArray[np.uint8]:
        return _mapped(self._name("drawn.npy"), (self.blocks, self.blocks))

    def _touched(self, begin_m: float, end_m: float) -> range:
        """Blocks in one direction, with a pixel more on either side."""
        first = int((begin_m - 2 * self.gsd_m) // BLOCK_M)
        last = int((end_m + 2 * self.gsd_m) // BLOCK_M)
        return range(max(0, first), min(self.blocks, last + 1))

    def _draw(self, row: int, column: int) -> None:
        if self._is_drawn[row, column]:
            return
        seed = FIRST_SEED + 16 * self.number + self.blocks * row + column
        block = town_and_country(seed, BLOCK_M, BLOCK_M, self.gsd_m, self.frame)
        side = self._side_px
        here = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        self._picture.image[here] = block.image
        self._is_drawn[row, column] = 1  # after the block: an interrupted one is drawn again

    def _name(self, what: str) -> Path:
        key = f"{self.number} {self.blocks} {self.gsd_m} {BLOCK_M} {FIRST_SEED}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        return self.folder / f"land{self.number}-{self.gsd_m:g}m-{digest}-{what}"


@dataclass(frozen=True)
class Inset:
    """A RasterReader with others painted over it, each moved by some metres from its own frame."""

    around: RasterReader
    maps: Sequence[tuple[RasterReader, tuple[float, float]]] = field(default=())

    @property
    def frame(self) -> LocalFrame:
        """Of the surround."""
        return self.around.frame

    @property
    def gsd_m(self) -> float:
        """The finest of all."""
        return min(self.around.gsd_m, *(reader.gsd_m for reader, _ in self.maps))

    @property
    def bounds_m(self) -> Bounds:
        """Of the surround."""
        return self.around.bounds_m

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float) -> Raster:
        """The window, the last map on top."""
        window = self.around.read(west_m, north_m, size_px, gsd_m)
        for reader, (east, north) in self.maps:
            corner = (west_m - east, north_m - north)
            if _overlap(reader.bounds_m, (*corner, *size_px), gsd_m):
                inner = reader.read(*corner, size_px, gsd_m)
                window.image[inner.valid] = inner.image[inner.valid]
                window.valid[inner.valid] = True
        return window


@dataclass(frozen=True)
class Part:
    """A RasterReader that ends earlier than the map it reads."""

    whole: RasterReader
    bounds_m: Bounds

    @property
    def frame(self) -> LocalFrame:
        """Of the whole map."""
        return self.whole.frame

    @property
    def gsd_m(self) -> float:
        """Of the whole map."""
        return self.whole.gsd_m

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float) -> Raster:
        """As the whole map."""
        return self.whole.read(west_m, north_m, size_px, gsd_m)


def area_km2(reader: RasterReader) -> float:
    """Of the bounds."""
    west, south, east, north = reader.bounds_m
    return (east - west) * (north - south) / 1e6


def large_map(data: Path, folder: Path, number: int, blocks: int) -> Inset:
    """The map of a land: fengyuan where it is, and naip where there is room for it."""
    fengyuan = open_raster(data / "fengyuan" / "map.tif").reader
    naip = open_raster(data / "naip" / "20120731.tif").reader
    land = DrawnLand(folder, fengyuan.frame, number, blocks, MAP_GSD_M, *_corner(blocks))
    insets = [(fengyuan, (0.0, 0.0))]
    return Inset(land, insets if blocks < 4 else [(naip, NAIP_SHIFT_M), *insets])


def seen_from_above(large: Inset) -> DrawnLand:
    """What the camera of a simulated flight over a land sees: the same plan, drawn again."""
    land = large.around
    assert isinstance(land, DrawnLand)
    return DrawnLand(
        land.folder, land.frame, land.number, land.blocks, CAMERA_GSD_M, land.west_m, land.north_m
    )


def flown_bounds(large: Inset) -> Bounds:
    """Where simulated flights go: the drawn part alone."""
    west, south, east, north = large.bounds_m
    return west, south, east, min(north, FLOWN_SOUTH_OF_M)


def _corner(blocks: int) -> tuple[float, float]:
    """West and north edge: as drawn above, or just around fengyuan where the land is small."""
    return (WEST_M, NORTH_M) if blocks >= 4 else (-600.0, 600.0)


def _overlap(bounds: Bounds, window: tuple[float, float, int, int], gsd_m: float) -> bool:
    west, south, east, north = bounds
    left, top, rows, columns = window
    return left < east and top > south and left + columns * gsd_m > west and (
        top - rows * gsd_m < north
    )  # fmt: skip


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array in a file, zero where it was never written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return np.lib.format.open_memmap(path, "r+")
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)
