"""From the belief's leaders to places that fit the map: glance, sweep, climb, alignment.

    leaders --of very many, those that a glance finds worth it-> a hundred or so
            --sweep: headings x heights x shifts, coarse-------> poses
            --the better ones climb to where they fit best-----> an order
            --the best few aligned at the fine scale-----------> correlations that are compared

Where none of them stands out, the same from a lattice over all that is believed (everywhere.py).
The scales have about as many pixels across a tile on any map, so what a search costs does not
depend on its resolution. All pictures are structure (structure.py).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from ..types import Hypothesis
from .align import Alignment, Pose, aligned, pose_of, posed
from .attitude import Variant, wrapped_deg
from .belief import Belief, mass_near
from .climb import climbed
from .crowd import LONE_RIVAL
from .everywhere import places_everywhere
from .glance import glanced
from .hypotheses import SEPARATION_STEPS, Weighed, weighed
from .keystone import keystone
from .likelihood import Likelihood
from .query import Query
from .scales import Scale, Scales
from .swept import swept_places
from .template import shows_contrast
from .tilt import Lean, Seen
from .track import STAND_OUT

# Of the swept ones at least so many and such a share climb, for a sweep misses up to a third of a
# correlation.
CLIMBED_COUNT, CLIMBED_SHARE = 8, 0.25
# So many are aligned at most, as rivals to compare with. Of 180 views of naip over another year,
# sought among about 500 places, 135 have the true one among six, 140 among 12, 142 among 16.
ALIGNED_COUNT = 12
# What a place loses from the sweep's scale to the fine one, of 95 % of 4,200 places over naip.
# Those that cannot be rivals then (crowd.py) are not aligned, however much mass they have: none of
# them would stand out.
LEAST_LOST = 0.05
TURNED_ALIKE_DEG = 5.0  # less than a step of the sweep; what climbs to one place ends closer
ITERATIONS = 6
MARGIN_PX = 12  # of map around a template that is aligned: it shifts, turns and grows
MAX_MOVE_PX = 6.0  # beyond, it has slid to other ground


def shows_structure(query: Query, variants: Sequence[Variant], scales: Scales) -> bool:
    """Whether the frame shows anything that correlation could hold on to, by any variant.

    In grey, which tells ground from noise, and in what is compared, which tells it from haze.
    """
    scale = scales.coarse
    grey = query.shown.ground.coarser(scale.gsd_m)
    attitudes = [(variant.turn_deg, variant.log_scale) for variant in variants]
    return any(
        shows_contrast(grey, scale.side_px, scale.gsd_m, *attitude) for attitude in attitudes
    ) and any(query.shown.at(scale).at(*attitude) for attitude in attitudes)


def refined(
    places: Sequence[Hypothesis], belief: Belief, nowhere: float, query: Query, scales: Scales,
    likelihood: Likelihood,
) -> Weighed | None:  # fmt: skip
    """The belief's places moved, turned and scaled onto the map, weighed by how they fit there.

    A place takes the mass that the belief has where it has moved to: along a road or a furrow a
    picture slides far, and fits everywhere. Where none of them stands out, correlation looks at all
    places that are believed. None where the frame shows no structure. `nowhere` is the prior
    probability of no place.
    """
    reach_m = SEPARATION_STEPS * belief.grid.step_m / 2

    def fitted(some: Sequence[Hypothesis]) -> tuple[list[Hypothesis], int]:
        worth = glanced(some, query, scales.rough)
        swept = swept_places(worth, query, scales.coarse, reach_m, likelihood)
        return _fitted(swept, query, scales), len(some)

    moved, looked_at = fitted(places)
    if not moved:
        return None
    most = max(place.weight for place in moved)

    def compared(there: Sequence[Hypothesis], looked_at: int) -> Weighed:
        masses = [mass_near(belief, at.east_m, at.north_m) for at in there]
        return weighed(
            [replace(at, weight=mass) for at, mass in zip(there, masses, strict=True)],
            nowhere, query.shown.tile_m, likelihood, query.attitude, max(most, *masses), looked_at,
            query.crowd,
        )  # fmt: skip

    found = compared(moved, looked_at)
    if found.hypotheses[0].weight < STAND_OUT:
        others, as_well = fitted(places_everywhere(belief, query.attitude, 2 * reach_m))
        if others:
            found = compared(moved + others, looked_at + as_well)
    return found


def _fitted(swept: Sequence[Hypothesis], query: Query, scales: Scales) -> list[Hypothesis]:
    """The best of the swept places where they fit best, to be compared."""
    climbed_count = max(CLIMBED_COUNT, round(CLIMBED_SHARE * len(swept)))
    best = _best(swept, climbed_count)
    higher = climbed(best, query.shown.at(scales.coarse), scales.coarse)
    chosen = _rivals(higher, MAX_MOVE_PX * scales.fine.gsd_m)
    attitudes = [(place.turn_deg, place.log_scale) for place in chosen]
    query.shown.at(scales.fine).of(attitudes)  # at once
    return [_at_alignment(place, query, scales.fine) for place in chosen]


def lean_of(place: Hypothesis, query: Query, scales: Scales) -> Lean | None:
    """How the picture leans, by its keystone at a place; None where it does not fit."""
    if not place.correlation > 0:  # nor where it was never aligned, which is NaN
        return None
    scale = scales.fine
    cuts = query.shown.at(scale)
    template = cuts.at(place.turn_deg, place.log_scale)
    if template is None:
        return None
    found = keystone(scale.around(place, MARGIN_PX), template, cuts.ground, pose_of(place))
    if _apart_m(place, found.pose) > MAX_MOVE_PX * scale.gsd_m:
        return None
    return Lean(Seen(found.tilt, found.cov[4:, 4:]), found.pull)


def _best(places: Sequence[Hypothesis], count: int) -> list[Hypothesis]:
    """So many of the best correlated: it is correlation that decides in the end."""
    return sorted(places, key=lambda place: -place.correlation)[:count]


def _rivals(places: Sequence[Hypothesis], reach_m: float) -> list[Hypothesis]:
    """The best place, and others that may still be its rivals once they are aligned.

    Those that alignment would bring together are one: within its reach, and turned alike.
    """
    kept: list[Hypothesis] = []
    for place in _best(places, len(places)):
        if kept and place.correlation < LONE_RIVAL + LEAST_LOST:
            break
        if not any(
            _apart_m(place, better) <= reach_m
            and abs(wrapped_deg(place.turn_deg - better.turn_deg)) <= TURNED_ALIKE_DEG
            for better in kept
        ):
            kept.append(place)
        if len(kept) == ALIGNED_COUNT:
            break
    return kept


def _at_alignment(place: Hypothesis, query: Query, scale: Scale) -> Hypothesis:
    """A place moved, turned and scaled until it fits best; it stays where that leads too far."""
    found = _alignment(place, query, scale, ITERATIONS)
    if found is None:
        return replace(place, correlation=-1.0)
    if _apart_m(place, found.pose) > MAX_MOVE_PX * scale.gsd_m:
        start = _alignment(place, query, scale, 0)
        return replace(place, correlation=-1.0 if start is None else start.correlation)
    return posed(place, found)


def _alignment(place: Hypothesis, query: Query, scale: Scale, iterations: int) -> Alignment | None:
    template = query.shown.at(scale).at(place.turn_deg, place.log_scale)
    if template is None:
        return None
    return aligned(scale.around(place, MARGIN_PX), template, pose_of(place), iterations)


def _apart_m(place: Hypothesis, other: Hypothesis | Pose) -> float:
    return math.hypot(other.east_m - place.east_m, other.north_m - place.north_m)
