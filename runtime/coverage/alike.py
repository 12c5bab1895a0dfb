"""How much the ground at a place's rivals correlates with the ground at the place itself.

The overview of the place, cut to what a frame covers, takes the camera's part: what it reaches
at a rival without any noise, season or tilt is the most that the map itself says. As in flight, a
coarse correlation finds the shift and the middle scale of fuse/scales.py is what is compared.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fuse.hypotheses import SEPARATION_STEPS
from ..fuse.scales import COARSE_PX, MIDDLE_PX
from ..fuse.sweep import correlate
from ..fuse.template import Template
from ..maps.pack import TilePack
from .sight import seen_template

CORRELATED = 6  # rivals of a place, the strongest; the others are taken as their median
NO_RIVAL = 0.2  # what wrong places of procedural land reach, where none was looked at
FINE_REACH_PX = 2  # at the middle scale, around the coarse peak: most of a coarse pixel

Float = NDArray[np.float32]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Ground:
    """A place as the overview shows it."""

    coarse: Template  # COARSE_PX across the tile
    middle: Template  # MIDDLE_PX
    contrast: float  # grey levels, standard deviation at the middle scale


def ground_at(pack: TilePack, east_m: float, north_m: float) -> Ground:
    """What a frame would cover at a place."""
    coarse_m, middle_m = (pack.manifest.tile_m / pixels for pixels in (COARSE_PX, MIDDLE_PX))
    coarse, _ = seen_template(_grey(pack, (east_m, north_m), COARSE_PX, coarse_m), coarse_m)
    middle, contrast = seen_template(_grey(pack, (east_m, north_m), MIDDLE_PX, middle_m), middle_m)
    return Ground(coarse, middle, contrast)


def correlations(pack: TilePack, ground: Ground, mass: Float, cell: Int) -> Float:
    """Correlation (F, K) of a place with each of its rivals of mass (F, K) at cell (F, K, 2)."""
    keys, inverse = np.unique(cell.reshape(-1, 2), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)  # NumPy 2.0 keeps the axis
    weight = np.bincount(inverse, mass.ravel(), len(keys))
    strongest = np.argsort(-weight)[:CORRELATED]
    strongest = strongest[keys[strongest, 0] >= 0]
    reached = np.array([_correlation(pack, ground, keys[index]) for index in strongest])
    value = np.full(len(keys), np.median(reached) if len(reached) else NO_RIVAL)
    value[strongest] = reached
    return value[inverse].reshape(mass.shape).astype(np.float32)


def _correlation(pack: TilePack, ground: Ground, tile: Int) -> float:
    """The correlation at the best shift within half the distance to the next hypothesis."""
    grid, row, column = pack.grid, int(tile[0]), int(tile[1])
    center = (grid.east_m + column * grid.step_m, grid.north_m - row * grid.step_m)
    coarse, middle = ground.coarse, ground.middle
    reach_px = max(1, round(SEPARATION_STEPS * grid.step_m / 2 / coarse.gsd_m))
    window = _grey(pack, center, COARSE_PX + 2 * reach_px, coarse.gsd_m)
    down, right = divmod(int(correlate(window[None], [coarse]).argmax()), 2 * reach_px + 1)
    east_m, north_m = (right - reach_px) * coarse.gsd_m, (reach_px - down) * coarse.gsd_m
    center = (center[0] + east_m, center[1] + north_m)
    window = _grey(pack, center, MIDDLE_PX + 2 * FINE_REACH_PX, middle.gsd_m)
    return float(correlate(window[None], [middle]).max())


def _grey(pack: TilePack, center_en_m: tuple[float, float], side: int, gsd_m: float) -> Float:
    """The overview around a point at another scale (side, side); its mean where there is none."""
    wide_px = max(2, round(side * gsd_m / pack.manifest.overview_gsd_m))
    half_m = wide_px * pack.manifest.overview_gsd_m / 2
    corner = (center_en_m[0] - half_m, center_en_m[1] + half_m)
    grey, valid = pack.overview(*corner, (wide_px, wide_px))
    window = grey.astype(np.float32)
    if valid.any() and not valid.all():
        window[~valid] = window[valid].mean()
    how = cv2.INTER_AREA if wide_px > side else cv2.INTER_LINEAR
    return cv2.resize(window, (side, side), interpolation=how).astype(np.float32, copy=False)
