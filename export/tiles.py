"""Web map tiles as one image: a folder z/x/y.jpg|png, or an MBTiles file.

    column = (lon + 180) / 360 * 2^z * tile_px
    row    = (1 - asinh(tan(lat)) / pi) / 2 * 2^z * tile_px      (EPSG:3857)

The zoom level with the most tiles is used; missing tiles are no data. MBTiles count rows from the
south (TMS), folders from the north (XYZ).
"""

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import RasterError
from .warp import shrunk

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Array = NDArray[np.float64]
Place = tuple[int, int]  # x, y of a tile; y from the north


@dataclass(frozen=True)
class TileStore:
    """Tiles of one zoom level, wherever they lie."""

    name: str  # for messages
    zoom: int
    places: frozenset[Place]
    fetch: Callable[[Place], bytes]  # encoded image of a tile that is there
    fingerprint: str
    attribution: str


@dataclass(frozen=True)
class TileMosaic:
    """All tiles of a store side by side: a PixelSource."""

    store: TileStore
    tile_px: int
    x0: int  # of the westernmost tile
    y0: int  # of the northernmost tile
    width_px: int
    height_px: int

    @property
    def name(self) -> str:
        """For messages."""
        return self.store.name

    def pixel_from_wgs84(self, lat_deg: Array, lon_deg: Array) -> tuple[Array, Array]:
        """Column and row of points."""
        world_px = float(self.tile_px << self.store.zoom)
        down = (1 - np.arcsinh(np.tan(np.radians(lat_deg))) / np.pi) / 2
        column = (lon_deg + 180) / 360 * world_px - self.x0 * self.tile_px
        return column, down * world_px - self.y0 * self.tile_px

    def wgs84_from_pixel(self, column: Array, row: Array) -> tuple[Array, Array]:
        """Latitude and longitude of pixel coordinates."""
        world_px = float(self.tile_px << self.store.zoom)
        lon = (column + self.x0 * self.tile_px) / world_px * 360 - 180
        down = (row + self.y0 * self.tile_px) / world_px
        return np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * down)))), lon

    def read_block(
        self, column0: int, row0: int, columns: int, rows: int, factor: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """RGB and valid of a block, averaged over factor x factor pixels."""
        side = self.tile_px
        left, right = column0 // side, -(-(column0 + columns) // side)
        top, bottom = row0 // side, -(-(row0 + rows) // side)
        rgb = np.zeros(((bottom - top) * side, (right - left) * side, 3), np.uint8)
        valid = np.zeros(rgb.shape[:2], bool)
        for y in range(top, bottom):
            for x in range(left, right):
                place = (self.x0 + x, self.y0 + y)
                if place in self.store.places:
                    here = (
                        slice((y - top) * side, (y - top + 1) * side),
                        slice((x - left) * side, (x - left + 1) * side),
                    )
                    rgb[here], valid[here] = _decoded(self.store, place, side)
        down, across = row0 - top * side, column0 - left * side
        block = (slice(down, down + rows), slice(across, across + columns))
        return shrunk(rgb[block], valid[block], factor)


def tile_mosaic(path: Path) -> TileMosaic:
    """Open a tile folder or an MBTiles file; raises RasterError."""
    store = _open_folder(path) if path.is_dir() else _open_mbtiles(path)
    first = min(store.places)
    tile_px = len(_decoded(store, first, None)[1])
    xs, ys = zip(*store.places, strict=True)
    return TileMosaic(
        store=store,
        tile_px=tile_px,
        x0=min(xs),
        y0=min(ys),
        width_px=(max(xs) - min(xs) + 1) * tile_px,
        height_px=(max(ys) - min(ys) + 1) * tile_px,
    )


def _open_folder(path: Path) -> TileStore:
    """List a folder of tiles."""
    levels: dict[int, dict[Place, Path]] = {}
    for file in sorted(path.glob("*/*/*")):
        place = re.fullmatch(
            r"(\d+)/(\d+)/(\d+)", file.relative_to(path).with_suffix("").as_posix()
        )
        if place and file.suffix.lower() in IMAGE_SUFFIXES:
            zoom, x, y = map(int, place.groups())
            levels.setdefault(zoom, {})[x, y] = file
    if not levels:
        raise RasterError(f"{path} holds no tiles. It must have images named z/x/y.jpg or .png.")
    zoom = max(levels, key=lambda level: (len(levels[level]), level))
    digest = hashlib.sha256()
    for file in levels[zoom].values():
        stat = file.stat()
        digest.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}".encode())
    files = levels[zoom]
    return TileStore(
        name=str(path),
        zoom=zoom,
        places=frozenset(files),
        fetch=lambda place: files[place].read_bytes(),
        fingerprint=digest.hexdigest()[:16],
        attribution="",
    )


def _open_mbtiles(path: Path) -> TileStore:
    """List the tiles of an MBTiles file."""
    try:
        # one thread at a time reads, though not always the one that opened
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False
        )
        metadata = dict(connection.execute("SELECT name, value FROM metadata").fetchall())
        keys = connection.execute("SELECT zoom_level, tile_column, tile_row FROM tiles").fetchall()
    except sqlite3.Error as error:
        raise RasterError(f"{path} is no MBTiles file: {error}") from error
    if not keys or metadata.get("format") == "pbf":
        content = "vector tiles" if keys else "no tiles"
        raise RasterError(f"{path} holds {content}. Give an MBTiles file with JPEG or PNG imagery.")
    counts = Counter(zoom for zoom, _, _ in keys)
    zoom = max(counts, key=lambda level: (counts[level], level))
    stat = path.stat()
    query = "SELECT tile_data FROM tiles WHERE zoom_level=? AND tile_column=? AND tile_row=?"

    def fetch(place: Place) -> bytes:
        key = (zoom, place[0], _flipped(place[1], zoom))
        return bytes(connection.execute(query, key).fetchone()[0])

    return TileStore(
        name=str(path),
        zoom=zoom,
        places=frozenset((x, _flipped(row, zoom)) for level, x, row in keys if level == zoom),
        fetch=fetch,
        fingerprint=f"{path.name} {stat.st_size} {stat.st_mtime_ns}",
        attribution=str(metadata.get("attribution", "")),
    )


def _flipped(row: int, zoom: int) -> int:
    """A row counted from the other pole."""
    return (1 << zoom) - 1 - row


def _decoded(
    store: TileStore, place: Place, tile_px: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """RGB and valid (tile_px, tile_px) of a tile; raises RasterError where it is damaged."""
    image = cv2.imdecode(np.frombuffer(store.fetch(place), np.uint8), cv2.IMREAD_UNCHANGED)
    where = f"tile {store.zoom}/{place[0]}/{place[1]} of {store.name}"
    if image is None or image.dtype != np.uint8:
        raise RasterError(f"{where} is no 8-bit image. Fetch it again, or remove it.")
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[0] != image.shape[1] or tile_px not in (None, image.shape[0]):
        raise RasterError(f"{where} is {image.shape[1]} x {image.shape[0]} px, not {tile_px}.")
    valid = np.full(image.shape[:2], fill_value=True)
    if image.shape[2] == 4:
        valid = image[..., 3] >= 128
    return image[..., 2::-1].astype(np.uint8, copy=False), valid
