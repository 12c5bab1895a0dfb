"""A point-mass filter on the pack's grid: pure functions on log probabilities.

prior      log p(x)                     uniform over the tiles, or a disc
predict    p(x') = sum_x p(x'|x) p(x)   a disc of every place the drone can have reached
update     log p(x|s) = log p(x) + log L(s|x) - log sum        L as in likelihood.py
leaders    the places that hold the mass, each with its own centre
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geo import Grid
from .likelihood import Likelihood

Log = NDArray[np.float32]

NEVER = np.float32(-np.inf)  # log probability of places without a tile
LEAST_SPREAD = 0.1  # cells; a smaller blur changes nothing
# Places that are looked at: as many as hold all but this of what the most hold. Where descriptors
# tell tiles apart that is a handful, across years half the map; over 100 km2 the true place is
# among the most, and a glance (glance.py) chooses from them.
LEAST_LEADERS, MOST_LEADERS, LEFT_OUT = 16, 2048, 0.005
CELLS_A_PEAK = 16  # looked at for each leader: most of them are its neighbours
# Cells this far below the maximum in log are outside the search window, as soon as all of them hold
# less than the share: over a large map what is left of a search is thin, and everywhere.
NEGLIGIBLE = (5.0, 7.5, 10.0, 12.5, 15.0, 17.5, 20.0)
NEGLIGIBLE_SHARE = 1e-3


@dataclass(frozen=True)
class Belief:
    """Where the image's centre may be, over the pack's grid."""

    grid: Grid
    log_p: Log  # (rows, columns), sums to 1 in probability


def uniform_belief(grid: Grid, valid: NDArray[np.bool_]) -> Belief:
    """Every tile alike."""
    return Belief(grid, normalised(np.where(valid, np.float32(0), NEVER)))


def disc_belief(
    grid: Grid, valid: NDArray[np.bool_], center_en_m: tuple[float, float], radius_m: float
) -> Belief | None:
    """Every tile within a radius alike; None where the pack has none there."""
    row, column = grid.cell_from_en(*center_en_m)
    rows = np.arange(grid.rows)[:, None] - row
    columns = np.arange(grid.columns)[None, :] - column
    inside = valid & (np.hypot(rows, columns) * grid.step_m <= radius_m + grid.step_m / 2)
    return uniform_belief(grid, inside) if inside.any() else None


def predicted(belief: Belief, valid: NDArray[np.bool_], reach_m: float) -> Belief:
    """After a time in which the drone flew at most `reach_m`, in any direction.

    A reach of less than half a step moves nothing; Reckoning gathers those of quick frames first.
    """
    cells = reach_m / belief.grid.step_m
    if cells < 0.5:
        return belief
    if cells >= max(belief.grid.rows, belief.grid.columns):
        return uniform_belief(belief.grid, valid)
    reach = int(np.ceil(cells))
    offset = np.arange(-reach, reach + 1)
    disc = (np.hypot(offset[:, None], offset[None, :]) <= cells + 0.5).astype(np.float32)
    moved = cv2.filter2D(
        np.exp(belief.log_p), -1, disc / disc.sum(), borderType=cv2.BORDER_CONSTANT
    )
    return _from_mass(belief, moved, valid)


def carried(
    belief: Belief, valid: NDArray[np.bool_], flown_en_m: tuple[float, float], std_m: float
) -> Belief:
    """After a measured flight: shifted by it, and spread by its deviation per axis."""
    step_m = belief.grid.step_m
    shift = np.array([[1, 0, flown_en_m[0] / step_m], [0, 1, -flown_en_m[1] / step_m]])
    mass = np.exp(belief.log_p)
    size = (mass.shape[1], mass.shape[0])
    moved = cv2.warpAffine(mass, shift, size, flags=cv2.INTER_LINEAR)
    sigma = std_m / step_m
    if sigma > LEAST_SPREAD:
        moved = cv2.GaussianBlur(moved, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return _from_mass(belief, moved, valid)


def doubted(belief: Belief, valid: NDArray[np.bool_]) -> Belief:
    """Half of it, and half of what nobody knows: the search is everywhere, and begins there."""
    anywhere = np.exp(uniform_belief(belief.grid, valid).log_p)
    return _from_mass(belief, (np.exp(belief.log_p) + anywhere) / 2, valid)


def _from_mass(belief: Belief, mass: NDArray[np.generic], valid: NDArray[np.bool_]) -> Belief:
    """A belief of this mass; of nothing, where everything it knew has left the map."""
    with np.errstate(divide="ignore"):
        log_p = np.where(valid, np.log(np.maximum(mass, 0)), NEVER).astype(np.float32)
    if not np.isfinite(log_p).any():
        return uniform_belief(belief.grid, valid)
    return replace(belief, log_p=normalised(log_p))


def window_of(belief: Belief) -> tuple[slice, slice]:
    """Rows and columns that hold all but a negligible share of the mass."""
    best = belief.log_p.max()
    for below in NEGLIGIBLE:
        alive = belief.log_p > best - below
        if np.exp(belief.log_p[alive]).sum(dtype=np.float64) > 1 - NEGLIGIBLE_SHARE:
            break
    rows, columns = np.flatnonzero(alive.any(axis=1)), np.flatnonzero(alive.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def updated(
    belief: Belief, window: tuple[slice, slice], score: Log, likelihood: Likelihood
) -> Belief:
    """With the similarities (rows, columns) of a window; -inf where there is no tile.

    Outside the window no place is sought: all of it holds less than NEGLIGIBLE_SHARE.
    """
    log_likelihood = np.log(likelihood.of_tiles(score)).astype(np.float32)
    log_p = np.full_like(belief.log_p, NEVER)
    with np.errstate(invalid="ignore"):
        log_p[window] = belief.log_p[window] + log_likelihood
    return replace(belief, log_p=normalised(log_p))


def normalised(log_p: Log) -> Log:
    """Log probabilities shifted to a sum of one."""
    best = log_p.max()
    total = np.log(np.exp(log_p - best).sum(dtype=np.float64))
    shifted: Log = (log_p - best - np.float32(total)).astype(np.float32)
    return shifted


@dataclass(frozen=True)
class Leader:
    """A place that holds mass: its centroid and its share."""

    east_m: float
    north_m: float
    weight: float
    row: int
    column: int


def leaders(belief: Belief, count: int, separation_m: float) -> list[Leader]:
    """Up to `count` local maxima by mass, no two closer than `separation_m`.

    Mass and centroid are taken over the half-separation around each, so that a place between
    four tiles is not four weak places.
    """
    mass = np.exp(belief.log_p)
    reach = max(1, int(separation_m / belief.grid.step_m / 2))
    box = 2 * reach + 1
    pooled = cv2.boxFilter(mass, -1, (box, box), normalize=False, borderType=cv2.BORDER_CONSTANT)
    # ties go to the cell itself; sums that are rounded leave traces where there is no mass at all
    summed = np.where(mass > 0, pooled + mass, np.float32(0)).astype(np.float32, copy=False)
    apart = max(1, round(separation_m / belief.grid.step_m))
    peaks = _peaks(summed, count, apart)
    return _centroids(belief.grid, mass, peaks, reach) if len(peaks) else []


def leaders_to_look_at(belief: Belief, separation_m: float) -> list[Leader]:
    """Leaders that nearly all of the mass is at, heaviest first; bounds the cost of a frame."""
    found = leaders(belief, MOST_LEADERS, separation_m)
    found.sort(key=lambda leader: -leader.weight)
    held = np.cumsum([leader.weight for leader in found])
    enough = int(np.searchsorted(held, (1 - LEFT_OUT) * held[-1])) + 1
    return found[: max(enough, LEAST_LEADERS)]


def mass_near(belief: Belief, east_m: float, north_m: float, cells: float = 1.5) -> float:
    """What lies within so many cells of a place, either way."""
    near = belief.grid.window(east_m, north_m, cells * belief.grid.step_m)
    return float(np.exp(belief.log_p[near]).sum())


def _peaks(pooled: NDArray[np.float32], count: int, apart: int) -> NDArray[np.intp]:
    """The highest cells (K, 2), and then the highest further away than `apart` from all before."""
    highest = pooled[pooled > 0]
    looked_at = min(highest.size, CELLS_A_PEAK * count)
    while True:
        least = np.partition(highest, -looked_at)[-looked_at] if looked_at else np.inf
        found = _peaks_among(np.flatnonzero(pooled >= least), pooled, apart)
        if len(found) >= count or looked_at == highest.size:
            return np.column_stack(np.unravel_index(found[:count], pooled.shape))
        looked_at = min(highest.size, 4 * looked_at)


def _peaks_among(
    cells: NDArray[np.intp], pooled: NDArray[np.float32], apart: int
) -> NDArray[np.intp]:
    """`_peaks` among some cells of the flat grid alone.

    Every cell has a rank of its own, so that one that none of those left around it outranks is a
    peak, and many are found at once.
    """
    ranked = cells[np.argsort(-pooled.ravel()[cells], kind="stable")]
    rank = np.zeros(pooled.shape, np.float32)  # 1 for the last; exact up to 2**24 cells
    rank.ravel()[ranked] = np.arange(len(ranked), 0, -1)
    around = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * apart + 1, 2 * apart + 1))
    is_peak = np.zeros(pooled.shape, np.bool_)
    while rank.any():
        new = (rank > 0) & (rank == cv2.dilate(rank, around))
        is_peak |= new
        rank[cv2.dilate(new.view(np.uint8), around) > 0] = 0
    return ranked[is_peak.ravel()[ranked]]


def _centroids(
    grid: Grid, mass: NDArray[np.float32], peaks: NDArray[np.intp], reach: int
) -> list[Leader]:
    """Centroid and share of the mass within `reach` cells of each."""
    row, column = peaks.T
    away = np.arange(-reach, reach + 1)
    rows, columns = row[:, None, None] + away[:, None], column[:, None, None] + away
    parts = np.pad(mass, reach)[rows + reach, columns + reach].astype(np.float64)  # (K, box, box)
    share = parts.sum(axis=(1, 2))
    north_m = grid.north_m - (row + (parts.sum(axis=2) @ away) / share) * grid.step_m
    east_m = grid.east_m + (column + (parts.sum(axis=1) @ away) / share) * grid.step_m
    return [
        Leader(east, north, held, *peak)
        for (east, north, held), peak in zip(
            np.column_stack([east_m, north_m, share]).tolist(), peaks.tolist(), strict=True
        )
    ]
