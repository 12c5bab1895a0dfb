"""Training imagery: folders of aerial pictures, most without georeference, as rasters.

Pictures named by XYZ tile (`...-x-y-z.ext`) are put together to one raster per connected zoom
level; all others stand alone. Scales are partly unknown, so a raster's `gsd_m` is nominal (1 m)
and the pair sampler draws how many of its pixels make a patch pixel.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import RasterError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
XYZ_NAME = re.compile(r"-(\d+)-(\d+)-(\d+)$")  # OpenAerialMap's tile names
MAX_SIDE_PX = 3000  # larger pictures are halved: below, no pixel is finer than any patch needs
NOWHERE = LocalFrame(0.0, 0.0)

Image = NDArray[np.uint8]


def rasters_from_folder(folder: Path, exclude: Sequence[str] = ()) -> list[Raster]:
    """All pictures of a folder and its subfolders; raises RasterError when there is none.

    Args:
        folder: searched to any depth.
        exclude: names of subfolders or file stems that are left out.
    """
    pictures: list[tuple[Path, Image]] = []
    for path in sorted(folder.rglob("*")):
        excluded = set(exclude) & {path.stem, *path.relative_to(folder).parts}
        if path.suffix.lower() in PICTURE_SUFFIXES and not excluded:
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if image is not None and image.ndim == 3:  # single bands of one image are left out
                pictures.append((path, image.astype(np.uint8, copy=False)))
    if not pictures:
        raise RasterError(f"{folder} holds no colour pictures ({', '.join(PICTURE_SUFFIXES)})")
    tiles: dict[int, dict[tuple[int, int], Image]] = defaultdict(dict)
    rasters = []
    for path, image in pictures:
        name = XYZ_NAME.search(path.stem)
        if name:
            x, y, zoom = (int(part) for part in name.groups())
            tiles[zoom][x, y] = image
        else:
            rasters.append(_raster_from_picture(image))
    rasters += [_mosaic(of_zoom) for of_zoom in tiles.values()]
    return rasters


def _raster_from_picture(picture: Image) -> Raster:
    """RGB raster of a picture; alpha or pure black is no ground."""
    image = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2RGB)
    while max(image.shape[:2]) > MAX_SIDE_PX:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    valid = image.max(axis=2) > 0
    return Raster(
        image=image.astype(np.uint8, copy=False), valid=valid, frame=NOWHERE,
        west_m=0.0, north_m=0.0, gsd_m=1.0,
    )  # fmt: skip


def _mosaic(tiles: dict[tuple[int, int], Image]) -> Raster:
    """One raster of XYZ tiles; places without a tile are not valid."""
    columns, rows = ({key[axis] for key in tiles} for axis in (0, 1))
    west, north = min(columns), min(rows)
    side = next(iter(tiles.values())).shape[0]
    canvas = np.zeros(
        ((max(rows) - north + 1) * side, (max(columns) - west + 1) * side, 3), np.uint8
    )
    for (x, y), tile in tiles.items():
        top, left = (y - north) * side, (x - west) * side
        canvas[top : top + side, left : left + side] = tile[..., :3]
    return _raster_from_picture(canvas)
