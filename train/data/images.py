"""Images of data sets: decoded, cut and resized as the published pipelines do it.

    file -> RGB pixels as stored (no EXIF rotation) -> only `rows` -> size_px

"area" is OpenCV's INTER_AREA (Sample4Geo, MFRGN); "bilinear" and "bicubic" are Pillow's
antialiased filters, which torchvision applies to Pillow images (GeoDTR, University-1652). Pillow
decodes: as fast as OpenCV, and it refuses a truncated JPEG, of which OpenCV 4 makes grey areas.
"""

import logging
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skyfix.runtime.errors import BrokenImageError, InputError

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Resize = Literal["area", "bilinear", "bicubic"]

MAX_BROKEN = 0.01  # share of the images read; more is no accident but a bad copy of the data
MIN_READ = 100  # images before the share means anything

# what Pillow raises on files that are no images, cut off, altered or absurdly large
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

log = logging.getLogger(__name__)


def read_image(
    path: Path,
    size_px: tuple[int, int],
    rows: tuple[int, int] | None = None,
    resize: Resize = "area",
) -> Pixels:
    """Pixels (H, W, 3) RGB at a size; raises BrokenImageError that names the file.

    Args:
        path: JPEG, PNG or TIFF.
        size_px: height and width.
        rows: first row and the row after the last one that are used (None: all), before resizing.
        resize: the filter.
    """
    image = decoded(path)
    if rows is not None:
        if image.height < rows[1]:
            raise BrokenImageError(
                f"{path} has {image.height} rows and cannot be cut to rows {rows[0]}..{rows[1] - 1}"
            )
        image = image.crop((0, rows[0], image.width, rows[1]))
    return resized(image, size_px, resize)


def decoded(path: Path) -> Image.Image:
    """All pixels of an image file as RGB; raises BrokenImageError that names the file."""
    try:
        with Image.open(path) as image:
            image.load()
            rgb: Image.Image = image if image.mode == "RGB" else image.convert("RGB")
    except DECODING_ERRORS as error:
        raise BrokenImageError(f"{path} cannot be read as an image: {error}") from error
    return rgb


def resized(image: Image.Image, size_px: tuple[int, int], resize: Resize) -> Pixels:
    """Pixels (H, W, 3) of an RGB image at a height and width."""
    height, width = size_px
    if resize == "area":
        pixels = np.asarray(image)  # (h, w, 3)
        area = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return area.astype(np.uint8, copy=False)
    return np.array(image.resize((width, height), FILTERS[resize]))


class BrokenImages:
    """Broken files of a run: each is named once and skipped; too many of them stop the run.

    The rule: once MIN_READ images have been read, no more than MAX_BROKEN of all reads may fail.
    A file that fails in every epoch counts in each, as the good ones do.
    """

    def __init__(self) -> None:
        self.read = 0  # images asked for, broken ones included
        self.failed = 0
        self.paths: list[Path] = []  # broken files, in the order in which they were met

    def count(self, images: int = 1) -> None:
        """Images that were read well."""
        self.read += images

    def record(self, path: Path, error: BrokenImageError) -> None:
        """An image that was not; raises InputError when they are too many."""
        self.read += 1
        self.failed += 1
        if path not in self.paths:
            self.paths.append(path)
            log.warning("skipped: %s", error)
        self.check()

    def check(self) -> None:
        """Raise InputError when too many have failed; for whoever counts good ones last."""
        if self.read >= MIN_READ and self.failed > MAX_BROKEN * self.read:
            raise InputError(
                f"{self.failed} of {self.read} images cannot be read, the first is "
                f"{self.paths[0]}. Copy the data again; `skyfix data check DATASET ROOT --read` "
                "names every broken file"
            )
