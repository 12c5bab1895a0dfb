"""A part of the map that training does not see, and how well it is found there.

    map -> block (a quarter at most) -> camera views drawn over it    asked about
                                     `-> tiles of it, and of the rest  answers

A view is found where the most similar tile's centre lies within one tile step of its own.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from skyfix.runtime.encoder import normalised
from skyfix.runtime.errors import RasterError
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.appearance import draw_appearance
from skyfix.runtime.types import Patch

from .config import ViewConfig
from .data.raster import MIN_MAP_VALID, draw_pair
from .models.network import Network

STEPS_A_TILE = 4  # tile centres; a pack has ten, which costs six times as much to describe
BLOCK_SHARE = 0.5  # of either side of the map
MAX_BLOCK_TILES = 5.0  # tile widths a side: 400 tiles to describe, however large the map
MIN_MAP_TILES = 3.0  # tile widths a side: less leaves no ground to learn from beside the block
MAX_TILES = 800  # of the gallery, the block's included
VIEWS = 320  # asked about: 2.5 % of standard error at worst
CANDIDATES = 25  # places for the block that are looked at
MAX_TRIES = 30
BATCH = 64

Bounds: TypeAlias = tuple[float, float, float, float]  # west, south, east, north


@dataclass(frozen=True)
class Exam:
    """Camera views of known places, and the tiles among which they are looked for."""

    views: NDArray[np.float32]  # (N, 3, P, P)
    centers_en_m: NDArray[np.float64]  # (N, 2)
    tiles: NDArray[np.float32]  # (T, 3, P, P)
    tile_en_m: NDArray[np.float64]  # (T, 2)
    step_m: float

    @torch.no_grad()
    def found(self, network: Network, device: torch.device) -> NDArray[np.bool_]:
        """Which views (N,) a network finds; it is left in evaluation mode."""
        network.eval()
        queries, tiles = (_described(network, x, device) for x in (self.views, self.tiles))
        best = np.argmax(queries @ tiles.T, axis=1)
        offset = np.abs(self.tile_en_m[best] - self.centers_en_m)
        found: NDArray[np.bool_] = offset.max(axis=1) <= self.step_m
        return found


def draw_exam(
    ground: Raster,
    seen: Raster,
    block: Bounds,
    view: ViewConfig,
    rng: np.random.Generator,
    views: int | None = None,
) -> Exam:
    """Views over a block of a map, and tiles of the map with the block's among them.

    Args:
        ground: the map, at its true scale.
        seen: what the camera sees: the map itself, or another year's picture in the same metres.
        block: of the map, west, south, east, north.
        view: of the model.
        rng: of the places, poses and appearances.
        views: how many; VIEWS by default.
    """
    drawn, views = [], views or VIEWS
    over = cropped(seen, block)
    for _ in range(MAX_TRIES * views):
        pair = draw_pair(over, view, draw_appearance(rng, 0.0), rng)
        if pair is not None:
            drawn.append(pair)
        if len(drawn) == views:
            break
    if not drawn:
        raise RasterError("the held-out part of the map has no valid ground: use a fuller map")
    step_m = view.input_px * view.gsd_m / STEPS_A_TILE
    places = _tile_places(ground, block, step_m, rng)
    patches = [_tile(ground, east, north, view) for east, north in places]
    whole = [index for index, patch in enumerate(patches) if patch.valid.mean() >= MIN_MAP_VALID]
    return Exam(
        np.stack([normalised(pair.camera, None, None) for pair in drawn]),
        np.array([pair.center_en_m for pair in drawn]),
        np.stack([normalised(patches[index], None, None) for index in whole]),
        places[whole],
        step_m,
    )


def draw_block(ground: Raster, view: ViewConfig, rng: np.random.Generator) -> Bounds:
    """The block to hold out: the fullest of some drawn places; RasterError for too small a map."""
    tile_m = view.input_px * view.gsd_m
    west, south, east, north = ground.bounds_m
    width_m, height_m = east - west, north - south
    if min(width_m, height_m) < MIN_MAP_TILES * tile_m:
        raise RasterError(
            f"the map of {width_m:.0f} x {height_m:.0f} m is too small to learn from: a part is "
            f"held out to measure by. Take {MIN_MAP_TILES * tile_m:.0f} m a side or more"
        )
    sides = [min(BLOCK_SHARE * side, MAX_BLOCK_TILES * tile_m) for side in (width_m, height_m)]
    corners = rng.uniform(0, 1, (CANDIDATES, 2)) * (width_m - sides[0], height_m - sides[1])
    blocks: list[Bounds] = [
        (west + x, south + y, west + x + sides[0], south + y + sides[1]) for x, y in corners
    ]
    return max(blocks, key=lambda block: float(cropped(ground, block).valid.mean()))


def without(ground: Raster, block: Bounds) -> Raster:
    """The map with a hole where the block is."""
    valid = ground.valid.copy()  # nothing shows the image where this is False
    valid[_pixels(ground, block)] = False
    return replace(ground, valid=valid)


def cropped(ground: Raster, block: Bounds) -> Raster:
    """The block alone, on whole pixels."""
    rows, columns = _pixels(ground, block)
    return replace(
        ground,
        image=np.ascontiguousarray(ground.image[rows, columns]),
        valid=np.ascontiguousarray(ground.valid[rows, columns]),
        west_m=ground.west_m + columns.start * ground.gsd_m,
        north_m=ground.north_m - rows.start * ground.gsd_m,
    )


def _pixels(ground: Raster, block: Bounds) -> tuple[slice, slice]:
    """Rows and columns of a block."""
    west, south, east, north = block
    top, bottom = ((ground.north_m - y) / ground.gsd_m for y in (north, south))
    left, right = ((x - ground.west_m) / ground.gsd_m for x in (west, east))
    return slice(max(0, round(top)), round(bottom)), slice(max(0, round(left)), round(right))


def _tile_places(
    ground: Raster, block: Bounds, step_m: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Centres (T, 2) of the tiles: all of the block, and as many others as there is room for."""
    west, south, east, north = ground.bounds_m
    side = STEPS_A_TILE / 2 * step_m
    easts, northings = (
        np.arange(low + side, high - side + 1e-6, step_m)
        for low, high in ((west, east), (south, north))
    )
    grid = np.stack(np.meshgrid(easts, northings), axis=-1).reshape(-1, 2)
    low, high = np.array(block[:2]) - step_m, np.array(block[2:]) + step_m
    inside = ((grid >= low) & (grid <= high)).all(axis=1)
    others = rng.permutation(np.flatnonzero(~inside))[: max(0, MAX_TILES - int(inside.sum()))]
    chosen: NDArray[np.float64] = grid[np.concatenate([np.flatnonzero(inside), others])]
    return chosen


def _tile(ground: Raster, east_m: float, north_m: float, view: ViewConfig) -> Patch:
    half_m = view.input_px * view.gsd_m / 2
    window = ground.read(
        east_m - half_m, north_m + half_m, (view.input_px, view.input_px), view.gsd_m
    )
    window.image[~window.valid] = 0
    return Patch(window.image, window.valid, view.gsd_m, (0.0, 0.0))


def _described(
    network: Network, patches: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    parts = [
        network.encode(
            network.views[0], torch.from_numpy(patches[start : start + BATCH]).to(device)
        )
        for start in range(0, len(patches), BATCH)
    ]
    return torch.cat([part.descriptor for part in parts]).cpu().numpy()


def gain_in_deviations(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """How sure it is that `after` finds more of the same views (McNemar): +1.64 is 95 %."""
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return (won - lost) / math.sqrt(max(1, won + lost))
