"""The map's scales: what is made when a localizer starts is not made again in a frame."""

from dataclasses import replace

import numpy as np
import pytest

from skyfix.runtime.fuse.chart import Pixels
from skyfix.runtime.fuse.scales import COARSE_PX, FINE_PX, ROUGH_PX, scales_of
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

from .conftest import Land, picture

TILE_M = 160.0


def test_a_tile_has_about_as_many_pixels_as_is_wanted_at_each_scale(land: Land) -> None:
    scales = scales_of(land.chart, TILE_M)  # 600 m at 1 m a pixel
    assert (scales.rough.side_px, scales.coarse.side_px) == (ROUGH_PX, COARSE_PX)
    assert scales.fine.side_px == FINE_PX
    for scale in (scales.rough, scales.coarse, scales.fine):
        assert scale.side_px * scale.gsd_m == pytest.approx(TILE_M)


@pytest.mark.parametrize(("height_m", "width_m"), [(600, 600), (300, 600), (600, 300)])
def test_once_made_no_window_of_a_small_map_reads_it_again(height_m: int, width_m: int) -> None:
    image = np.repeat(picture(5, 600, 4.0)[:height_m, :width_m, None], 3, axis=2)
    valid = np.ones((height_m, width_m), bool)
    land = Land(Raster(image, valid, LocalFrame(45.0, 9.0), -300.0, 300.0, 1.0))
    reads: list[float] = []

    def counted(west_m: float, north_m: float, size_px: tuple[int, int]) -> Pixels:
        reads.append(west_m)
        return land.chart.read(west_m, north_m, size_px)

    scales = scales_of(replace(land.chart, read=counted), TILE_M)
    west_m, south_m, east_m, north_m = land.raster.bounds_m
    scales.rough.make(north_m - south_m, east_m - west_m)
    made = len(reads)
    assert made > 0
    for east, north in (
        (0.0, south_m),
        (west_m, north_m),
        (east_m, south_m),
        ((west_m + east_m) / 2, north_m),
    ):
        scales.fine.chart.around(east, north, 104)
        scales.coarse.chart.around(east, north, 26)
        scales.rough.chart.around(east, north, 12)
    assert len(reads) == made
