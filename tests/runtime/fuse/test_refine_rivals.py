"""Which of the places that have climbed are aligned: the best, and who can still be its rival."""

import numpy as np

from skyfix.runtime.fuse.crowd import LONE_RIVAL
from skyfix.runtime.fuse.refine import ALIGNED_COUNT, LEAST_LOST, TURNED_ALIKE_DEG, _rivals
from skyfix.runtime.types import Hypothesis

REACH_M = 6.0
LEAST = LONE_RIVAL + LEAST_LOST


def place(correlation: float, east_m: float, turn_deg: float = 0.0) -> Hypothesis:
    return Hypothesis(
        east_m, 0.0, 0.1, 0.5, correlation, np.eye(2), turn_deg, 0.0, np.eye(2)
    )  # fmt: skip


def chosen(*places: Hypothesis) -> list[tuple[float, float, float]]:
    return [(p.correlation, p.east_m, p.turn_deg) for p in _rivals(places, REACH_M)]


def test_the_best_place_and_those_that_can_be_its_rivals_are_aligned_in_their_order() -> None:
    found = chosen(place(0.2, 0), place(0.6, 100), place(LEAST, 200), place(LEAST - 0.01, 300))
    assert found == [(0.6, 100, 0), (LEAST, 200, 0)]


def test_the_best_place_is_aligned_however_badly_it_fits() -> None:
    assert chosen(place(0.1, 0), place(0.2, 100)) == [(0.2, 100, 0)]


def test_places_within_reach_of_one_alignment_are_one() -> None:
    assert chosen(place(0.5, 0), place(0.6, 0.9 * REACH_M)) == [(0.6, 0.9 * REACH_M, 0)]
    assert len(chosen(place(0.5, 0), place(0.6, 1.1 * REACH_M))) == 2


def test_a_place_that_is_turned_otherwise_is_another() -> None:
    alike_deg, other_deg = 0.9 * TURNED_ALIKE_DEG, 1.1 * TURNED_ALIKE_DEG
    assert len(chosen(place(0.6, 0, 179.0), place(0.5, 0, 179.0 + alike_deg - 360))) == 1
    assert len(chosen(place(0.6, 0, 179.0), place(0.5, 0, 179.0 + other_deg - 360))) == 2


def test_no_more_are_aligned_than_a_frame_can_pay_for() -> None:
    assert len(chosen(*[place(0.5, 100.0 * k) for k in range(20)])) == ALIGNED_COUNT
