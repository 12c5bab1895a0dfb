"""The glance: which of very many places are worth a sweep, by how their rough structure fits.

Over a large map neither descriptors nor structure at ten pixels across a tile have the true place
among their first, but together they do.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis
from .attitude import sweep_around
from .query import Query
from .scales import Scale
from .sweep import correlate

# Fewer are all swept. That takes up to three times as long, and finds more: of 180 views of naip
# over another year, among about 500 places, 122 for 103 (with six aligned, where
# refine.py now aligns twelve).
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
# Descriptors spread a place's mass over a tile's width, and its heaviest part may lie further from
# it than the sweep reaches. So the kept ones are looked at once more this far around; where that is
# better, it is swept as well: a third more places.
BESIDE_PX = 2

Places = Sequence[Hypothesis]
Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Levels = NDArray[np.int8]


def glanced(places: Places, query: Query, scale: Scale) -> list[Hypothesis]:
    """The `KEPT` places that are worth most and what fits better beside them; or all of a few."""
    if len(places) < GLANCED_FROM:
        return list(places)
    windows = scale.levels_around(places, BESIDE_PX)  # read once: they lie all over the map
    further_px = BESIDE_PX - REACH_PX
    near = windows[:, further_px:-further_px, further_px:-further_px]
    fit, _, _ = _best_around(places, near, query, scale)
    weight = np.array([place.weight for place in places])
    worth = np.log(np.maximum(weight, 1e-12)) + PER_CORRELATION * fit
    first = np.argsort(-worth, kind="stable")[:KEPT]
    kept = [places[number] for number in first]
    return kept + _beside(kept, windows[first], query, scale)


def _beside(kept: Places, windows: Levels, query: Query, scale: Scale) -> list[Hypothesis]:
    """Where places fit best, if that is as far off as is looked at; once for each heading."""
    _, right, down = _best_around(kept, windows, query, scale)
    found: dict[tuple[float, int, int], Hypothesis] = {}
    for place, right_px, down_px in zip(kept, right.tolist(), down.tolist(), strict=True):
        if max(abs(right_px), abs(down_px)) == BESIDE_PX:
            east_m = place.east_m + right_px * scale.gsd_m
            north_m = place.north_m - down_px * scale.gsd_m
            key = (place.turn_deg, round(east_m / scale.gsd_m), round(north_m / scale.gsd_m))
            found.setdefault(key, replace(place, east_m=east_m, north_m=north_m))
    return list(found.values())


def _best_around(
    places: Places, windows: Levels, query: Query, scale: Scale
) -> tuple[Floats, Index, Index]:
    """The highest correlation in windows (K, S, S, 3) around places.

    Returns it and how many pixels right and down of the window's middle it is, (K,) each: of the
    place itself, to half a pixel.
    """
    fit = np.full(len(places), -1.0)
    right, down = np.zeros((2, len(places)), np.intp)
    alike: dict[tuple[float, float], list[int]] = {}
    for number, place in enumerate(places):  # those that one variant has found share its templates
        half_turn_deg = math.sqrt(3 * place.attitude_cov[0, 0])
        alike.setdefault((place.turn_deg, half_turn_deg), []).append(number)
    for turns, group in alike.items():
        cut = query.shown.at(scale).of(sweep_around(*turns, query.attitude, STRETCH))
        templates = [template for template in cut if template is not None]
        if templates:
            surfaces = correlate(windows[group], templates).max(axis=1)
            peak = surfaces.reshape(len(group), -1).argmax(axis=1)
            row, column = np.unravel_index(peak, surfaces.shape[1:])
            fit[group] = surfaces.max(axis=(1, 2))
            right[group] = column - surfaces.shape[2] // 2
            down[group] = row - surfaces.shape[1] // 2
    return fit, right, down
