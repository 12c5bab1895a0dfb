"""Windows in local metres from an image that has pixels anywhere on Earth.

    local east, north -> latitude, longitude -> pixel of the source

The way is exact at knots 16 pixels apart and linear between them. Before the one bilinear lookup
the source is averaged over whole pixels (`factor`), as the camera's frame is in sense/ortho.py, so
a map at 0.16 m a pixel read at 0.9 m does not alias.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import RasterError
from ..runtime.geo import LocalFrame
from ..runtime.maps.raster import Raster

KNOT_PX = 16  # between exact points; the error between is under 1 mm at 5 m a pixel
OUTLINE_POINTS = 33  # on each side of an image, to find its bounds
STRIP_PX = 2048  # rows of the source that are decoded at once: 100 MB of a 5 cm map
NOWHERE_PX = -1e6  # far outside any image, and small enough to compute with
MAX_GSD_M = 1000.0  # coarser than any map that a drone could be found on
MIN_GSD_M = 0.001  # finer than any camera above ground
MAX_SIDE_M = 500_000.0  # the tangent plane is 0.1 % off at 285 km; a larger map is a mistake

Array = NDArray[np.float64]


class PixelSource(Protocol):
    """An image whose pixels are found by latitude and longitude."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def width_px(self) -> int:
        """Columns."""
        ...

    @property
    def height_px(self) -> int:
        """Rows."""
        ...

    def pixel_from_wgs84(self, lat_deg: Array, lon_deg: Array) -> tuple[Array, Array]:
        """Column and row, counted from the outer corner of the first pixel; inf where nowhere."""
        ...

    def wgs84_from_pixel(self, column: Array, row: Array) -> tuple[Array, Array]:
        """Latitude and longitude in degrees."""
        ...

    def read_block(
        self, column0: int, row0: int, columns: int, rows: int, factor: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """RGB and valid (rows // factor, columns // factor) of a block within the image."""
        ...


@dataclass(frozen=True)
class LocalReader:
    """A map in the tangent plane at its centre: a RasterReader of any PixelSource."""

    source: PixelSource
    frame: LocalFrame
    gsd_m: float
    bounds_m: tuple[float, float, float, float]  # west, south, east, north

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float) -> Raster:
        """The window of (rows, columns) pixels whose outer corner is (west_m, north_m)."""
        rows, columns = size_px
        image, valid = np.zeros((rows, columns, 3), np.uint8), np.zeros((rows, columns), bool)
        column, row = self._source_pixels(west_m, north_m, size_px, gsd_m)
        factor = max(1, int(gsd_m / self.gsd_m))
        left, right = _block_side(column, self.source.width_px, factor)
        top, bottom = _block_side(row, self.source.height_px, factor)
        if left < right and top < bottom:
            block = _read_in_strips(self.source, left, top, right - left, bottom - top, factor)
            x, y = (column - left) / factor, (row - top) / factor
            image, valid = _looked_up(*block, _dense(x, size_px), _dense(y, size_px))
        return Raster(image, valid, self.frame, west_m, north_m, gsd_m)

    def _source_pixels(
        self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float
    ) -> tuple[Array, Array]:
        """Source column and row of the window's pixel centres at the knots, (m, n) each."""
        east, north = np.meshgrid(
            west_m + (_knots(size_px[1]) + 0.5) * gsd_m,
            north_m - (_knots(size_px[0]) + 0.5) * gsd_m,
        )
        column, row = self.source.pixel_from_wgs84(*self.frame.wgs84_from_en(east, north))
        return np.nan_to_num(column, posinf=NOWHERE_PX), np.nan_to_num(row, posinf=NOWHERE_PX)


def local_reader(source: PixelSource) -> LocalReader:
    """Find the frame, scale and bounds of an image; raises RasterError where they are absurd."""
    width, height = source.width_px, source.height_px
    middle = np.array([width / 2, width / 2 + 1, width / 2])
    lat, lon = source.wgs84_from_pixel(middle, np.array([height / 2, height / 2, height / 2 + 1]))
    _refuse_off_earth(source, lat, lon)
    frame = LocalFrame(float(lat[0]), float(lon[0]))
    east, north = frame.en_from_wgs84(lat, lon)
    gsd_m = float(np.sqrt(abs(np.linalg.det(np.stack([east[1:], north[1:]])))))
    if not MIN_GSD_M <= gsd_m <= MAX_GSD_M:
        raise RasterError(
            f"{source.name} has pixels of {gsd_m:.3g} m on the ground by its georeference, which "
            "no map for a drone has. Its coordinates are probably in another reference system "
            "than it states: set the right one with gdal_edit.py -a_srs (and -a_ullr)."
        )
    bounds = _outline_bounds(source, frame)
    if max(bounds[2] - bounds[0], bounds[3] - bounds[1]) > MAX_SIDE_M:
        raise RasterError(
            f"{source.name} is over {MAX_SIDE_M / 1000:.0f} km wide, too much for one flat map. "
            "Cut out the region of the flight with gdalwarp -te."
        )
    return LocalReader(source, frame, gsd_m, bounds)


def shrunk(
    rgb: NDArray[np.uint8], valid: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Average over factor x factor pixels, valid ones alone; valid where half of them are."""
    if factor == 1:
        return rgb, valid
    size = (rgb.shape[1] // factor, rgb.shape[0] // factor)
    rgb = rgb[: size[1] * factor, : size[0] * factor]
    valid = valid[: size[1] * factor, : size[0] * factor]
    if valid.all():
        mean = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        return mean.astype(np.uint8, copy=False), np.ones(size[::-1], bool)
    weight = cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    masked = np.where(valid[..., None], rgb, 0).astype(np.float32)
    total = cv2.resize(masked, size, interpolation=cv2.INTER_AREA)
    mean = np.rint(total / np.maximum(weight, 1e-6)[..., None])
    return mean.astype(np.uint8), weight >= 0.5


def _read_in_strips(
    source: PixelSource, column0: int, row0: int, columns: int, rows: int, factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """`read_block` a few rows at a time, so that a fine map is never whole in memory."""
    height = max(1, STRIP_PX // factor) * factor
    strips = [
        source.read_block(column0, row0 + top, columns, min(height, rows - top), factor)
        for top in range(0, rows, height)
    ]
    rgb, valid = zip(*strips, strict=True)
    return np.concatenate(rgb), np.concatenate(valid)


def _refuse_off_earth(source: PixelSource, lat: Array, lon: Array) -> None:
    """Refuse an image whose middle lies nowhere."""
    on_earth = np.all(np.isfinite(lat) & np.isfinite(lon)) and np.all(np.abs(lat) <= 90)
    if not (on_earth and np.all(np.abs(lon) <= 360)):
        raise RasterError(
            f"{source.name} lies nowhere on Earth by its georeference. Set the right reference "
            "system with gdal_edit.py -a_srs, and the right corners with -a_ullr."
        )


def _outline_bounds(source: PixelSource, frame: LocalFrame) -> tuple[float, float, float, float]:
    """West, south, east, north of the image's outline in the frame."""
    side = np.linspace(0.0, 1.0, OUTLINE_POINTS)
    zero, one = np.zeros_like(side), np.ones_like(side)
    column = np.concatenate([side, side, zero, one]) * source.width_px
    row = np.concatenate([zero, one, side, side]) * source.height_px
    lat, lon = source.wgs84_from_pixel(column, row)
    _refuse_off_earth(source, lat, lon)
    east, north = frame.en_from_wgs84(lat, lon)
    return float(east.min()), float(north.min()), float(east.max()), float(north.max())


def _knots(count: int) -> Array:
    """Pixel indices where the way to the source is exact; the last reaches the last pixel."""
    return np.arange(0, count - 1 + KNOT_PX, KNOT_PX, dtype=np.float64)


def _dense(at_knots: Array, size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Values of all pixels from those at the knots, linear between them, size_px."""
    down, across = (_hat(count) for count in size_px)
    dense: NDArray[np.float32] = down @ at_knots.astype(np.float32) @ across.T
    return dense


def _hat(count: int) -> NDArray[np.float32]:
    """Linear interpolation weights of `count` pixels between their knots, (count, knots)."""
    distance = np.abs(np.arange(count)[:, None] - _knots(count)[None, :])
    return np.maximum(0.0, 1 - distance / KNOT_PX).astype(np.float32)


def _block_side(pixels: Array, length: int, factor: int) -> tuple[int, int]:
    """First and end of the source pixels that a window needs, on multiples of the factor."""
    first = max(0, int(pixels.min() // factor - 1) * factor)
    last = min(length, int(pixels.max() // factor + 2) * factor)
    return first, first + max(0, last - first) // factor * factor


def _looked_up(
    rgb: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Bilinear values at block coordinates; valid where every pixel that was mixed is."""
    rows, columns = valid.shape
    inside = (x >= 0) & (x <= columns) & (y >= 0) & (y <= rows)
    centre_x, centre_y = x - 0.5, y - 0.5
    image = cv2.remap(rgb, centre_x, centre_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if valid.all():
        return image.astype(np.uint8, copy=False), inside
    whole = cv2.remap(
        valid.astype(np.uint8) * 255, centre_x, centre_y,
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return image.astype(np.uint8, copy=False), inside & (whole == 255)
