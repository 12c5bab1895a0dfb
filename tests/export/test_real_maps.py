"""The maps of real flights open with the size and the gaps that they are known to have."""

from pathlib import Path

import pytest

from skyfix.export.rasters import open_raster
from skyfix.runtime.errors import RasterError


@pytest.mark.real
@pytest.mark.parametrize("name", ["DOP", "xDOP"])
def test_ortholoc_claims_degrees_and_is_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(RasterError, match=r"EPSG:4326.*metres of a local system"):
        open_raster(shared_data / "ortholoc" / f"urban_residential_{name}.tif")


@pytest.mark.real
def test_fengyuan_has_the_size_that_its_readme_gives(shared_data: Path) -> None:
    reader = open_raster(shared_data / "fengyuan" / "map.tif").reader
    west, south, east, north = reader.bounds_m
    assert (east - west, north - south) == pytest.approx((665, 630), abs=4)
    assert reader.gsd_m == pytest.approx(0.16, abs=0.005)
    assert reader.read(-100, 100, (200, 200), 1.0).valid.all()


@pytest.mark.real
def test_nusts_black_border_is_no_data(shared_data: Path) -> None:
    reader = open_raster(shared_data / "nust" / "map.tif").reader
    west, south, east, north = reader.bounds_m
    window = reader.read(west, north, (int(north - south) + 1, int(east - west) + 1), 1.0)
    assert not window.valid[20:60, -60:-20].any()
    middle = window.valid[300:600, 300:600]
    assert middle.mean() > 0.999
    assert window.image[300:600, 300:600].std() > 20
