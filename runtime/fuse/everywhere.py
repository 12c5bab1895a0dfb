"""The second look: a lattice of places over all that the belief has not ruled out.

Descriptors choose where correlation looks. Across years, or over ground they were not trained for,
the true place is often not among their leaders; where the window is small enough, correlation can
look everywhere.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis
from .attitude import HALF_TURN_DEG, SPAN_STDS, Attitude, Variant
from .belief import MOST_LEADERS, Belief, mass_near, window_of


def places_everywhere(belief: Belief, attitude: Attitude, spacing_m: float) -> list[Hypothesis]:
    """Places `spacing_m` apart, at any heading that is believed; none where they are too many."""
    grid = belief.grid
    rows, columns = window_of(belief)
    apart = spacing_m / grid.step_m
    down, right = _spaced(rows, apart), _spaced(columns, apart)
    if down.size * right.size > MOST_LEADERS:
        return []
    half_turn_deg = min(SPAN_STDS * attitude.turn_std_deg, HALF_TURN_DEG)
    half_log_scale = SPAN_STDS * attitude.log_scale_std
    any_of_it = Variant(attitude.turn_deg, attitude.log_scale, half_turn_deg, half_log_scale)
    found = []
    for row in down:
        for column in right:
            east_m, north_m = grid.east_m + column * grid.step_m, grid.north_m - row * grid.step_m
            mass = mass_near(belief, east_m, north_m, apart / 2)
            if mass > 0:
                found.append(Hypothesis(
                    east_m, north_m, mass, math.nan, math.nan, np.eye(2) * spacing_m**2 / 12,
                    attitude.turn_deg, attitude.log_scale, any_of_it.covariance(),
                ))  # fmt: skip
    return found


def _spaced(cells: slice, apart: float) -> NDArray[np.float64]:
    """As many rows or columns as lie within, what is left over shared between both ends."""
    length = cells.stop - 1 - cells.start
    first = cells.start + length % apart / 2
    spaced: NDArray[np.float64] = first + apart * np.arange(int(length / apart) + 1)
    return spaced
