"""The glance: the true place is kept among many, by how it fits and by what descriptors say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from skyfix.runtime.fuse.attitude import Attitude
from skyfix.runtime.fuse.glance import GLANCED_FROM, KEPT, glanced
from skyfix.runtime.fuse.query import Query
from skyfix.runtime.fuse.scales import scales_of
from skyfix.runtime.types import Hypothesis

from .conftest import TILE_M, Land

TRUE_EN_M = (13.0, -31.0)


def place(east_m: float, north_m: float, turn_deg: float, weight: float = 1.0) -> Hypothesis:
    return Hypothesis(
        east_m, north_m, weight, 0.5, math.nan, np.eye(2), turn_deg, 0.0, np.diag([50.0, 3e-3])
    )


def lattice(turn_deg: float) -> list[Hypothesis]:
    """All of the land at the true place's distance of rows and columns, all alike."""
    steps = np.arange(-9, 10)
    return [
        place(TRUE_EN_M[0] + 26 * i, TRUE_EN_M[1] + 26 * j, turn_deg) for i in steps for j in steps
    ]


def number_of(places: list[Hypothesis], kept: list[Hypothesis]) -> list[int]:
    numbers = {id(one): number for number, one in enumerate(places)}
    return [numbers[id(one)] for one in kept]


@pytest.mark.parametrize(
    ("turn_deg", "told"),
    [(0.0, Attitude(0.0, 11.0, 0.0, 0.1)), (70.0, Attitude(0.0, math.inf, 0.0, 0.1))],
)
def test_the_place_that_fits_is_first_of_many_alike(
    land: Land, turn_deg: float, told: Attitude
) -> None:
    query = Query(land.seen(*TRUE_EN_M, turn_deg + 8.0, 1.08), TILE_M, told)
    places = [*lattice(turn_deg), *lattice(turn_deg - 90.0)]
    assert len(places) > GLANCED_FROM
    kept = glanced(places, query, scales_of(land.chart, TILE_M).rough)
    assert len(kept) == KEPT
    assert number_of(places, kept)[0] == 9 * 19 + 9


def test_what_descriptors_say_counts_as_well(land: Land) -> None:
    query = Query(land.seen(*TRUE_EN_M), TILE_M, Attitude(0.0, 11.0, 0.0, 0.1))
    places = lattice(0.0)
    rough = scales_of(land.chart, TILE_M).rough
    last = next(
        number for number in range(len(places))
        if number not in number_of(places, glanced(places, query, rough))
    )  # fmt: skip
    places[last] = replace(places[last], weight=1e12)
    assert number_of(places, glanced(places, query, rough))[0] == last


def test_not_many_stay_as_they_are_in_their_order(land: Land) -> None:
    query = Query(land.seen(*TRUE_EN_M), TILE_M, Attitude(0.0, 11.0, 0.0, 0.1))
    places = lattice(0.0)[: GLANCED_FROM - 1]
    kept = glanced(places, query, scales_of(land.chart, TILE_M).rough)
    assert number_of(places, kept) == list(range(len(places)))
