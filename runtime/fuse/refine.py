"""From the belief's leaders to places that fit the map: sweep, climb, alignment.

    leaders --sweep: headings x heights x shifts, coarse-------> poses
            --the better ones climb to where they fit best-----> an order
            --the best few aligned at the middle scale---------> correlations that are compared
            --the leader aligned at full scale-----------------> what is published

The scales have a fixed number of pixels across a tile, so the cost does not depend on the map's
resolution.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..sense.ortho import Ground
from ..types import Hypothesis
from .align import Alignment, Jacobian, Pose, aligned, jacobian_of
from .attitude import Variant
from .belief import Belief, mass_near
from .hypotheses import SEPARATION_STEPS, Weighed, weighed
from .keystone import keystone
from .likelihood import Likelihood
from .query import Query
from .scales import Scale, Scales
from .swept import swept_places
from .template import Template
from .tilt import Lean, Seen

# Leaders that are swept, for a window of so many tiles, and how their number grows with it: over
# 100 km2 the true place is mostly among as many as that.
COUNT, COUNT_TILES, COUNT_GROWTH, MAX_COUNT = 16, 2_000, 0.74, 768
# Of the swept ones, at least so many and such a share: those that climb, for a sweep misses up to
# a third of a correlation, and those that are aligned, as rivals to compare with.
CLIMBED_COUNT, CLIMBED_SHARE = 8, 0.25
ALIGNED_COUNT, ALIGNED_SHARE = 6, 0.03
CLIMB_ITERATIONS, ITERATIONS, FINE_ITERATIONS = 3, 6, 3
# Of map around a template that climbs or is aligned: it shifts, turns and grows.
CLIMB_MARGIN_PX, MARGIN_PX = 6, 12
MAX_CLIMB_PX, MAX_MOVE_PX = 3.0, 6.0  # beyond, it has slid to other ground


def candidate_count(tiles: int) -> int:
    """How many leaders of a window of so many tiles are looked at; bounds the cost of a frame."""
    return int(np.clip(COUNT * (tiles / COUNT_TILES) ** COUNT_GROWTH, COUNT, MAX_COUNT))


def structured(query: Query, variants: Sequence[Variant], scales: Scales) -> bool:
    """Whether the frame shows anything that correlation could hold on to, by any variant."""
    ground = query.ground.coarser(scales.coarse.gsd_m)
    return any(
        scales.coarse.template(ground, variant.turn_deg, variant.log_scale) for variant in variants
    )


def refined(
    places: Sequence[Hypothesis], belief: Belief, nowhere: float, query: Query, scales: Scales,
    likelihood: Likelihood,
) -> Weighed | None:  # fmt: skip
    """The belief's places moved, turned and scaled onto the map, weighed by how they fit there.

    A place takes the mass that the belief has where it has moved to: along a road or a furrow a
    picture slides far, and fits everywhere. None where the frame shows no structure. `nowhere` is
    the prior probability of no place.
    """
    reach_m = SEPARATION_STEPS * belief.grid.step_m / 2
    swept = swept_places(places, query, scales.coarse, reach_m, likelihood)
    if not swept:
        return None
    climbed_count = max(CLIMBED_COUNT, round(CLIMBED_SHARE * len(swept)))
    climbed = _climbed(_best(swept, climbed_count), query, scales.coarse)
    aligned_count = max(ALIGNED_COUNT, round(ALIGNED_SHARE * len(swept)))
    ground = query.ground.coarser(scales.middle.gsd_m)
    moved = [_at_alignment(place, ground, scales.middle) for place in _best(climbed, aligned_count)]
    most = max(place.weight for place in moved)
    there = [
        replace(place, weight=mass_near(belief, place.east_m, place.north_m)) for place in moved
    ]
    found = weighed(
        there, nowhere, query.tile_m, likelihood.among(len(swept)), query.temper, query.attitude,
        most,
    )  # fmt: skip
    leader, *rivals = found.hypotheses
    return replace(found, hypotheses=[_settled(leader, query.ground, scales.fine), *rivals])


def lean_of(place: Hypothesis, query: Query, scales: Scales) -> Lean | None:
    """The camera's tilt by the keystone of its picture at a place; None where it does not fit."""
    if not place.correlation > 0:  # nor where it was never aligned, which is NaN
        return None
    scale = scales.middle
    ground = query.ground.coarser(scale.gsd_m)
    template = scale.template(ground, place.turn_deg, place.log_scale)
    if template is None:
        return None
    found = keystone(scale.around(place, MARGIN_PX), template, ground, _pose_of(place))
    if _moved_m(place, found.pose) > MAX_MOVE_PX * scale.gsd_m:
        return None
    return Lean(Seen(found.tilt, found.cov[4:, 4:]), found.pull)


def _best(places: Sequence[Hypothesis], count: int) -> list[Hypothesis]:
    """So many of the best correlated: it is correlation that decides in the end."""
    return sorted(places, key=lambda place: -place.correlation)[:count]


def _climbed(places: Sequence[Hypothesis], query: Query, scale: Scale) -> list[Hypothesis]:
    """Swept places moved, turned and scaled to where they fit better."""
    ground = query.ground.coarser(scale.gsd_m)
    known: dict[tuple[float, float], tuple[Template, Jacobian] | None] = {}

    def climbed(place: Hypothesis) -> Hypothesis:
        attitude = (place.turn_deg, place.log_scale)
        if attitude not in known:
            template = scale.template(ground, *attitude)
            known[attitude] = None if template is None else (template, jacobian_of(template))
        prepared = known[attitude]
        if prepared is None:
            return place
        window = scale.around(place, CLIMB_MARGIN_PX)
        fit = aligned(window, prepared[0], _pose_of(place), CLIMB_ITERATIONS, prepared[1])
        near = _moved_m(place, fit.pose) <= MAX_CLIMB_PX * scale.gsd_m
        return _posed(place, fit) if near and fit.correlation > place.correlation else place

    return [climbed(place) for place in places]


def _at_alignment(place: Hypothesis, ground: Ground, scale: Scale) -> Hypothesis:
    """A place moved, turned and scaled until it fits best; it stays where that leads too far."""
    found = _alignment(place, ground, scale, ITERATIONS)
    if found is None:
        return replace(place, correlation=-1.0)
    if _moved_m(place, found.pose) > MAX_MOVE_PX * scale.gsd_m:
        start = _alignment(place, ground, scale, 0)
        return replace(place, correlation=-1.0 if start is None else start.correlation)
    return _posed(place, found)


def _settled(place: Hypothesis, ground: Ground, scale: Scale) -> Hypothesis:
    """The place at full scale. Its weight and correlation stay those of the scale it won at."""
    found = _alignment(place, ground, scale, FINE_ITERATIONS)
    if found is None or _moved_m(place, found.pose) > MAX_MOVE_PX * scale.gsd_m:
        return place
    return replace(_posed(place, found), correlation=place.correlation, cov_en_m2=place.cov_en_m2,
                   attitude_cov=place.attitude_cov)  # fmt: skip


def _alignment(
    place: Hypothesis, ground: Ground, scale: Scale, iterations: int
) -> Alignment | None:
    template = scale.template(ground, place.turn_deg, place.log_scale)
    if template is None:
        return None
    return aligned(scale.around(place, MARGIN_PX), template, _pose_of(place), iterations)


def _moved_m(place: Hypothesis, pose: Pose) -> float:
    return math.hypot(pose.east_m - place.east_m, pose.north_m - place.north_m)


def _pose_of(place: Hypothesis) -> Pose:
    return Pose(place.east_m, place.north_m, place.turn_deg, place.log_scale)


def _posed(place: Hypothesis, found: Alignment) -> Hypothesis:
    return replace(
        place,
        east_m=found.pose.east_m,
        north_m=found.pose.north_m,
        turn_deg=(found.pose.turn_deg + 180) % 360 - 180,
        log_scale=found.pose.log_scale,
        correlation=found.correlation,
        cov_en_m2=found.cov[:2, :2] + place.slide_en_m2,
        attitude_cov=found.cov[2:, 2:],
    )
