"""The lattice of the second look: it covers the window, and nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.attitude import Attitude
from skyfix.runtime.fuse.belief import MOST_LEADERS, Belief, normalised, uniform_belief
from skyfix.runtime.fuse.everywhere import places_everywhere
from skyfix.runtime.geo import Grid

GRID = Grid(-400.0, 300.0, 10.0, 60, 80)
TOLD = Attitude(4.0, 6.0, 0.1, 0.05)


def within(rows: slice, columns: slice) -> Belief:
    mass = np.zeros((60, 80))
    mass[rows, columns] = 1.0
    with np.errstate(divide="ignore"):
        return Belief(GRID, normalised(np.log(mass).astype(np.float32)))


@settings(max_examples=60, deadline=None)
@given(
    top=st.integers(0, 50), left=st.integers(0, 60), rows=st.integers(1, 10),
    columns=st.integers(1, 20), spacing_m=st.floats(20, 70),
)  # fmt: skip
def test_every_place_of_the_window_is_within_half_the_spacing_of_one(
    top: int, left: int, rows: int, columns: int, spacing_m: float
) -> None:
    belief = within(slice(top, top + rows), slice(left, left + columns))
    found = places_everywhere(belief, TOLD, spacing_m)
    for row in range(top, top + rows):
        for column in range(left, left + columns):
            east_m, north_m = -400 + 10 * column, 300 - 10 * row
            away_m = min(max(abs(p.east_m - east_m), abs(p.north_m - north_m)) for p in found)
            assert away_m <= spacing_m / 2 + 1e-6


def test_where_there_is_no_mass_nothing_is_looked_at() -> None:
    mass = np.zeros((60, 80))
    mass[5, 5] = mass[50, 70] = 1.0
    with np.errstate(divide="ignore"):
        belief = Belief(GRID, normalised(np.log(mass).astype(np.float32)))
    found = places_everywhere(belief, TOLD, 30.0)
    near = [min(math.hypot(p.east_m - e, p.north_m - n) for e, n in ((-350, 250), (300, -200)))
            for p in found]  # fmt: skip
    assert 2 <= len(found) <= 8
    assert max(near) < 45


def test_too_large_a_window_has_no_second_look() -> None:
    everywhere = uniform_belief(GRID, np.ones((60, 80), bool))
    assert len(places_everywhere(everywhere, TOLD, 20.0)) == 30 * 40
    assert places_everywhere(everywhere, TOLD, 12.0) == []  # 50 x 66 are more than may be
    assert MOST_LEADERS < 50 * 66


def test_any_heading_and_height_that_is_believed_is_tried() -> None:
    belief = within(slice(3, 4), slice(3, 4))
    (place,) = places_everywhere(belief, TOLD, 30.0)
    assert (place.turn_deg, place.log_scale) == (4.0, 0.1)
    assert np.sqrt(np.diag(place.attitude_cov)) == pytest.approx([6.0, 0.05])
    (blind,) = places_everywhere(belief, Attitude(0.0, math.inf, 0.0, 0.05), 30.0)
    assert math.sqrt(3 * blind.attitude_cov[0, 0]) == pytest.approx(180.0)
