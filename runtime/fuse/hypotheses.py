"""Places where a frame may lie, with their weights: from the belief's leaders, and back into it.

A frame's best place is right rather than wrong by the log odds that likelihood.py states. The
weights among the places, and of "nowhere", follow from them and from their masses in the belief.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..geo import Grid
from ..types import Hypothesis
from .attitude import Attitude, Variant, log_prior
from .belief import NEVER, Belief, Leader, normalised
from .crowd import LONE_RIVAL, NO_CROWD, Crowd
from .likelihood import Likelihood

SEPARATION_STEPS = 3.0  # grid steps between hypotheses
SAME_PLACE_TILES = 0.25  # closer than this, two places are one
LEAST_UNEXPLAINED = 1e-3  # of a belief that looks like certainty
LEAST_SHARE = 1e-9  # of a belief, inside a place or outside; bounds its odds
MISSED = 0.05  # share of the frames over a map that look like no place of it: shade, new roofs
OFF_MAP = 0.5  # probability of a lost start: the map, or the prior, may be the wrong one
# A flight that was over its map a moment ago may leave it: three frames that fit nowhere, and it is
# trusted no more.
LEAST_OFF_MAP = 1e-5

Share = TypeVar("Share", float, NDArray[np.float32])  # a probability, of one flight or of many


@dataclass(frozen=True)
class Weighed:
    """Hypotheses of a frame, best first, and the weight of everything else."""

    hypotheses: list[Hypothesis]
    unexplained: float
    evidence: float = 0.0  # log odds of the best place by this frame alone
    looked_at: int = 0  # places that these are the best of
    rival: float = LONE_RIVAL  # correlation that the best place had to beat


def places_from_leaders(
    leaders: list[Leader], scores: list[float], variants: list[Variant], std_m: float
) -> Weighed:
    """Leaders as they are: the belief's own centroids and weights, best first."""
    cov_en_m2 = np.eye(2) * std_m**2
    attitude_cov = {variant: variant.covariance() for variant in set(variants)}
    hypotheses = [
        Hypothesis(
            leader.east_m, leader.north_m, leader.weight, score, math.nan, cov_en_m2,
            variant.turn_deg, variant.log_scale, attitude_cov[variant],
        )
        for leader, score, variant in zip(leaders, scores, variants, strict=True)
    ]  # fmt: skip
    hypotheses.sort(key=lambda hypothesis: -hypothesis.weight)
    unexplained = max(LEAST_UNEXPLAINED, 1 - sum(place.weight for place in hypotheses))
    return Weighed(hypotheses, unexplained)


def unplaced(places: Weighed) -> Weighed:
    """Of a frame that correlation cannot compare with the map: descriptors alone place nothing."""
    hypotheses = [replace(place, weight=0.0) for place in places.hypotheses]
    return Weighed(hypotheses, 1.0, -math.inf)


def evidence_added(before: Belief, after: Belief, place: Hypothesis) -> float:
    """Log odds that a frame has added to a place, where nothing but the belief weighs it.

    What earlier frames have said of the place is in the belief before, and counts no second time.
    A place that was not ahead before is the frame's own choice, and starts from even odds.
    """
    return _log_odds(after, place) - max(0.0, _log_odds(before, place))


def _log_odds(belief: Belief, place: Hypothesis) -> float:
    """That the centre lies within SEPARATION_STEPS of a place."""
    grid, mass = belief.grid, np.exp(belief.log_p.astype(np.float64))
    window = grid.window(place.east_m, place.north_m, SEPARATION_STEPS * grid.step_m)
    inside = float(mass[window].sum())
    mass[window] = 0.0
    return math.log(max(inside, LEAST_SHARE) / max(float(mass.sum()), LEAST_SHARE))


def weighed(
    places: list[Hypothesis],
    nowhere: float,
    tile_m: float,
    likelihood: Likelihood,
    attitude: Attitude | None = None,
    most: float | None = None,
    looked_at: int = 0,
    crowd: Crowd = NO_CROWD,
) -> Weighed:
    """Weights by mass and correlation, normalised with that of "nowhere"; best first.

    Args:
        places: with their masses as weights.
        nowhere: prior probability that the frame lies at none of them.
        tile_m: width of a tile.
        likelihood: the model's.
        attitude: what is known of heading and height; a place that contradicts it loses odds.
        most: the greatest mass of a place, where they have lost some of theirs by moving.
        looked_at: how many places these are the best of.
        crowd: of an earlier look at more places; it can only lower the evidence.
    """
    places = _merged(places, SAME_PLACE_TILES * tile_m)
    best = places[0].correlation
    rival = rival_of(best, [place.correlation for place in places[1:]])
    among = likelihood.among(looked_at)
    evidence = among.evidence(best, rival)
    if looked_at < crowd.count:
        evidence = min(evidence, crowd.evidence(best, likelihood))
    mass = np.array([max(place.weight, 1e-12) for place in places])
    behind = np.array([place.correlation - best for place in places])
    below = among.per_gap * behind  # log odds, as a gap is worth
    prior_odds = math.log(nowhere / (1 - nowhere)) + math.log(most or mass.max())
    agrees = np.array([
        log_prior(attitude, place.turn_deg, place.log_scale) if attitude else 0.0
        for place in places
    ])  # fmt: skip
    log_weight = np.log(mass) + below + agrees
    leader = int(log_weight.argmax())  # mass may lead where correlation does not
    evidence_of_leader = evidence + below[leader] + agrees[leader]
    log_weight = np.append(log_weight, prior_odds - evidence)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    found = [
        replace(place, weight=float(share)) for place, share in zip(places, weight, strict=False)
    ]
    found.sort(key=lambda place: -place.weight)
    return Weighed(found, float(weight[-1]), float(evidence_of_leader), looked_at, rival)


def rival_of(best: float, others: Sequence[float]) -> float:
    """The correlation of the best place's best rival, or what one would reach."""
    return min(best, max([LONE_RIVAL, *others]))


def nowhere_of(off_map: Share) -> Share:
    """Prior probability that a frame lies at none of the map's places: off the map, or missed."""
    return off_map + (1 - off_map) * MISSED


def off_map_after(off_map: Share, unexplained: Share) -> Share:
    """Probability that the flight is not over the map, after a frame that left this unexplained.

    A search never gives its map up: it is not believed to be the wrong one by more than at first.
    """
    share: Share = np.clip(unexplained * off_map / nowhere_of(off_map), LEAST_OFF_MAP, OFF_MAP)
    return share


def _merged(places: list[Hypothesis], apart_m: float) -> list[Hypothesis]:
    """Best first, those that have moved onto one place as one; the mass there is the same mass."""
    kept: list[Hypothesis] = []
    for place in sorted(places, key=lambda place: -place.correlation):
        for index, better in enumerate(kept):
            away_m = math.hypot(place.east_m - better.east_m, place.north_m - better.north_m)
            if away_m <= apart_m:
                kept[index] = replace(better, weight=max(better.weight, place.weight))
                break
        else:
            kept.append(place)
    return kept


def absorbed(belief: Belief, places: Weighed) -> Belief:
    """A belief with mass where the hypotheses say, each spread by its covariance.

    What they leave unexplained stays as it is believed.
    """
    grid = belief.grid
    mass = np.zeros(belief.log_p.shape, np.float64)
    for place in places.hypotheses:
        std_cells = max(math.sqrt(np.trace(place.cov_en_m2) / 2) / grid.step_m, 0.5)
        _add_gaussian(mass, grid, place, std_cells)
    rest = np.exp(belief.log_p.astype(np.float64)) * places.unexplained
    with np.errstate(divide="ignore"):
        log_p = np.where(np.isfinite(belief.log_p), np.log(mass + rest), NEVER)
    if not np.isfinite(log_p).any():
        return belief
    return replace(belief, log_p=normalised(log_p.astype(np.float32)))


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
