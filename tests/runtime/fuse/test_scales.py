"""The map's scales: what is made when a localizer starts is not made again in a frame."""

from dataclasses import replace

import pytest

from skyfix.runtime.fuse.chart import Pixels
from skyfix.runtime.fuse.scales import COARSE_PX, MIDDLE_PX, ROUGH_PX, scales_of

from .conftest import Land

TILE_M = 160.0


def test_a_tile_has_about_as_many_pixels_as_is_wanted_at_each_scale(land: Land) -> None:
    scales = scales_of(land.chart, TILE_M)  # 600 m at 1 m a pixel
    assert (scales.rough.side_px, scales.coarse.side_px) == (ROUGH_PX, COARSE_PX)
    assert scales.middle.side_px == MIDDLE_PX
    assert scales.fine.side_px == 160
    for scale in (scales.rough, scales.coarse, scales.middle, scales.fine):
        assert scale.side_px * scale.gsd_m == pytest.approx(TILE_M)


def test_once_made_no_window_of_the_coarser_maps_reads_the_map_again(land: Land) -> None:
    reads: list[float] = []

    def counted(west_m: float, north_m: float, size_px: tuple[int, int]) -> Pixels:
        reads.append(west_m)
        return land.chart.read(west_m, north_m, size_px)

    scales = scales_of(replace(land.chart, read=counted), TILE_M)
    west_m, south_m, east_m, north_m = land.raster.bounds_m
    scales.rough.make(north_m - south_m, east_m - west_m)
    made = len(reads)
    assert made > 0
    for east, north in ((0.0, 0.0), (west_m, north_m), (east_m, south_m), (-220.0, 180.0)):
        scales.coarse.chart.around(east, north, 26)
        scales.rough.chart.around(east, north, 12)
    assert len(reads) == made
    scales.fine.chart.around(0.0, 0.0, 20)  # which nobody has made
    assert len(reads) > made
