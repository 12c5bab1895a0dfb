"""Pictures that come without telemetry: the largest centred square of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BrokenImageError, InputError
from .source import decode_image, quiet_opencv

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder and below, by name; raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"--frames {folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"--frames {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return paths


def read_square(path: Path) -> Pixels:
    """The largest centred square of a picture, RGB; raises BrokenImageError."""
    quiet_opencv()  # of GeoTIFF it would write every tag that it does not know
    image = decode_image(path.read_bytes())
    if image is None:
        raise BrokenImageError(f"{path} cannot be decoded. Remove it, or copy it again.")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.cvtColor(image[top : top + side, left : left + side], cv2.COLOR_BGR2RGB)
    return square.astype(np.uint8, copy=False)


def scaled_square(square: Pixels, side_px: int) -> Pixels:
    """A square in the model's size."""
    scaled = cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return scaled.astype(np.uint8, copy=False)


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the items, evenly spaced, the first and the last among them."""
    index = np.unique(np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int))
    return [items[i] for i in index]
