"""From the belief's leaders to refined, weighted hypotheses, and back into the belief.

Each leader's surroundings are correlated with the patch, coarsely at first, the best ones again
at the overview's full scale. A leader's weight is then its mass times exp(KAPPA * ncc); all that
is no leader competes with a neutral correlation, at which a place is as likely wrong as right. It
lies above what the frame's own rivals reach, all but one of which are wrong: in a city of equal
blocks that is more than over a forest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geo import Grid
from ..types import Hypothesis, Patch
from .belief import NEVER, Belief, Leader, normalised
from .refine import Template, correlate, peak_from_correlation, template_from_patch

COUNT = 16  # hypotheses correlated per frame; bounds the cost
SEPARATION_STEPS = 3.0  # grid steps between hypotheses
COARSE_FACTOR = 2  # overview pixels in a coarse pixel
FINE_COUNT = 2  # hypotheses refined at full scale
FINE_REACH_PX = 4  # around the coarse peak: two coarse pixels
KAPPA = 40.0  # log weight per correlation; set by hand, calibrate_belief.py prints the effect
NEUTRAL_CORRELATION = 0.45  # where too few rivals tell; the same
NEUTRAL_RANGE = (0.20, 0.60)  # however alike or unlike the rivals are
NEUTRAL_STDS = 2.5  # above the rivals' mean: what the best of 16 wrong places seldom reaches
MIN_RIVALS = 6
OUTLIER = 1e-3  # prior weight of "none of the places in the window" while a track is followed
OUTLIER_SEARCHING = 0.05  # the same before: the map, or the prior, may be the wrong one

# west_m, north_m of the outer corner, (rows, columns) -> grey pixels, valid
Overview = Callable[[float, float, tuple[int, int]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Weighed:
    """Hypotheses of a frame, best first, and the weight of everything else."""

    hypotheses: list[Hypothesis]
    unexplained: float


def unrefined(leaders: list[Leader], scores: list[float], std_m: float) -> Weighed:
    """Leaders as they are: the belief's own centroids and weights."""
    covariance = np.eye(2) * std_m**2
    hypotheses = [
        Hypothesis(leader.east_m, leader.north_m, leader.weight, score, math.nan, covariance)
        for leader, score in zip(leaders, scores, strict=True)
    ]
    hypotheses.sort(key=lambda hypothesis: -hypothesis.weight)
    return Weighed(hypotheses, max(OUTLIER, 1 - sum(h.weight for h in hypotheses)))


def refined(
    start: Weighed,
    patch: Patch,
    overview: Overview,
    overview_gsd_m: float,
    reach_m: float,
    outlier: float = OUTLIER_SEARCHING,
) -> Weighed:
    """The same places, moved to their correlation peaks and weighed by them."""
    coarse = template_from_patch(patch, overview_gsd_m * COARSE_FACTOR)
    fine = template_from_patch(patch, overview_gsd_m)
    if coarse is None or fine is None:
        return start
    moved = [
        _at_peak(place, coarse, overview, overview_gsd_m, COARSE_FACTOR, reach_m)
        for place in start.hypotheses
    ]
    weighed = _weighed(moved, start.unexplained + outlier)
    best = [
        _at_peak(place, fine, overview, overview_gsd_m, 1, FINE_REACH_PX * overview_gsd_m)
        for place in weighed.hypotheses[:FINE_COUNT]
    ]
    # weights compare correlations of one scale only: the fine pass moves, the coarse one weighs
    settled = [
        replace(place, weight=coarse_place.weight, correlation=coarse_place.correlation)
        for place, coarse_place in zip(best, weighed.hypotheses, strict=False)
    ]
    return Weighed(settled + weighed.hypotheses[FINE_COUNT:], weighed.unexplained)


def absorbed(belief: Belief, weighed: Weighed) -> Belief:
    """The belief with its mass where the hypotheses say, each spread by its covariance."""
    grid = belief.grid
    mass = np.zeros(belief.log_p.shape, np.float64)
    for place in weighed.hypotheses:
        std_cells = max(math.sqrt(np.trace(place.cov_en_m2) / 2) / grid.step_m, 0.5)
        _add_gaussian(mass, grid, place, std_cells)
    rest = np.exp(belief.log_p.astype(np.float64)) * weighed.unexplained
    with np.errstate(divide="ignore"):
        log_p = np.where(np.isfinite(belief.log_p), np.log(mass + rest), NEVER)
    if not np.isfinite(log_p).any():
        return belief
    return replace(belief, log_p=normalised(log_p.astype(np.float32)))


def _at_peak(
    place: Hypothesis, template: Template, overview: Overview, gsd_m: float, factor: int,
    reach_m: float,
) -> Hypothesis:  # fmt: skip
    """A place moved to the highest correlation within `reach_m`."""
    scale_m = gsd_m * factor
    side_px = template.mask.shape[0] + 2 * max(1, round(reach_m / scale_m))
    half_m = side_px * scale_m / 2
    grey, valid = overview(
        place.east_m - half_m, place.north_m + half_m, (side_px * factor, side_px * factor)
    )
    window = _filled(grey, valid)
    if factor > 1:
        window = cv2.resize(window, (side_px, side_px), interpolation=cv2.INTER_AREA).astype(
            np.float32, copy=False
        )
    peak = peak_from_correlation(correlate(window, template), scale_m)
    return replace(
        place,
        east_m=place.east_m + peak.east_m,
        north_m=place.north_m + peak.north_m,
        correlation=peak.correlation,
        cov_en_m2=peak.cov_en_m2,
    )


def _filled(grey: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Grey with places without map at the mean, where they weigh nothing in a correlation."""
    window = grey.astype(np.float32)
    if valid.any() and not valid.all():
        window[~valid] = window[valid].mean()
    return window


def _weighed(places: list[Hypothesis], unexplained: float) -> Weighed:
    """Weights by correlation, normalised together with the weight of all else; best first."""
    peaks = [place.correlation for place in places]
    correlation = np.array([*peaks, neutral_correlation(peaks)])
    prior = np.array([place.weight for place in places] + [unexplained])
    log_weight = np.log(np.maximum(prior, 1e-12)) + KAPPA * correlation
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    hypotheses = [
        replace(place, weight=float(share)) for place, share in zip(places, weight, strict=False)
    ]
    hypotheses.sort(key=lambda place: -place.weight)
    return Weighed(hypotheses, float(weight[-1]))


def neutral_correlation(peaks: list[float]) -> float:
    """Correlation at which a place of this frame is as likely wrong as right."""
    rivals = np.sort(peaks)[:-1]
    if len(rivals) < MIN_RIVALS:
        return NEUTRAL_CORRELATION
    return float(np.clip(rivals.mean() + NEUTRAL_STDS * rivals.std(), *NEUTRAL_RANGE))


def _add_gaussian(
    mass: NDArray[np.float64], grid: Grid, place: Hypothesis, std_cells: float
) -> None:
    """Spread a hypothesis' weight over the cells around it; all of it stays on the grid."""
    row, column = grid.cell_from_en(place.east_m, place.north_m)
    rows, columns = grid.window(place.east_m, place.north_m, 4 * std_cells * grid.step_m)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    down = np.arange(rows.start, rows.stop)[:, None] - row
    right = np.arange(columns.start, columns.stop)[None, :] - column
    bell = np.exp(-(down**2 + right**2) / (2 * std_cells**2))
    mass[rows, columns] += place.weight * bell / max(bell.sum(), 1e-12)
