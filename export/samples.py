"""Patches to compare engines on: real pictures, or drawn land where there are none.

Every second one lacks its corners, as a frame that was turned north-up does: where the engine
normalises, what it makes of pixels that are not valid is compared too.
"""

from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.pictures import (
    Pixels,
    evenly,
    picture_files,
    read_square,
    scaled_square,
)
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.types import Patch

DRAWN_SEEDS = range(4)
DRAWN_TILES = 4  # a side of each drawn land
REACH = 2**-0.5  # of a square's side: from its centre to a corner, where its side is 1


def patches_from_folder(folder: Path, card: ModelCard, limit: int) -> list[Patch]:
    """Patches of at most `limit` pictures of a folder and below, evenly chosen by name.

    The largest centred square of each, scaled to the model's size. Raises InputError.
    """
    chosen = evenly(picture_files(folder), limit)
    return _patches([scaled_square(read_square(path), card.input_px) for path in chosen], card)


def patches_from_drawing(card: ModelCard, limit: int) -> list[Patch]:
    """Patches of drawn town and country."""
    side = card.input_px
    width_m = DRAWN_TILES * card.tile_m
    lands = [
        town_and_country(seed, width_m, width_m, card.gsd_m, LocalFrame(0.0, 0.0)).image
        for seed in DRAWN_SEEDS
    ]
    starts = [step * side for step in range(DRAWN_TILES)]
    tiles = [land[y : y + side, x : x + side] for y in starts for x in starts for land in lands]
    whole = [tile for tile in tiles if tile.shape == (side, side, 3)]
    return _patches(whole[:limit], card)


def _patches(images: list[Pixels], card: ModelCard) -> list[Patch]:
    side = card.input_px
    masks = np.ones((side, side), bool), _turned(side)
    return [
        Patch(np.where(valid[..., None], image, np.uint8(0)), valid, card.gsd_m, (0.0, 0.0))
        for image, valid in zip(images, cycle(masks))
    ]


def _turned(side: int) -> NDArray[np.bool_]:
    """Valid pixels of a square frame that is turned by 45 degrees and reaches to the edges."""
    offset = np.abs(np.arange(side) - (side - 1) / 2)
    turned: NDArray[np.bool_] = offset[:, None] + offset <= side * REACH
    return turned
