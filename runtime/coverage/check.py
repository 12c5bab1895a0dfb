"""The mission check: places along a route or over a map, and what is to be expected at each.

    places -> contrast, tile -> imagined frames -> scan for rivals -> weights -> chance, time

A place is localisable where a single frame of a lost drone would stand out there, in the true
place, at least as often as not.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fuse.likelihood import Likelihood
from ..fuse.reckoning import temper_of
from ..fuse.scales import Scales, scales_of_pack
from ..fuse.track import STAND_OUT
from ..maps.pack import TilePack
from .alike import Ground, correlations, ground_at
from .forecast import Frames, first_fix_frames, lost_weights
from .rivals import Look, Progress, sampled_tiles, scan
from .sight import BARE_GREY, WRONG_MEAN, WRONG_STD, Sights, imagined

FRAMES = 12  # imagined at each place
FLIGHTS = 12  # imagined from each place of a route
LOCALISABLE = 0.5  # chance that a single lost frame stands out at the true place
SAMPLED_TILES = 2000  # of which directions of no meaning are made

Array = NDArray[np.float64]
Float = NDArray[np.float32]
Int = NDArray[np.int64]


class Kind(str, Enum):
    """What a place is."""

    LOCALISABLE = "localisable"
    AMBIGUOUS = "ambiguous"  # other places of the map look alike
    BARE = "bare"  # the map shows too little to tell anything by
    OUTSIDE = "outside"  # no tile: off the map, or too near to its edge


@dataclass(frozen=True)
class Flying:
    """How the drone flies."""

    speed_mps: float = 10.0
    interval_s: float = 1.0

    @property
    def step_m(self) -> float:
        """Flown between two frames."""
        return self.speed_mps * self.interval_s


@dataclass(frozen=True)
class Places:
    """Places of the map's frame, with what is known of them before anything is compared."""

    en_m: Array  # (P, 2)
    tile: Int  # (P, 2) row and column of the nearest tile, clipped to the grid
    inside: NDArray[np.bool_]  # (P,) the nearest tile is one
    edge_m: Float  # (P,) to the nearest place without a tile, 0 outside


@dataclass(frozen=True)
class Outlook:
    """What is to be expected at places; NaN and -1 outside."""

    places: Places
    kind: list[Kind]  # (P,)
    chance: Float  # (P,) of a single lost frame to stand out at the true place
    won: Float  # (P,) of a single lost frame to weigh the true place most
    contrast: Float  # (P,) grey levels
    alike: Int  # (P, 2) tile of the strongest rival
    alike_weight: Float  # (P,) its mean weight in a single lost frame
    first_fix_s: Float  # (P, FLIGHTS) from a lost start there; infinite where there was none
    first_fix_right: NDArray[np.bool_]  # (P, FLIGHTS)


def places_on(pack: TilePack, points_en_m: Array) -> Places:
    """Where points (P, 2) lie on a pack."""
    grid = pack.grid
    north_west = np.array([grid.east_m, grid.north_m])
    away = (points_en_m - north_west)[:, ::-1] * [-1, 1] / grid.step_m  # rows and columns
    tile = np.rint(away).astype(np.int64)
    on_grid = ((tile >= 0) & (tile < (grid.rows, grid.columns))).all(axis=1)
    tile = np.clip(tile, 0, (grid.rows - 1, grid.columns - 1))
    inside = on_grid & pack.valid[tile[:, 0], tile[:, 1]]
    framed = np.pad(pack.valid.astype(np.uint8), 1)
    steps = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    edge_m = np.where(inside, steps[tile[:, 0], tile[:, 1]] * grid.step_m, 0).astype(np.float32)
    return Places(points_en_m, tile, inside, edge_m)


def outlook(
    pack: TilePack, places: Places, flying: Flying, likelihood: Likelihood,
    length_m: float | None = None,
    progress: Progress = lambda _done, _total: None, seed: int = 0,
) -> Outlook:  # fmt: skip
    """What is to be expected at places.

    Args:
        pack: an opened pack.
        places: evenly spaced along a route of `length_m`, or anywhere where that is None. A lost
            flight follows the route and turns round at its end, or stays over its place.
        flying: speed and interval.
        likelihood: of the model that the pack was made by.
        length_m: of the route.
        progress: called with the comparisons done and those in all.
        seed: of the imagined frames.
    """
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(places.inside)
    tiles = places.tile[inside]
    scales = scales_of_pack(pack)
    grounds = [ground_at(pack, scales, *places.en_m[place].tolist()) for place in inside]
    contrast = np.array([ground.contrast for ground in grounds], np.float32)
    sights = imagined(contrast, sampled_tiles(pack, SAMPLED_TILES, rng), FRAMES, rng)
    look = scan(pack, tiles, sights, likelihood, progress)
    frames = _frames(pack, scales, grounds, sights, look, tiles, rng)
    weight = lost_weights(frames, likelihood)
    alike, alike_weight = _strongest(weight, look)
    chance = (weight[..., 0] >= STAND_OUT).mean(axis=1)
    first_fix_s, right = _first_fixes(pack, places, frames, flying, likelihood, length_m, rng)

    def everywhere(values: NDArray[Any], missing: float) -> NDArray[Any]:
        return _filled(values, inside, len(places.inside), missing)

    return Outlook(
        places=places,
        kind=_kinds(everywhere(chance, np.nan), everywhere(contrast, np.nan)),
        chance=everywhere(chance, np.nan),
        won=everywhere((weight.argmax(axis=2) == 0).mean(axis=1), np.nan),
        contrast=everywhere(contrast, np.nan),
        alike=everywhere(alike, -1),
        alike_weight=everywhere(alike_weight, np.nan),
        first_fix_s=first_fix_s,
        first_fix_right=right,
    )


def _frames(
    pack: TilePack, scales: Scales, grounds: list[Ground], sights: Sights, look: Look, tiles: Int,
    rng: np.random.Generator,
) -> Frames:  # fmt: skip
    """The imagined frames with what the overview says of their rivals."""
    on_map = np.array(
        [
            correlations(pack.grid, scales, ground, look.mass[place], look.cell[place])
            for place, ground in enumerate(grounds)
        ]
    )
    share = sights.correlation[..., None]
    unlike = np.sqrt(np.maximum(1 - on_map**2, 0))  # a copy of the ground has its correlation
    beyond = WRONG_MEAN + WRONG_STD * rng.normal(size=on_map.shape)
    chance = beyond * np.sqrt(1 - share**2) * unlike
    rivals = (share * on_map + chance).astype(np.float32)
    return Frames.of(look, sights.correlation, rivals, tiles, int(pack.valid.sum()))


def _strongest(weight: Float, look: Look) -> tuple[Int, Float]:
    """The rival (P, 2) with the highest weight over all frames of a place, and that mean (P,)."""
    cells, weights = [], []
    for place, cell in enumerate(look.cell):
        keys, inverse = np.unique(cell.reshape(-1, 2), axis=0, return_inverse=True)
        total = np.bincount(inverse.reshape(-1), weight[place, :, 1:].ravel(), len(keys))
        cells.append(keys[total.argmax()])
        weights.append(total.max() / len(cell))
    return np.array(cells), np.array(weights, np.float32)


def _first_fixes(
    pack: TilePack, places: Places, frames: Frames, flying: Flying, likelihood: Likelihood,
    length_m: float | None, rng: np.random.Generator,
) -> tuple[Float, NDArray[np.bool_]]:  # fmt: skip
    """Seconds (P, FLIGHTS) from a lost start to the first fix, and whether it is right."""
    count = len(places.inside)
    numbers = np.where(places.inside, np.cumsum(places.inside) - 1, -1)  # among those inside
    spacing_m = length_m / (count - 1) if length_m else math.inf

    def path(start: Int, frame: int) -> Int:
        along = start + frame * flying.step_m / spacing_m  # 0 to count - 1 and back again
        turned = count - 1 - abs(along % max(2 * (count - 1), 1) - (count - 1))
        over: Int = numbers[np.rint(turned if length_m else start).astype(np.int64)]
        return over

    starts = np.repeat(np.arange(count), FLIGHTS)
    temper = temper_of(flying.step_m / pack.manifest.tile_m)
    needed, right = first_fix_frames(frames, starts, path, temper, likelihood, rng)
    first_fix_s = (needed - 1) * np.float32(flying.interval_s)
    return first_fix_s.reshape(count, FLIGHTS), right.reshape(count, FLIGHTS)


def _kinds(chance: Float, contrast: Float) -> list[Kind]:
    """What each place is; NaN stands for outside."""
    kinds = []
    for frames, grey in zip(chance.tolist(), contrast.tolist(), strict=True):
        if math.isnan(frames):
            kinds.append(Kind.OUTSIDE)
        elif frames >= LOCALISABLE:
            kinds.append(Kind.LOCALISABLE)
        else:
            kinds.append(Kind.BARE if grey < BARE_GREY else Kind.AMBIGUOUS)
    return kinds


def _filled(
    values: NDArray[Any], inside: NDArray[np.intp], count: int, missing: float
) -> NDArray[Any]:
    """Values of the places inside (p, ...) among all (count, ...)."""
    filled = np.full((count, *values.shape[1:]), missing, values.dtype)
    filled[inside] = values
    return filled
