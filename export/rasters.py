"""Map images of any kind as one thing: a LocalReader in metres around the map's centre.

`open_raster` takes a GeoTIFF or any other georeferenced image that GDAL reads, in any CRS; a
folder z/x/y.jpg; an MBTiles file. What a pixel means:

    palette            its colour; a pure black entry along most of the image's outline is no data
    one or two bands   grey
    three or more      the first three are red, green, blue
    alpha, nodata or mask say which pixels there are
    over 8 bits        each band stretched from its 2nd..98th percentile to 0..255
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import MissingExtraError, RasterError
from .tiles import tile_mosaic
from .warp import LocalReader, local_reader, shrunk

try:
    import rasterio
    from pyproj import CRS, Transformer
    from pyproj.enums import TransformDirection
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.windows import Window
except ImportError as error:
    raise MissingExtraError(error.name or "rasterio", "map") from error

SAMPLE_PX = 512  # on a side at most, of the decimated read that the stretch is taken from
STRETCH_PERCENT = (2.0, 98.0)
MIN_BORDER_FRACTION = 0.5  # of the outline; less may be dark ground
WGS84 = "EPSG:4326"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MapFile:
    """A raster as the builder takes it, with what is known of its origin."""

    reader: LocalReader
    crs: str
    attribution: str  # as stored in the file, empty where it is not
    fingerprint: str  # name, size and time of the files


def open_raster(path: Path) -> MapFile:
    """Open a map image; raises RasterError with what is wrong and what to do."""
    if not path.exists():
        raise RasterError(f"{path} does not exist. Give a GeoTIFF, a z/x/y folder or an MBTiles.")
    if path.is_dir() or path.suffix.lower() == ".mbtiles":
        mosaic = tile_mosaic(path)
        return MapFile(
            local_reader(mosaic), "EPSG:3857", mosaic.store.attribution, mosaic.store.fingerprint
        )
    source = GdalSource(path, _opened(path))
    stat = path.stat()
    return MapFile(
        reader=local_reader(source),
        crs=source.dataset.crs.to_string(),
        attribution=str(source.dataset.tags().get("TIFFTAG_COPYRIGHT", "")),
        fingerprint=f"{path.name} {stat.st_size} {stat.st_mtime_ns}",
    )


def _opened(path: Path) -> rasterio.DatasetReader:
    """The dataset, if it can be placed on Earth."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused below, in words
            dataset = rasterio.open(path)
    except RasterioError as error:
        raise RasterError(f"{path} is no image that can be read: {error}") from error
    if dataset.gcps[0] and dataset.transform.is_identity:
        raise RasterError(
            f"{path} has control points and no transform. Straighten it with gdalwarp first."
        )
    if dataset.crs is None or dataset.transform.is_identity:
        lacking = "reference system" if dataset.crs is None else "position on the ground"
        raise RasterError(
            f"{path} has no {lacking}. Set it with gdal_edit.py -a_srs EPSG:<code> "
            "-a_ullr <west> <north> <east> <south>."
        )
    if dataset.crs.is_geographic:
        _refuse_degrees_that_are_none(path, dataset)
    return dataset


def _refuse_degrees_that_are_none(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Refuse coordinates that no latitude, longitude can have."""
    width, height = dataset.width, dataset.height
    corners = np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height])
    lon, lat = (np.abs(side).max() for side in _applied(dataset.transform, *corners))
    if lon > 360 or lat > 90.01:
        raise RasterError(
            f"{path} states {dataset.crs.to_string()}, which is in degrees, but its coordinates "
            f"reach {lat:.4g} degrees of latitude and {lon:.4g} of longitude: they are probably "
            "metres of a local system. Set the right reference system with gdal_edit.py -a_srs, "
            "and the corners with -a_ullr."
        )


@dataclass(frozen=True)
class GdalSource:
    """Pixels of a dataset that rasterio has opened."""

    path: Path
    dataset: rasterio.DatasetReader

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.path)

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.dataset.width)

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.dataset.height)

    def pixel_from_wgs84(self, lat_deg: Array, lon_deg: Array) -> tuple[Array, Array]:
        """Column and row of points; inf where the CRS does not reach."""
        x, y = self._from_wgs84.transform(lon_deg, lat_deg)
        return _applied(~self.dataset.transform, x, y)

    def wgs84_from_pixel(self, column: Array, row: Array) -> tuple[Array, Array]:
        """Latitude and longitude of pixel coordinates; inf where the CRS does not reach."""
        x, y = _applied(self.dataset.transform, column, row)
        lon, lat = self._from_wgs84.transform(x, y, direction=TransformDirection.INVERSE)
        return lat, lon

    def read_block(
        self, column0: int, row0: int, columns: int, rows: int, factor: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """RGB and valid of a block, averaged over factor x factor pixels."""
        window = Window(column0, row0, columns, rows)
        if self.palette is not None:  # indices cannot be averaged, colours can
            index, valid = self._read(window, (rows, columns), Resampling.nearest)
            rgba = self.palette[index[0].astype(np.uint8)]
            return shrunk(rgba[..., :3], valid & (rgba[..., 3] > 0), factor)
        bands, valid = self._read(window, (rows // factor, columns // factor), Resampling.average)
        if self.stretch is not None:
            low, high = (limit[:, None, None] for limit in self.stretch)
            bands = np.clip(np.nan_to_num((bands - low) * (255 / (high - low))), 0, 255)
        rgb = np.repeat(bands, 3, axis=0) if len(bands) == 1 else bands
        return np.ascontiguousarray(np.rint(rgb).astype(np.uint8).transpose(1, 2, 0)), valid

    @cached_property
    def _from_wgs84(self) -> Transformer:
        """Longitude, latitude to the coordinates of the image."""
        return Transformer.from_crs(WGS84, CRS.from_wkt(self.dataset.crs.to_wkt()), always_xy=True)

    @cached_property
    def bands(self) -> list[int]:
        """Numbers of the bands that are read: one, or red, green and blue."""
        colours = [kind for kind in self.dataset.colorinterp if kind != ColorInterp.alpha]
        return [1, 2, 3] if len(colours) >= 3 else [1]

    @cached_property
    def palette(self) -> NDArray[np.uint8] | None:
        """Colours (256, RGBA) of a paletted image, alpha 0 for the entry that is its border."""
        if self.dataset.colorinterp[0] != ColorInterp.palette:
            return None
        entries = self.dataset.colormap(1)
        table = np.array([entries.get(index, (0, 0, 0, 0)) for index in range(256)], np.uint8)
        outline = self._outline()
        for index in np.flatnonzero(~table[:, :3].any(axis=1)):
            if np.mean(outline == index) > MIN_BORDER_FRACTION:
                table[index, 3] = 0
        return table

    @cached_property
    def stretch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Lowest and highest value of each band that is shown; None for bytes."""
        if self.dataset.dtypes[0] == "uint8":
            return None
        step = max(1, *(-(-side // SAMPLE_PX) for side in (self.width_px, self.height_px)))
        shape = (-(-self.height_px // step), -(-self.width_px // step))
        window = Window(0, 0, self.width_px, self.height_px)
        sample, valid = self._read(window, shape, Resampling.nearest)
        values = sample[:, valid & np.isfinite(sample).all(axis=0)].astype(np.float32)
        if not values.size:
            raise RasterError(f"{self.path} has no valid pixel. Check its nodata value or mask.")
        low, high = np.percentile(values, STRETCH_PERCENT, axis=1).astype(np.float32)
        return low, np.maximum(high, low + 1e-6)

    def _outline(self) -> NDArray[np.generic]:
        """First band along the four sides."""
        width, height = self.width_px, self.height_px
        sides = (
            Window(0, 0, width, 1), Window(0, height - 1, width, 1),
            Window(0, 0, 1, height), Window(width - 1, 0, 1, height),
        )  # fmt: skip
        shapes = ((1, width), (1, width), (height, 1), (height, 1))
        return np.concatenate(
            [
                self._read(side, shape, Resampling.nearest)[0].ravel()
                for side, shape in zip(sides, shapes, strict=True)
            ]
        )

    def _read(
        self, window: Window, shape: tuple[int, int], resampling: Resampling
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Bands (n, H, W) and valid (H, W) of a window, decimated to a shape."""
        try:
            values = self.dataset.read(
                self.bands, window=window, out_shape=(len(self.bands), *shape),
                resampling=resampling, out_dtype=np.float32,
            )  # fmt: skip
            mask = self.dataset.dataset_mask(window=window, out_shape=shape, resampling=resampling)
        except RasterioError as error:
            raise RasterError(
                f"{self.path} is damaged: {error}. Fetch or make it again."
            ) from error
        return values, mask >= 128


def _applied(affine: rasterio.Affine, x: Array, y: Array) -> tuple[Array, Array]:
    """Points moved by a geotransform."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
