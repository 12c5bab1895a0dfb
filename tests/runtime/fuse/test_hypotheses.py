import numpy as np
import pytest

from skyfix.runtime.fuse.attitude import Variant
from skyfix.runtime.fuse.belief import Belief, Leader, leaders, normalised, uniform_belief
from skyfix.runtime.fuse.hypotheses import (
    LONE_RIVAL,
    NOWHERE,
    NOWHERE_SEARCHING,
    Weighed,
    absorbed,
    places_from_leaders,
    weighed,
)
from skyfix.runtime.geo import Grid
from skyfix.runtime.types import Hypothesis

TILE_M = 160.0


def place(
    east_m: float, north_m: float, weight: float, correlation: float = float("nan")
) -> Hypothesis:
    cov = np.eye(2)
    return Hypothesis(east_m, north_m, weight, 0.5, correlation, cov, 0.0, 0.0, cov)


def test_leaders_become_hypotheses_best_first_each_with_its_variant() -> None:
    found = [Leader(0.0, 0.0, 0.2, 0, 0), Leader(9.0, 9.0, 0.6, 3, 3)]
    variants = [Variant(10.0, 0.1, 20.0, 0.1), Variant(50.0, -0.1, 20.0, 0.1)]
    found_places = places_from_leaders(found, [0.4, 0.8], variants, 5.0)
    assert [h.weight for h in found_places.hypotheses] == [0.6, 0.2]
    assert found_places.hypotheses[0].score == 0.8
    assert found_places.hypotheses[0].turn_deg == 50.0
    assert found_places.hypotheses[0].attitude_cov[0, 0] == pytest.approx(20.0**2 / 3)
    assert found_places.unexplained == pytest.approx(0.2)


def test_alone_and_as_likely_as_not_the_evidence_is_the_log_odds() -> None:
    places = [place(0.0, 0.0, 0.5, 0.7), place(400.0, 0.0, 0.5, 0.2)]
    found = weighed(places, NOWHERE_SEARCHING, TILE_M)
    leader = found.hypotheses[0].weight
    assert found.evidence == pytest.approx(np.log(leader / found.unexplained), abs=1e-6)
    assert leader > 0.99
    total = sum(place.weight for place in found.hypotheses) + found.unexplained
    assert total == pytest.approx(1)


def test_a_place_no_better_than_its_rival_is_nowhere() -> None:
    rivals = [place(300.0 * k, 0.0, 0.1, 0.45 - 0.01 * k) for k in range(8)]
    found = weighed(rivals, NOWHERE_SEARCHING, TILE_M)
    assert found.unexplained > 0.9
    assert found.evidence < 0


def test_two_peaks_of_one_place_are_no_rivals() -> None:
    near, far = (
        weighed([place(0.0, 0.0, 0.5, 0.7), place(east, 0.0, 0.5, 0.69)], 0.5, TILE_M)
        for east in (30.0, 300.0)
    )
    assert near.evidence > far.evidence + 3
    lone = weighed([place(0.0, 0.0, 0.5, 0.7), place(9e3, 0.0, 0.5, LONE_RIVAL)], 0.5, TILE_M)
    assert near.evidence == pytest.approx(lone.evidence)


def test_a_followed_track_believes_a_place_sooner_than_a_search() -> None:
    places = [place(0.0, 0.0, 0.5, 0.55), place(400.0, 0.0, 0.5, 0.45)]
    searching, tracking = (weighed(places, odds, TILE_M) for odds in (NOWHERE_SEARCHING, NOWHERE))
    assert tracking.hypotheses[0].weight > searching.hypotheses[0].weight


def test_mass_leads_where_correlation_hardly_tells_and_gives_no_evidence_of_its_own() -> None:
    places = [place(0.0, 0.0, 0.99, 0.60), place(400.0, 0.0, 0.01, 0.62)]
    found = weighed(places, NOWHERE, TILE_M)
    assert found.hypotheses[0].east_m == 0.0
    assert found.evidence < weighed(places[::-1], NOWHERE, TILE_M).evidence + 1e-9
    assert found.evidence < 0


def test_ground_that_was_just_seen_weighs_less() -> None:
    places = [place(0.0, 0.0, 0.5, 0.7), place(400.0, 0.0, 0.5, 0.3)]
    fresh, stale = (weighed(places, 0.5, TILE_M, temper) for temper in (1.0, 0.2))
    assert stale.evidence == pytest.approx(0.2 * fresh.evidence)
    assert stale.hypotheses[0].weight < fresh.hypotheses[0].weight


def test_the_belief_moves_to_where_the_hypotheses_are() -> None:
    grid = Grid(0.0, 0.0, 10.0, 30, 30)
    belief = uniform_belief(grid, np.ones((30, 30), bool), 0)
    weighed = Weighed([place(104.0, -160.0, 0.8), place(220.0, -90.0, 0.15)], 0.05)
    first, second = leaders(absorbed(belief, weighed), 2, 40.0)
    assert (first.east_m, first.north_m) == pytest.approx((104.0, -160.0), abs=4.0)
    assert first.weight == pytest.approx(0.8, abs=0.02)
    assert second.weight == pytest.approx(0.15, abs=0.02)


def test_mass_never_settles_where_there_is_no_tile() -> None:
    grid = Grid(0.0, 0.0, 10.0, 20, 20)
    valid = np.ones((20, 20), bool)
    valid[:, 10:] = False
    belief = Belief(grid, normalised(np.where(valid, np.float32(0), np.float32(-np.inf))), 0)
    after = absorbed(belief, Weighed([place(98.0, -50.0, 1.0)], 0.0))
    assert np.all(np.exp(after.log_p[~valid]) == 0)
    assert np.exp(after.log_p).sum() == pytest.approx(1, abs=1e-4)
