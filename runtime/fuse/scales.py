"""The map at the three scales of refinement, by the pixels across a tile.

A finer map than the finest of them costs a tenth to a fifth of a frame's time and places little
better: with one of 1 m a pixel fengyuan's medians, of 1.6 to 2.6 m, are the same within 0.3 m, with
one of 5 m a pixel those of flights over naip, of 3 to 5 m, were 0.2 to 0.7 m less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..maps.pack import TilePack
from ..types import Hypothesis
from .chart import Chart, Window

ROUGH_PX, COARSE_PX, FINE_PX = 10, 20, 80  # across a tile, about: whole pixels are averaged
LEAST_SIDE_PX = 8  # of a template, where the map is too coarse for its tiles
STRIP_PX = 256  # of the map, made at once


@dataclass(frozen=True)
class Scale:
    """The map's structure at one scale, and how many of its pixels a template has across.

    That is a tile's width, or LEAST_SIDE_PX.
    """

    chart: Chart
    side_px: int

    @property
    def gsd_m(self) -> float:
        """Metres a pixel."""
        return self.chart.gsd_m

    def around(self, place: Hypothesis, margin_px: int) -> Window:
        """The map around a place, with a margin about a tile."""
        return self.chart.around(place.east_m, place.north_m, self.side_px + 2 * margin_px)

    def levels_around(self, places: Sequence[Hypothesis], margin_px: int) -> NDArray[np.int8]:
        """The levels of the map around each of many places, (K, S, S, 3), read at once."""
        east_m, north_m = np.array([(place.east_m, place.north_m) for place in places]).T
        return self.chart.levels_around(east_m, north_m, self.side_px + 2 * margin_px)

    def make(self, height_m: float, width_m: float) -> None:
        """Make all of a map of this size now, and around it, so that no search has to wait for it.

        Windows at the edge reach beyond it by less than a tile. The finer charts that it is made of
        keep what their bound allows (chart.py).
        """
        rows, columns = (
            math.ceil(side_m / self.gsd_m) + 2 * self.side_px for side_m in (height_m, width_m)
        )
        west_m = self.chart.west_m - self.side_px * self.gsd_m
        for row in range(-self.side_px, rows - self.side_px, STRIP_PX):
            self.chart.read(west_m, self.chart.north_m - row * self.gsd_m, (STRIP_PX, columns))


@dataclass(frozen=True)
class Scales:
    """The map at the three scales of refinement."""

    rough: Scale
    coarse: Scale
    fine: Scale


def scales_of_pack(pack: TilePack) -> Scales:
    """Those of a pack's overview."""
    view = pack.manifest.overview
    chart = Chart(pack.overview, view.west_m, view.north_m, view.gsd_m)
    return scales_of(chart, pack.manifest.tile_m)


def scales_of(chart: Chart, tile_m: float) -> Scales:
    """Structure at whole pixels of the overview, averaged to about what is wanted across a tile."""
    fine = chart.averaged(_factor(chart, tile_m, FINE_PX)).structured(tile_m)
    coarse = fine.averaged(_factor(fine, tile_m, COARSE_PX))
    rough = coarse.averaged(_factor(coarse, tile_m, ROUGH_PX))
    return Scales(*(_scale(level, tile_m) for level in (rough, coarse, fine)))


def _factor(chart: Chart, tile_m: float, wanted_px: int) -> int:
    return max(1, round(tile_m / (wanted_px * chart.gsd_m)))


def _scale(chart: Chart, tile_m: float) -> Scale:
    return Scale(chart, max(LEAST_SIDE_PX, round(tile_m / chart.gsd_m)))
