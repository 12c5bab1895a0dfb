from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.attitude import Variant
from skyfix.runtime.fuse.belief import Belief, Leader, leaders, normalised, uniform_belief
from skyfix.runtime.fuse.crowd import LONE_RIVAL, NO_CROWD, Crowd
from skyfix.runtime.fuse.hypotheses import (
    LEAST_OFF_MAP,
    MISSED,
    OFF_MAP,
    Weighed,
    absorbed,
    evidence_added,
    nowhere_of,
    off_map_after,
    places_from_leaders,
    rival_of,
    weighed,
)
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.geo import Grid
from skyfix.runtime.types import Hypothesis

TILE_M = 160.0
LIKELIHOOD = Likelihood()


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
    found = weighed(places, 0.5, TILE_M, LIKELIHOOD)
    leader = found.hypotheses[0].weight
    assert found.evidence == pytest.approx(np.log(leader / found.unexplained), abs=1e-6)
    assert leader > 0.99
    total = sum(place.weight for place in found.hypotheses) + found.unexplained
    assert total == pytest.approx(1)


def test_a_place_no_better_than_its_rival_is_nowhere() -> None:
    rivals = [place(300.0 * k, 0.0, 0.1, 0.45 - 0.01 * k) for k in range(8)]
    found = weighed(rivals, nowhere_of(OFF_MAP), TILE_M, LIKELIHOOD)
    assert found.unexplained > 0.9
    assert found.evidence < 0


def test_two_peaks_of_one_place_are_no_rivals() -> None:
    near, far = (
        weighed([place(0.0, 0.0, 0.5, 0.7), place(east, 0.0, 0.5, 0.69)], 0.5, TILE_M, LIKELIHOOD)
        for east in (30.0, 300.0)
    )
    assert near.evidence > far.evidence + 3
    lone = weighed(
        [place(0.0, 0.0, 0.5, 0.7), place(9e3, 0.0, 0.5, LONE_RIVAL)], 0.5, TILE_M, LIKELIHOOD
    )
    assert near.evidence == pytest.approx(lone.evidence)


def test_a_followed_track_believes_a_place_sooner_than_a_search() -> None:
    places = [place(0.0, 0.0, 0.5, 0.55), place(400.0, 0.0, 0.5, 0.45)]
    searching, tracking = (
        weighed(places, nowhere_of(off_map), TILE_M, LIKELIHOOD)
        for off_map in (OFF_MAP, LEAST_OFF_MAP)
    )
    assert tracking.hypotheses[0].weight > searching.hypotheses[0].weight


def test_off_the_map_or_a_missed_frame_are_told_apart_as_bayes_does() -> None:
    off_map, right, wrong = 0.2, 0.9, 0.1  # what a frame says of the map's places, and of none
    joint_off, joint_missed = off_map * wrong, (1 - off_map) * MISSED * wrong
    joint_on = (1 - off_map) * (1 - MISSED) * right
    total = joint_off + joint_missed + joint_on
    unexplained = (joint_off + joint_missed) / total
    assert off_map_after(off_map, unexplained) == pytest.approx(joint_off / total)


def test_a_frame_that_fits_nowhere_shakes_a_trusted_map_little_and_three_of_them_undo_it() -> None:
    off_map = LEAST_OFF_MAP
    seen = [off_map := float(off_map_after(off_map, 0.9)) for _ in range(4)]
    assert seen[0] < 0.001
    assert seen[2] > 0.02
    assert seen[3] > 0.4


def test_mass_leads_where_correlation_hardly_tells_and_gives_no_evidence_of_its_own() -> None:
    places = [place(0.0, 0.0, 0.99, 0.60), place(400.0, 0.0, 0.01, 0.62)]
    found = weighed(places, nowhere_of(LEAST_OFF_MAP), TILE_M, LIKELIHOOD)
    assert found.hypotheses[0].east_m == 0.0
    assert (
        found.evidence
        < weighed(places[::-1], nowhere_of(LEAST_OFF_MAP), TILE_M, LIKELIHOOD).evidence + 1e-9
    )
    assert found.evidence < 0


@given(
    best=st.floats(0, 1), rival=st.floats(-1, 1), looked_at=st.integers(1, 900),
    earlier=st.floats(-1, 1), crowd=st.integers(16, 900), lasting=st.floats(0, 1),
)  # fmt: skip
def test_what_a_wider_look_has_shown_can_only_lower_the_evidence(
    best: float, rival: float, looked_at: int, earlier: float, crowd: int, lasting: float
) -> None:
    places = [place(0.0, 0.0, 0.5, best), place(900.0, 0.0, 0.5, rival)]
    alone, crowded = (
        weighed(places, 0.5, TILE_M, LIKELIHOOD, looked_at=looked_at, crowd=of_earlier)
        for of_earlier in (NO_CROWD, Crowd(earlier, crowd, lasting))
    )
    assert crowded.evidence <= alone.evidence
    assert crowded.rival == alone.rival  # of this look, for the next


def test_the_belief_moves_to_where_the_hypotheses_are() -> None:
    grid = Grid(0.0, 0.0, 10.0, 30, 30)
    belief = uniform_belief(grid, np.ones((30, 30), bool))
    weighed = Weighed([place(104.0, -160.0, 0.8), place(220.0, -90.0, 0.15)], 0.05)
    first, second = leaders(absorbed(belief, weighed), 2, 40.0)
    assert (first.east_m, first.north_m) == pytest.approx((104.0, -160.0), abs=4.0)
    assert first.weight == pytest.approx(0.8, abs=0.02)
    assert second.weight == pytest.approx(0.15, abs=0.02)


def test_mass_never_settles_where_there_is_no_tile() -> None:
    grid = Grid(0.0, 0.0, 10.0, 20, 20)
    valid = np.ones((20, 20), bool)
    valid[:, 10:] = False
    belief = Belief(grid, normalised(np.where(valid, np.float32(0), np.float32(-np.inf))))
    after = absorbed(belief, Weighed([place(98.0, -50.0, 1.0)], 0.0))
    assert np.all(np.exp(after.log_p[~valid]) == 0)
    assert np.exp(after.log_p).sum() == pytest.approx(1, abs=1e-4)


def test_the_models_own_numbers_weigh_a_place() -> None:
    places = [place(0.0, 0.0, 0.5, 0.7), place(400.0, 0.0, 0.5, 0.5)]
    likelihood = Likelihood(per_gap=7.0, per_correlation=2.0, offset=1.0)
    found = weighed(places, nowhere_of(OFF_MAP), TILE_M, likelihood)
    assert found.evidence == pytest.approx(7 * 0.2 + 2 * 0.7 - 1)
    ratio = found.hypotheses[0].weight / found.hypotheses[1].weight
    assert ratio == pytest.approx(np.exp(7 * 0.2))


def believed(*share: float) -> Belief:
    """Places at the columns 5, 15, 25 of the middle row; the rest is spread over all else."""
    mass = np.full((31, 31), (1 - sum(share)) / (31 * 31 - len(share)))
    mass[15, [5, 15, 25][: len(share)]] = share
    return Belief(Grid(0.0, 0.0, 10.0, 31, 31), normalised(np.log(mass).astype(np.float32)))


AT_5 = place(50.0, -150.0, 0.0)


def test_a_frame_that_says_nothing_adds_nothing_however_sure_the_belief_is() -> None:
    for share in (0.6, 0.99, 0.999999):
        belief = believed(share, 0.1 * (1 - share))
        assert evidence_added(belief, belief, AT_5) == pytest.approx(0, abs=1e-9)


def test_what_frames_add_sums_to_the_odds_of_the_last_belief() -> None:
    steps = [believed(0.4, 0.4), believed(0.9, 0.05), believed(0.99, 0.005), believed(0.999, 5e-4)]
    added = [evidence_added(before, after, AT_5) for before, after in pairwise(steps)]
    rest = 0.0005 * 911 / 959  # of 961 tiles, 49 are the place's
    assert sum(added) == pytest.approx(np.log((1 - 5e-4 - rest) / (5e-4 + rest)), abs=0.02)
    assert all(part > 1.5 for part in added)


def test_a_place_that_only_this_frame_has_chosen_starts_from_even_odds() -> None:
    """Else the best of a thousand tiles would have a thousandfold evidence by being the best."""
    nothing_known = believed(1 / 961)
    assert evidence_added(nothing_known, believed(0.5), AT_5) == pytest.approx(0.1, abs=0.05)


def test_a_place_that_has_slid_off_its_mass_is_rather_nowhere() -> None:
    slid = [place(0.0, 0.0, 1e-6, 0.6)]
    by_itself = weighed(slid, 0.05, TILE_M, LIKELIHOOD)
    known = weighed(slid, 0.05, TILE_M, LIKELIHOOD, most=0.98)
    assert by_itself.hypotheses[0].weight > 0.9
    assert known.unexplained > 0.99


def test_a_rival_reaches_at_least_what_any_wrong_place_does_and_never_more_than_the_best() -> None:
    assert rival_of(0.7, [0.4, 0.5]) == 0.5
    assert rival_of(0.7, [0.1]) == rival_of(0.7, []) == LONE_RIVAL
    assert rival_of(0.2, []) == 0.2
