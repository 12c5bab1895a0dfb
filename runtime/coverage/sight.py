"""What a camera will make of a place: imagined frames, drawn from what simulated flights showed.

A camera's descriptor q of the place with tile x was found to be

    q . tile = a (x . tile) + sqrt(1 - a^2) ((OFFSET + n . tile) - (OFFSET + n . x) (x . tile))

with a the camera-map similarity and n a direction of no meaning, which is as alike to the map's
tiles as they are to each other: n is drawn from the pack's own tiles, and counts without what it
shares with x. Both a and the correlation r of structure sink where the ground is bare:

    a = SIMILARITY - SIMILARITY_FALL ln(CONTRAST / contrast)
    r = CORRELATION contrast / hypot(contrast, NOISE_GREY)

All constants were measured on simulated flights over procedural land with the model `nano`
(at appearance 0.8 and tilt 3 degrees: a by 240 frames over four maps and 120 over land that fades
to nothing, r by 240 over six, two of which fade); benchmarks/coverage.py prints what they lead to.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..fuse.structure import turn_of_axes
from ..fuse.template import Template, without_mean

SIMILARITY, SIMILARITY_STD = 0.82, 0.066  # of the camera's view to its own tile
SIMILARITY_FALL = 0.055  # for each factor e of contrast that is missing
SIMILARITY_RANGE = (0.3, 0.97)
CONTRAST = 32.0  # grey levels, standard deviation of a tile in the overview
OFFSET = 0.067  # how much more alike a camera's view is to any tile than a tile to a tile
CORRELATION, CORRELATION_STD = 0.81, 0.12  # of the camera's view with its own place
CORRELATION_RANGE = (0.0, 0.97)
NOISE_GREY = 2.7  # contrast at which half of the variance is not the map's
# Of the correlation with another place beyond what the map alone gives: a frame takes the best of
# many headings, heights and shifts there.
WRONG_MEAN, WRONG_STD = 0.14, 0.10
SEEN_SHARE = 0.6  # of a tile that a frame covers
BARE_GREY = 5.0  # below, noise and what lies on the ground are half of its structure (floors)
MIXED_TILES = 48  # in one direction of no meaning

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Sights:
    """Imagined frames: F of each of P places."""

    similarity: Float  # (P, F) a
    correlation: Float  # (P, F) r
    noise: Float  # (F, D) unit directions of no meaning, the same at every place


def imagined(contrast: Float, tiles: Float, frames: int, rng: np.random.Generator) -> Sights:
    """Draw frames for places of a contrast (P,), the noise from a sample of tiles (n, D)."""
    shape = (len(contrast), frames)
    known = np.maximum(contrast, 0.1)[:, None]
    similarity = (
        SIMILARITY
        - SIMILARITY_FALL * np.log(np.maximum(CONTRAST / known, 1))
        + SIMILARITY_STD * rng.normal(size=shape)
    )
    correlation = CORRELATION * known / np.hypot(known, NOISE_GREY) + CORRELATION_STD * rng.normal(
        size=shape
    )
    return Sights(
        np.clip(similarity, *SIMILARITY_RANGE).astype(np.float32),
        np.clip(correlation, *CORRELATION_RANGE).astype(np.float32),
        directions_of_no_meaning(tiles, frames, rng),
    )


def directions_of_no_meaning(tiles: Float, count: int, rng: np.random.Generator) -> Float:
    """Unit vectors (count, D) that vary as the tiles (n, D) do, and resemble none of them."""
    spread = tiles - tiles.mean(axis=0)
    mixes = np.stack(
        [
            rng.normal(size=MIXED_TILES) @ spread[rng.integers(0, len(tiles), MIXED_TILES)]
            for _ in range(count)
        ]
    )
    length = np.linalg.norm(mixes, axis=1, keepdims=True)
    directions: Float = (mixes / np.maximum(length, 1e-9)).astype(np.float32)
    return directions


def seen_template(levels: NDArray[np.int8], gsd_m: float) -> Template:
    """What a frame covers of a place in the map's structure (S, S, 3)."""
    mask = _covered(len(levels))
    (within,) = without_mean(levels[None], mask[None], turn_of_axes(np.zeros(1)))
    return Template(within, mask, gsd_m, turn_deg=0.0, log_scale=0.0)


def spread_seen(grey: Float) -> float:
    """Standard deviation of what a frame covers of a picture of the map (S, S)."""
    return float(grey[_covered(len(grey)) > 0].std())


def _covered(side: int) -> Float:
    """1 where a frame covers a tile of so many pixels."""
    away = np.hypot(*(np.mgrid[:side, :side] - (side - 1) / 2))
    covered: Float = (away <= side * np.sqrt(SEEN_SHARE / np.pi)).astype(np.float32)
    return covered
