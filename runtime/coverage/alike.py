"""How much the ground at a place's rivals correlates with the ground at the place itself.

The structure of the place, cut to what a frame covers, takes the camera's part: what it reaches
at a rival without any noise, season or tilt is the most that the map itself says. As in flight, a
coarse correlation finds the shift and the fine scale of fuse/scales.py is what is compared.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..fuse.hypotheses import SEPARATION_STEPS
from ..fuse.scales import Scale, Scales
from ..fuse.sweep import correlate
from ..fuse.template import Template
from ..geo import Grid
from ..maps.pack import TilePack
from .sight import seen_template, spread_seen

CORRELATED = 6  # rivals of a place, the strongest; the others are taken as their median
NO_RIVAL = 0.2  # what wrong places of procedural land reach, where none was looked at
FINE_REACH_PX = 2  # at the fine scale, around the coarse peak: most of a coarse pixel

Float = NDArray[np.float32]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Ground:
    """A place as the overview shows it."""

    coarse: Template
    fine: Template
    contrast: float  # grey levels, standard deviation at the fine scale


def ground_at(pack: TilePack, scales: Scales, east_m: float, north_m: float) -> Ground:
    """What a frame would cover at a place."""
    coarse, fine = (
        seen_template(scale.chart.around(east_m, north_m, scale.side_px).levels, scale.gsd_m)
        for scale in (scales.coarse, scales.fine)
    )
    return Ground(coarse, fine, _contrast(pack, scales.fine, east_m, north_m))


def correlations(grid: Grid, scales: Scales, ground: Ground, mass: Float, cell: Int) -> Float:
    """Correlation (F, K) of a place with each of its rivals of mass (F, K) at cell (F, K, 2)."""
    keys, inverse = np.unique(cell.reshape(-1, 2), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)  # NumPy 2.0 keeps the axis
    weight = np.bincount(inverse, mass.ravel(), len(keys))
    strongest = np.argsort(-weight)[:CORRELATED]
    strongest = strongest[keys[strongest, 0] >= 0]
    reached = np.array([_correlation(grid, scales, ground, keys[index]) for index in strongest])
    value = np.full(len(keys), np.median(reached) if len(reached) else NO_RIVAL)
    value[strongest] = reached
    return value[inverse].reshape(mass.shape).astype(np.float32)


def _correlation(grid: Grid, scales: Scales, ground: Ground, tile: Int) -> float:
    """The correlation at the best shift within half the distance to the next hypothesis."""
    east_m, north_m = grid.east_m + tile[1] * grid.step_m, grid.north_m - tile[0] * grid.step_m
    reach_m = SEPARATION_STEPS * grid.step_m / 2
    reach_px = max(1, round(reach_m / scales.coarse.gsd_m))
    east_m, north_m, _ = _best(scales.coarse, ground.coarse, east_m, north_m, reach_px)
    return _best(scales.fine, ground.fine, east_m, north_m, FINE_REACH_PX)[2]


def _best(
    scale: Scale, template: Template, east_m: float, north_m: float, reach_px: int
) -> tuple[float, float, float]:
    """The best place within reach of another, and its correlation."""
    window = scale.chart.around(east_m, north_m, scale.side_px + 2 * reach_px)
    ncc = correlate(window.levels[None], [template])
    down, right = divmod(int(ncc.argmax()), 2 * reach_px + 1)
    east_m = window.east_m + (right - reach_px) * scale.gsd_m
    north_m = window.north_m + (reach_px - down) * scale.gsd_m
    return east_m, north_m, float(ncc.max())


def _contrast(pack: TilePack, fine: Scale, east_m: float, north_m: float) -> float:
    """Of the overview's own grey, averaged to the fine scale."""
    wide_px = max(2, round(fine.side_px * fine.gsd_m / pack.manifest.overview_gsd_m))
    half_m = wide_px * pack.manifest.overview_gsd_m / 2
    grey, valid = pack.overview(east_m - half_m, north_m + half_m, (wide_px, wide_px))
    window = grey.astype(np.float32)
    if valid.any() and not valid.all():
        window[~valid] = window[valid].mean()
    side = (fine.side_px, fine.side_px)
    averaged = cv2.resize(window, side, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    return spread_seen(averaged)
