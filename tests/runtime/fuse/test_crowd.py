import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.crowd import LASTING_TILES, LONE_RIVAL, NO_CROWD, Crowd
from skyfix.runtime.fuse.likelihood import CROWD_FROM, Likelihood

LIKELIHOOD = Likelihood()
E = 2.718281828


def test_without_a_wide_look_a_place_stands_alone() -> None:
    assert (NO_CROWD.least_rival, NO_CROWD.count) == (LONE_RIVAL, CROWD_FROM)


def test_all_of_a_crowd_that_lasts_is_there() -> None:
    crowd = Crowd(0.6, 500, lasting=1.0)
    assert (crowd.least_rival, crowd.count) == (0.6, 500)


def test_half_of_it_is_half_of_what_a_lone_rival_does_not_reach() -> None:
    crowd = Crowd(0.6, 16 * CROWD_FROM, lasting=0.5)
    assert crowd.least_rival == pytest.approx((LONE_RIVAL + 0.6) / 2)
    assert crowd.count == 4 * CROWD_FROM


@given(steps=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_it_fades_with_new_ground_however_it_is_divided(steps: list[float]) -> None:
    crowd = Crowd(0.6, 500, lasting=1.0)
    for step in steps:
        crowd = crowd.after(step)
    assert crowd.lasting == pytest.approx(E ** (-sum(steps) / LASTING_TILES), rel=1e-6)


def test_a_few_tiles_further_nothing_is_left_of_it() -> None:
    gone = Crowd(0.9, 5000, lasting=1.0).after(3.0)
    assert gone.least_rival == pytest.approx(LONE_RIVAL, abs=1e-4)
    assert gone.count == CROWD_FROM


def test_rivals_below_a_lone_one_count_for_nothing() -> None:
    assert Crowd(0.1, 500, lasting=1.0).least_rival == LONE_RIVAL


@pytest.mark.parametrize("best", [0.3, 0.5, 0.8])
def test_a_place_is_worth_what_it_would_be_among_all_of_the_crowd(best: float) -> None:
    crowd = Crowd(0.5, 500, lasting=1.0)
    expected = LIKELIHOOD.among(500).evidence(best, min(best, 0.5))
    assert crowd.evidence(best, LIKELIHOOD) == pytest.approx(expected)
    assert NO_CROWD.evidence(best, LIKELIHOOD) == LIKELIHOOD.evidence(best, LONE_RIVAL)
