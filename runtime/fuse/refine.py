"""From the belief's leaders to places that fit the map: sweep, alignment, fine alignment.

    leaders --sweep: headings x heights x shifts, coarse--> poses
            --the best few aligned at the middle scale----> correlations that are compared
            --the leader aligned at full scale------------> what is published

The three scales have a fixed number of pixels across a tile, so the cost does not depend on the
map's resolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..sense.ortho import Ground
from ..types import Hypothesis
from .align import Alignment, Pose, aligned
from .attitude import Attitude, Variant, sweep_around
from .chart import Chart, Window
from .hypotheses import Weighed, weighed
from .keystone import keystone
from .likelihood import Likelihood
from .sweep import correlate
from .template import Template, template_from_ground
from .tilt import Lean, Seen

COARSE_PX, MIDDLE_PX = 32, 80  # across a tile
# Leaders that are swept, for a window of so many tiles, and how their number grows with it: over
# 100 km2 the true place is among as many as that, where its heading is known to 20 degrees.
COUNT, COUNT_TILES, COUNT_GROWTH, MAX_COUNT = 16, 2_000, 0.6, 384
# Of them aligned: rivals to compare with, and more where many have been swept and look alike.
ALIGNED_COUNT, ALIGNED_SHARE = 6, 0.06
ITERATIONS, FINE_ITERATIONS = 6, 3
MARGIN_PX = 12  # of map around a template that is aligned: it shifts, turns and grows
MAX_MOVE_PX = 6.0  # of an alignment at the middle scale; beyond, it has slid to other ground


@dataclass(frozen=True)
class Scale:
    """Overview pixels are averaged by `factor`; a tile then has `side_px` of them."""

    factor: int
    side_px: int
    gsd_m: float


@dataclass(frozen=True)
class Query:
    """What is looked for: the frame, the size of a tile, and what is known of the attitude."""

    ground: Ground
    tile_m: float
    attitude: Attitude
    temper: float = 1.0  # below 1 where the last frame has seen much of the same ground


def candidate_count(tiles: int) -> int:
    """How many leaders of a window of so many tiles are looked at; bounds the cost of a frame."""
    return int(np.clip(COUNT * (tiles / COUNT_TILES) ** COUNT_GROWTH, COUNT, MAX_COUNT))


def structured(query: Query, variants: Sequence[Variant], chart: Chart) -> bool:
    """Whether the frame shows anything that correlation could hold on to, by any variant."""
    scale = scale_of(chart, query.tile_m, COARSE_PX)
    ground = query.ground.coarser(scale.gsd_m)
    return any(
        template_from_ground(
            ground, scale.side_px, scale.gsd_m, variant.turn_deg, variant.log_scale
        )
        for variant in variants
    )


def refined(
    places: Sequence[Hypothesis], nowhere: float, query: Query, chart: Chart, reach_m: float,
    likelihood: Likelihood,
) -> Weighed | None:  # fmt: skip
    """The places moved, turned and scaled onto the map, weighed by how well they fit there.

    None where the frame shows no structure. `nowhere` is the prior probability of no place.
    """
    coarse = scale_of(chart, query.tile_m, COARSE_PX)
    middle = scale_of(chart, query.tile_m, MIDDLE_PX)
    swept = _swept(places, query, chart, coarse, reach_m)
    if not swept:
        return None
    swept.sort(key=lambda place: -place.correlation)  # it is what decides in the end
    ground = query.ground.coarser(middle.gsd_m)
    aligned_count = max(ALIGNED_COUNT, round(ALIGNED_SHARE * len(swept)))
    moved = [
        _at_alignment(place, ground, chart, middle, ITERATIONS) for place in swept[:aligned_count]
    ]
    found = weighed(moved, nowhere, query.tile_m, likelihood, query.temper, query.attitude)
    fine = scale_of(chart, query.tile_m, round(query.tile_m / chart.gsd_m))
    leader, *rivals = found.hypotheses
    return replace(found, hypotheses=[_settled(leader, query.ground, chart, fine), *rivals])


def lean_of(place: Hypothesis, query: Query, chart: Chart) -> Lean | None:
    """The camera's tilt by the keystone of its picture at a place; None where it does not fit."""
    if not place.correlation > 0:  # nor where it was never aligned, which is NaN
        return None
    scale = scale_of(chart, query.tile_m, MIDDLE_PX)
    ground = query.ground.coarser(scale.gsd_m)
    template = template_from_ground(
        ground, scale.side_px, scale.gsd_m, place.turn_deg, place.log_scale
    )
    if template is None:
        return None
    found = keystone(_around(place, chart, scale), template, ground, _pose_of(place))
    moved_m = math.hypot(found.pose.east_m - place.east_m, found.pose.north_m - place.north_m)
    if moved_m > MAX_MOVE_PX * scale.gsd_m:
        return None
    return Lean(Seen(found.tilt, found.cov[4:, 4:]), found.pull)


def scale_of(chart: Chart, tile_m: float, wanted_px: int) -> Scale:
    """The scale of whole overview pixels at which a tile has about `wanted_px`."""
    factor = max(1, round(tile_m / (wanted_px * chart.gsd_m)))
    gsd_m = chart.gsd_m * factor
    return Scale(factor, max(8, round(tile_m / gsd_m)), gsd_m)


def _swept(
    places: Sequence[Hypothesis], query: Query, chart: Chart, scale: Scale, reach_m: float
) -> list[Hypothesis]:
    """Each place at the best of all headings, heights and shifts around it."""
    ground = query.ground.coarser(scale.gsd_m)
    templates: dict[tuple[tuple[float, float], ...], list[Template]] = {}
    reach_px = max(1, round(reach_m / scale.gsd_m))
    found = []
    for place in places:
        attitudes = sweep_around(place.turn_deg, place.log_scale, place.attitude_cov)
        if attitudes not in templates:  # places that one variant has found share them
            cut = [template_from_ground(ground, scale.side_px, scale.gsd_m, *attitude)
                   for attitude in attitudes]  # fmt: skip
            templates[attitudes] = [template for template in cut if template is not None]
        if templates[attitudes]:
            found.append(_at_peak(place, templates[attitudes], chart, scale, reach_px))
    return found


def _at_peak(
    place: Hypothesis, templates: list[Template], chart: Chart, scale: Scale, reach_px: int
) -> Hypothesis:
    """A place moved to the highest correlation within reach, with that template's attitude."""
    side_px = scale.factor * (scale.side_px + 2 * reach_px)
    window = chart.around(place.east_m, place.north_m, side_px).reduced(scale.factor)
    ncc = correlate(window.grey, templates)
    which, row, column = np.unravel_index(int(ncc.argmax()), ncc.shape)
    return replace(
        place,
        east_m=window.east_m + float(column - reach_px) * window.gsd_m,
        north_m=window.north_m - float(row - reach_px) * window.gsd_m,
        turn_deg=templates[which].turn_deg,
        log_scale=templates[which].log_scale,
        correlation=float(ncc[which, row, column]),
    )


def _at_alignment(
    place: Hypothesis, ground: Ground, chart: Chart, scale: Scale, iterations: int
) -> Hypothesis:
    """A place moved, turned and scaled until it fits best; it stays where that leads too far."""
    found = _alignment(place, ground, chart, scale, iterations)
    if found is None:
        return replace(place, correlation=-1.0)
    moved_m = math.hypot(found.pose.east_m - place.east_m, found.pose.north_m - place.north_m)
    if moved_m > MAX_MOVE_PX * scale.gsd_m:
        start = _alignment(place, ground, chart, scale, 0)
        return replace(place, correlation=-1.0 if start is None else start.correlation)
    return _posed(place, found)


def _settled(place: Hypothesis, ground: Ground, chart: Chart, scale: Scale) -> Hypothesis:
    """The place at full scale. Its weight and correlation stay those of the scale it won at."""
    found = _alignment(place, ground, chart, scale, FINE_ITERATIONS)
    if found is None:
        return place
    moved_m = math.hypot(found.pose.east_m - place.east_m, found.pose.north_m - place.north_m)
    if moved_m > MAX_MOVE_PX * scale.gsd_m:
        return place
    return replace(_posed(place, found), correlation=place.correlation, cov_en_m2=place.cov_en_m2,
                   attitude_cov=place.attitude_cov)  # fmt: skip


def _alignment(
    place: Hypothesis, ground: Ground, chart: Chart, scale: Scale, iterations: int
) -> Alignment | None:
    template = template_from_ground(
        ground, scale.side_px, scale.gsd_m, place.turn_deg, place.log_scale
    )
    if template is None:
        return None
    return aligned(_around(place, chart, scale), template, _pose_of(place), iterations)


def _around(place: Hypothesis, chart: Chart, scale: Scale) -> Window:
    """The map around a place, with the margin that an alignment moves in."""
    side_px = scale.factor * (scale.side_px + 2 * MARGIN_PX)
    return chart.around(place.east_m, place.north_m, side_px).reduced(scale.factor)


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
        cov_en_m2=found.cov[:2, :2],
        attitude_cov=found.cov[2:, 2:],
    )
