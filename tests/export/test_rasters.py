"""Every kind of map image puts a known spot where an independent projection puts it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.enums import ColorInterp

from skyfix.export.rasters import MapFile, open_raster
from skyfix.runtime.errors import RasterError
from skyfix.runtime.maps.raster import Raster

SIZE = 400  # px of the drawn maps
SPOT = (270.5, 121.5)  # column, row of a bright blob's centre, from the outer corner
ISLAMABAD = rasterio.Affine(0.5, 0, 313101.5, 0, -0.5, 3724912.3)  # UTM 43N


def drawn(spot: tuple[float, float] = SPOT, size: int = SIZE) -> np.ndarray:
    """Dark grey with a smooth bright blob, (size, size)."""
    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    distance2 = (column - spot[0]) ** 2 + (row - spot[1]) ** 2
    blob = 40 + 200 * np.exp(-distance2 / (2 * 6.0**2))
    return np.asarray(np.rint(blob), np.uint8)


def write_tif(path: Path, bands: np.ndarray, crs: str | None = "EPSG:32643", **more: Any) -> Path:
    profile: dict[str, Any] = {"transform": ISLAMABAD, **more}
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, crs=crs, **profile,
    ) as file:  # fmt: skip
        file.write(bands)
    return path


def read_all(opened: MapFile, gsd_m: float | None = None) -> Raster:
    west, south, east, north = opened.reader.bounds_m
    gsd_m = gsd_m or opened.reader.gsd_m
    size = (int((north - south) / gsd_m) + 1, int((east - west) / gsd_m) + 1)
    return opened.reader.read(west, north, size, gsd_m)


def spot_en(window: Raster) -> np.ndarray:
    """East and north metres of the blob: its centre of brightness."""
    grey = window.image[..., 0].astype(float)
    light = np.where(window.valid, np.maximum(grey - 60, 0), 0)
    row, column = np.indices(light.shape) + 0.5
    middle = [(light * axis).sum() / light.sum() for axis in (column, row)]
    return np.array(
        [window.west_m + middle[0] * window.gsd_m, window.north_m - middle[1] * window.gsd_m]
    )


def expected_en(opened: MapFile, crs: str, x: float, y: float) -> np.ndarray:
    """Where PROJ's topocentric conversion puts a point of the source."""
    frame = opened.reader.frame
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    pipeline = (
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart "
        f"+ellps=WGS84 +step +proj=topocentric +ellps=WGS84 +lat_0={frame.lat_deg} "
        f"+lon_0={frame.lon_deg} +h_0=0"
    )
    east, north, _ = pyproj.Transformer.from_pipeline(pipeline).transform(lon, lat, 0.0)
    return np.array([east, north])


PLACES: dict[str, tuple[str, rasterio.Affine]] = {
    "UTM north": ("EPSG:32643", ISLAMABAD),
    "UTM south": ("EPSG:32756", rasterio.Affine(0.3, 0, 334000, 0, -0.3, 6250000)),
    "degrees": ("EPSG:4326", rasterio.Affine(5e-6, 0, 120.7157, 0, -4e-6, 24.263)),
    "degrees, rotated": ("EPSG:4326", rasterio.Affine(4e-6, 2e-6, 120.7, 2e-6, -4e-6, 24.263)),
    "web mercator": ("EPSG:3857", rasterio.Affine(0.6, 0, 950000, 0, -0.6, 6000000)),
    "Swiss oblique": ("EPSG:2056", rasterio.Affine(0.25, 0, 2683000, 0, -0.25, 1248000)),
    "UTM, rotated by 30 degrees": (
        "EPSG:32643",
        rasterio.Affine(0.4330127, 0.25, 313101.5, 0.25, -0.4330127, 3724912.3),
    ),
    "polar stereographic": ("EPSG:3413", rasterio.Affine(1, 0, -200000, 0, -1, -2200000)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("coarser", [1.0, 3.3])
def test_a_spot_lies_where_proj_puts_it(tmp_path: Path, place: str, coarser: float) -> None:
    crs, affine = PLACES[place]
    opened = open_raster(write_tif(tmp_path / "m.tif", drawn()[None], crs, transform=affine))
    window = read_all(opened, coarser * opened.reader.gsd_m)
    x = affine.a * SPOT[0] + affine.b * SPOT[1] + affine.c
    y = affine.d * SPOT[0] + affine.e * SPOT[1] + affine.f
    off_m = np.hypot(*(spot_en(window) - expected_en(opened, crs, x, y)))
    assert off_m < 0.1 * window.gsd_m
    assert opened.crs == crs


def test_the_frame_is_the_middle_of_the_map(tmp_path: Path) -> None:
    opened = open_raster(write_tif(tmp_path / "m.tif", drawn()[None]))
    west, south, east, north = opened.reader.bounds_m
    assert opened.reader.gsd_m == pytest.approx(0.5, rel=1e-3)
    assert east - west == pytest.approx(200, abs=5)  # turned by 1.1 degrees against the zone
    assert (west + east, south + north) == pytest.approx((0, 0), abs=0.01)


def test_a_coarser_read_averages(tmp_path: Path) -> None:
    checkers = (np.indices((SIZE, SIZE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for name, bands in (("grey", checkers[None]), ("palette", checkers[None] // 255)):
        path = write_tif(tmp_path / f"{name}.tif", bands)
        if name == "palette":
            with rasterio.open(path, "r+") as file:
                file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)})
        window = open_raster(path).reader.read(-60, 60, (50, 50), 2.4)
        assert np.abs(window.image.astype(int) - 127).max() <= 2
        assert window.valid.all()


def test_a_map_decoded_in_strips_has_no_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_raster(write_tif(tmp_path / "m.tif", drawn()[None])).reader
    whole = reader.read(-95, 95, (80, 80), 2.3)
    monkeypatch.setattr("skyfix.export.warp.STRIP_PX", 31)
    strips = reader.read(-95, 95, (80, 80), 2.3)
    assert np.array_equal(strips.image, whole.image)
    assert np.array_equal(strips.valid, whole.valid)


def test_pixels_off_the_map_are_not_valid(tmp_path: Path) -> None:
    reader = open_raster(write_tif(tmp_path / "m.tif", drawn()[None])).reader
    west, _, _, north = reader.bounds_m
    assert not reader.read(west - 500, north + 500, (40, 40), 1.0).valid.any()
    half = reader.read(-150.0, 20.0, (40, 100), 1.0).valid
    assert half.mean(axis=0)[[0, 40, 60, 99]].tolist() == [0, 0, 1, 1]


def colours(opened: MapFile) -> tuple[np.ndarray, np.ndarray]:
    """Colour and validity of the middle of the west half and of the east half."""
    window = opened.reader.read(-50.0, 10.0, (20, 100), 1.0)
    return window.image[10, [10, 90]], window.valid[10, [10, 90]]


def halves(west: tuple[int, ...], east: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    """An image of two colours, (bands, SIZE, SIZE)."""
    image = np.empty((len(west), SIZE, SIZE), dtype)
    image[:, :, : SIZE // 2] = np.array(west, dtype)[:, None, None]
    image[:, :, SIZE // 2 :] = np.array(east, dtype)[:, None, None]
    return image


def with_palette(path: Path, table: dict[int, tuple[int, int, int, int]]) -> Path:
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, table)
    return path


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", halves((3,), (9,)))
    table = {3: (10, 200, 30, 255), 9: (250, 60, 70, 255)}
    colour, valid = colours(open_raster(with_palette(path, table)))
    assert colour.tolist() == [[10, 200, 30], [250, 60, 70]]
    assert valid.all()


@pytest.mark.parametrize("around", [True, False])
def test_a_black_palette_entry_is_no_data_where_it_frames_the_map(
    tmp_path: Path, around: bool
) -> None:
    image = np.full((1, SIZE, SIZE), 9, np.uint8)
    image[:, 1:-1, : SIZE // 2] = 255
    if around:
        image[:, [0, -1]] = 255
    path = write_tif(tmp_path / "m.tif", image)
    table = {9: (250, 60, 70, 255), 255: (0, 0, 0, 255)}
    _, valid = colours(open_raster(with_palette(path, table)))
    assert valid.tolist() == [not around, True]


def test_alpha_says_what_is_valid(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", halves((1, 2, 3, 0), (50, 60, 70, 255)))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [
            ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha,
        ]  # fmt: skip
    colour, valid = colours(open_raster(path))
    assert valid.tolist() == [False, True]
    assert colour[1].tolist() == [50, 60, 70]


def test_nodata_says_what_is_valid_and_black_alone_does_not(tmp_path: Path) -> None:
    image = halves((0, 0, 0), (50, 60, 70))
    stated = open_raster(write_tif(tmp_path / "stated.tif", image, nodata=0))
    assert colours(stated)[1].tolist() == [False, True]
    assert colours(open_raster(write_tif(tmp_path / "m.tif", image)))[1].all()


def test_an_internal_mask_says_what_is_valid(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tif(tmp_path / "m.tif", halves((5, 5, 5), (50, 60, 70)))
        with rasterio.open(path, "r+") as file:
            file.write_mask(halves((0,), (255,))[0])
    assert colours(open_raster(path))[1].tolist() == [False, True]


def test_a_fourth_band_that_is_no_alpha_is_left_out(tmp_path: Path) -> None:
    image = halves((1, 2, 3, 0), (50, 60, 70, 0))
    path = write_tif(tmp_path / "m.tif", image, photometric="MINISBLACK")
    colour, valid = colours(open_raster(path))
    assert colour.tolist() == [[1, 2, 3], [50, 60, 70]]
    assert valid.all()


@pytest.mark.parametrize(("dtype", "factor"), [("uint16", 37), ("int16", 11), ("float32", 0.001)])
def test_more_than_8_bits_are_stretched_between_percentiles(
    tmp_path: Path, dtype: str, factor: float
) -> None:
    ramp = np.tile(np.linspace(0, 1000, SIZE), (SIZE, 1)) * factor
    opened = open_raster(write_tif(tmp_path / "m.tif", ramp[None].astype(dtype)))
    window = opened.reader.read(-95.0, 5.0, (10, 190), 1.0)
    row = window.image[5, :, 0].astype(float)
    share = np.linspace(0, 1, SIZE)
    across = np.interp(np.arange(190) + 0.5, np.linspace(-5, 195, SIZE), share)
    expected = np.clip((across - 0.02) / 0.96, 0, 1) * 255
    assert np.abs(row - expected)[5:-5].max() < 4  # the zone is turned by 1.1 degrees
    assert (window.image == window.image[..., :1]).all()


def test_values_that_are_not_numbers_are_no_data(tmp_path: Path) -> None:
    image = np.tile(np.linspace(0, 1, SIZE, dtype=np.float32), (1, SIZE, 1))
    image[:, :, : SIZE // 2] = np.nan
    path = write_tif(tmp_path / "m.tif", image, nodata=float("nan"))
    assert colours(open_raster(path))[1].tolist() == [False, True]


def tile_place(zoom: int, lat: float, lon: float) -> tuple[float, float]:
    """Tile coordinates with fractions, through pyproj."""
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    world_m = 2 * np.pi * 6378137.0
    return (x / world_m + 0.5) * 2**zoom, (0.5 - y / world_m) * 2**zoom


LAT, LON, ZOOM = 47.3712, 8.5423, 18
Tiles = dict[tuple[int, int, int], np.ndarray]


@pytest.fixture
def tiles() -> Tiles:
    """3 x 3 tiles around a blob at LAT, LON, and one tile of a lower zoom."""
    x, y = tile_place(ZOOM, LAT, LON)
    x0, y0 = int(x) - 1, int(y) - 1
    image = drawn(((x - x0) * 256, (y - y0) * 256), 768)
    cut = {
        (ZOOM, x0 + i, y0 + j): image[256 * j : 256 * j + 256, 256 * i : 256 * i + 256]
        for i in range(3)
        for j in range(3)
    }
    return {**cut, (ZOOM - 1, x0 // 2, y0 // 2): np.zeros((256, 256), np.uint8)}


def write_folder(path: Path, tiles: Tiles) -> Path:
    for (zoom, x, y), image in tiles.items():
        (path / str(zoom) / str(x)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path / str(zoom) / str(x) / f"{y}.png"), image)
    return path


def write_mbtiles(path: Path, tiles: Tiles, image_format: str = "png") -> Path:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metadata (name text, value text)")
        database.execute(
            "CREATE TABLE tiles (zoom_level int, tile_column int, tile_row int, tile_data blob)"
        )
        metadata = [("format", image_format), ("attribution", "City survey")]
        database.executemany("INSERT INTO metadata VALUES (?, ?)", metadata)
        for (zoom, x, y), image in tiles.items():
            row = (zoom, x, 2**zoom - 1 - y, cv2.imencode(".png", image)[1].tobytes())
            database.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", row)
    database.close()
    return path


WRITERS: dict[str, Callable[[Path, Tiles], Path]] = {
    "map": write_folder, "map.mbtiles": write_mbtiles,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("coarser", [1.0, 3.3])
def test_a_spot_on_tiles_lies_where_proj_puts_it(
    tmp_path: Path, tiles: Tiles, name: str, coarser: float
) -> None:
    opened = open_raster(WRITERS[name](tmp_path / name, tiles))
    # zoom 18 is 0.597 m a pixel on the equator, by the cosine of the latitude less here
    assert opened.reader.gsd_m == pytest.approx(0.5972 * np.cos(np.radians(LAT)), rel=3e-3)
    window = read_all(opened, coarser * opened.reader.gsd_m)
    off_m = np.hypot(*(spot_en(window) - expected_en(opened, "EPSG:4326", LON, LAT)))
    assert off_m < 0.1 * window.gsd_m


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_tile_is_no_data(tmp_path: Path, tiles: Tiles, name: str) -> None:
    del tiles[min(key for key in tiles if key[0] == ZOOM)]  # the one in the north-west
    window = read_all(open_raster(WRITERS[name](tmp_path / name, tiles)))
    rows, columns = window.valid.shape
    assert not window.valid[: rows // 4, : columns // 4].any()
    assert window.valid[rows // 2 : -10, columns // 2 : -10].all()


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_tile_is_named(tmp_path: Path, tiles: Tiles, name: str) -> None:
    path = WRITERS[name](tmp_path / name, tiles)
    _, x, y = max(tiles)
    if path.is_dir():
        (path / str(ZOOM) / str(x) / f"{y}.png").write_bytes(b"\x89PNG, and then nothing")
    else:
        with sqlite3.connect(path) as database:
            key = (ZOOM, x)
            change = "UPDATE tiles SET tile_data = x'89' WHERE zoom_level = ? AND tile_column = ?"
            database.execute(change, key)
        database.close()
    with pytest.raises(RasterError, match=f"tile {ZOOM}/{x}/.*Fetch it again"):
        read_all(open_raster(path))


def test_mbtiles_bring_their_attribution(tmp_path: Path, tiles: Tiles) -> None:
    assert open_raster(write_mbtiles(tmp_path / "m.mbtiles", tiles)).attribution == "City survey"


def test_what_is_no_image_of_tiles_is_refused(tmp_path: Path, tiles: Tiles) -> None:
    (tmp_path / "no.mbtiles").write_bytes(b"not a database, only long enough to be read as one")
    with pytest.raises(RasterError, match="no MBTiles file"):
        open_raster(tmp_path / "no.mbtiles")
    with pytest.raises(RasterError, match="no tiles"):
        open_raster(write_mbtiles(tmp_path / "empty.mbtiles", {}))
    with pytest.raises(RasterError, match="vector tiles"):
        open_raster(write_mbtiles(tmp_path / "vector.mbtiles", tiles, "pbf"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(RasterError, match="holds no tiles"):
        open_raster(tmp_path / "folder")


METRES_AS_DEGREES = rasterio.Affine(0.0002, 0, -93.0, 0, -0.0002, 93.0)
COARSE = rasterio.Affine(0.02, 0, 8.0, 0, -0.02, 47.0)


@pytest.mark.parametrize(
    ("crs", "affine", "words"),
    [
        (None, ISLAMABAD, "no reference system.*-a_srs"),
        ("EPSG:4326", METRES_AS_DEGREES, "states EPSG:4326.*metres of a local system.*-a_srs"),
        ("EPSG:4326", COARSE, "pixels of .* on the ground"),
        (
            "EPSG:32643",
            rasterio.Affine(5e4, 0, 3e5, 0, -5e4, 4e6),
            "nowhere on Earth",
        ),
        ("EPSG:32643", rasterio.Affine(900, 0, 3e5, 0, -900, 4e6), "km wide"),
    ],
)
def test_a_georeference_that_cannot_be_right_is_refused(
    tmp_path: Path, crs: str | None, affine: rasterio.Affine, words: str
) -> None:
    image = drawn(size=800)[None]
    with pytest.raises(RasterError, match=words):
        open_raster(write_tif(tmp_path / "m.tif", image, crs, transform=affine))


def test_an_image_without_position_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), drawn())
    with pytest.raises(RasterError, match="no reference system"):
        open_raster(tmp_path / "photo.png")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tif").write_text("hello")
    with pytest.raises(RasterError, match="no image"):
        open_raster(tmp_path / "m.tif")
    with pytest.raises(RasterError, match="does not exist"):
        open_raster(tmp_path / "none.tif")


def test_an_image_cut_short_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", drawn()[None])
    path.write_bytes(path.read_bytes()[:80_000])
    with pytest.raises(RasterError, match="damaged"):
        read_all(open_raster(path))
