"""Patches to compare engines on: real pictures, or drawn land where there are none."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.encoder import normalised
from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.errors import BrokenImageError, InputError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.source import decode_image
from skyfix.runtime.types import Patch

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
DRAWN_SEEDS = range(4)
DRAWN_TILES = 4  # a side of each drawn land

Pixels = NDArray[np.uint8]


def batch_from_folder(folder: Path, card: ModelCard, limit: int) -> NDArray[np.float32]:
    """Network inputs (N, 3, P, P) of at most `limit` pictures, evenly chosen by name.

    The largest centred square of each, scaled to the model's size. Raises InputError.
    """
    if not folder.is_dir():
        raise InputError(f"--frames {folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"--frames {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int))
    return _batch([_square(paths[index], card.input_px) for index in chosen], card)


def batch_from_drawing(card: ModelCard, limit: int) -> NDArray[np.float32]:
    """Network inputs (N, 3, P, P) of drawn town and country."""
    side = card.input_px
    width_m = DRAWN_TILES * card.tile_m
    lands = [
        town_and_country(seed, width_m, width_m, card.gsd_m, LocalFrame(0.0, 0.0)).image
        for seed in DRAWN_SEEDS
    ]
    starts = [step * side for step in range(DRAWN_TILES)]
    tiles = [land[y : y + side, x : x + side] for y in starts for x in starts for land in lands]
    whole = [tile for tile in tiles if tile.shape == (side, side, 3)]
    return _batch(whole[:limit], card)


def _batch(images: list[Pixels], card: ModelCard) -> NDArray[np.float32]:
    valid = np.ones((card.input_px, card.input_px), bool)
    patches = [Patch(image, valid, card.gsd_m, (0.0, 0.0)) for image in images]
    return np.stack([normalised(patch, card.mean, card.std) for patch in patches])


def _square(path: Path, side_px: int) -> Pixels:
    image = decode_image(path.read_bytes())
    if image is None:
        raise BrokenImageError(f"{path} cannot be decoded. Remove it, or copy it again.")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.cvtColor(image[top : top + side, left : left + side], cv2.COLOR_BGR2RGB)
    scaled = cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return scaled.astype(np.uint8, copy=False)
