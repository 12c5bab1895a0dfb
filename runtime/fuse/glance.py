"""The glance: which of very many places are worth a sweep, by how their rough structure fits.

Over a large map neither descriptors nor structure at ten pixels across a tile have the true place
among their first, but together they do.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..types import Hypothesis
from .attitude import sweep_around
from .query import Query
from .scales import Scale
from .sweep import correlate

# Fewer are all swept. That takes up to three times as long, and finds more: of 180 views of naip
# over another year, among about 500 places, 122 for 103.
GLANCED_FROM = 768
# All of 114 frames of fengyuan flight A over 100 km2, heading +-20 deg or unknown, have the true
# place among so many, and by descriptors alone 92. With 192 naip would have 117, at a tenth more
# time over 100 km2.
KEPT = 96
# Log odds that a correlation is worth beside the mass that descriptors give a place. With 10 one
# less of them is kept, with 25 as many, by correlation alone 108.
PER_CORRELATION = 15.0
STRETCH = 2.0  # of the sweep's steps in heading and height: what is rough bears more
REACH_PX = 1  # either way, about a step of the grid: with two as many are kept

Places = Sequence[Hypothesis]


def glanced(places: Places, query: Query, scale: Scale) -> list[Hypothesis]:
    """The `KEPT` places that are worth most, as they are; all of them where they are not many."""
    if len(places) < GLANCED_FROM:
        return list(places)
    fits = np.full(len(places), -1.0)
    alike: dict[tuple[float, float], list[int]] = {}
    for number, place in enumerate(places):  # those that one variant has found share its templates
        half_turn_deg = math.sqrt(3 * place.attitude_cov[0, 0])
        alike.setdefault((place.turn_deg, half_turn_deg), []).append(number)
    for turns, group in alike.items():
        cut = query.shown.at(scale).of(sweep_around(*turns, query.attitude, STRETCH))
        templates = [template for template in cut if template is not None]
        if templates:
            windows = scale.levels_around([places[number] for number in group], REACH_PX)
            fits[group] = correlate(windows, templates).max(axis=(1, 2, 3))
    weight = np.array([place.weight for place in places])
    worth = np.log(np.maximum(weight, 1e-12)) + PER_CORRELATION * fits
    return [places[number] for number in np.argsort(-worth, kind="stable")[:KEPT]]
