from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.belief import (
    LEAST_LEADERS,
    LEFT_OUT,
    MOST_LEADERS,
    Belief,
    carried,
    disc_belief,
    doubted,
    leaders,
    leaders_to_look_at,
    normalised,
    predicted,
    uniform_belief,
    updated,
    window_of,
)
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.geo import Grid

GRID = Grid(east_m=-100.0, north_m=100.0, step_m=10.0, rows=21, columns=21)
EVERYWHERE = np.ones((21, 21), bool)
WHOLE = (slice(0, 21), slice(0, 21))
LIKELIHOOD = Likelihood()


def at(row: int, column: int, background: float = 1e-12) -> Belief:
    mass = np.full((21, 21), background)
    mass[row, column] = 1.0
    return Belief(GRID, normalised(np.log(mass).astype(np.float32)))


def total(belief: Belief) -> float:
    return float(np.exp(belief.log_p.astype(np.float64)).sum())


@settings(max_examples=50, deadline=None)
@given(
    row=st.integers(0, 20), column=st.integers(0, 20),
    reach_m=st.floats(0, 400), seed=st.integers(0, 99),
)  # fmt: skip
def test_probability_stays_one_and_off_the_tiles_stays_none(
    row: int, column: int, reach_m: float, seed: int
) -> None:
    valid = np.random.default_rng(seed).random((21, 21)) < 0.8
    valid[row, column] = True
    start = at(row, column)
    start = replace(start, log_p=np.where(valid, start.log_p, np.float32(-np.inf)))
    moved = predicted(start, valid, reach_m)
    score = np.where(valid, np.random.default_rng(seed).random((21, 21)), -np.inf)
    after = updated(moved, WHOLE, score.astype(np.float32), LIKELIHOOD)
    for belief in (moved, after):
        assert total(belief) == pytest.approx(1.0, abs=1e-4)
        assert np.all(np.exp(belief.log_p[~valid]) == 0)


def test_prediction_reaches_as_far_as_the_drone_can_fly_and_no_further() -> None:
    moved = predicted(at(10, 10, 1e-30), EVERYWHERE, 50.0)
    rows, columns = np.nonzero(np.exp(moved.log_p) > 1e-6)
    distance_m = 10.0 * np.hypot(rows - 10, columns - 10)
    assert distance_m.max() <= 55.0  # half a cell more: the drone is somewhere in its cell
    assert (distance_m <= 50.0).sum() == (np.hypot(*np.mgrid[-10:11, -10:11]) <= 5.0).sum()


def test_many_short_steps_reach_as_far_as_one_long() -> None:
    short = at(10, 10, 1e-30)
    for _ in range(6):
        short = predicted(short, EVERYWHERE, 5.0)
    long = predicted(at(10, 10, 1e-30), EVERYWHERE, 30.0)
    reached = [np.exp(belief.log_p) > 1e-9 for belief in (short, long)]
    assert np.all(reached[0] >= reached[1])


def test_a_long_silence_forgets_the_position() -> None:
    moved = predicted(at(3, 3), EVERYWHERE, 1e4)
    assert np.ptp(moved.log_p) == pytest.approx(0.0, abs=1e-5)


def test_two_frames_on_one_place_outweigh_one_on_another() -> None:
    score = np.full((21, 21), 0.3, np.float32)
    twice, once = score.copy(), score.copy()
    twice[5, 5] = once[15, 15] = 0.6
    belief = uniform_belief(GRID, EVERYWHERE)
    for seen in (twice, once, twice):
        belief = updated(belief, WHOLE, seen, LIKELIHOOD)
    first, second = leaders(belief, 2, 30.0)
    assert (first.row, first.column) == (5, 5)
    assert (second.row, second.column) == (15, 15)


def test_one_wrong_frame_cannot_rule_a_place_out() -> None:
    score = np.full((21, 21), -0.5, np.float32)
    score[0, 0] = 1.0
    after = updated(at(10, 10, 1e-9), WHOLE, score, LIKELIHOOD)
    floor = LIKELIHOOD.epsilon / score.size
    assert np.exp(after.log_p[10, 10]) > floor / 2 / (floor + 1e-9)


def test_the_window_holds_the_mass() -> None:
    assert window_of(at(4, 17)) == (slice(4, 5), slice(17, 18))
    assert window_of(uniform_belief(GRID, EVERYWHERE)) == WHOLE


def test_a_place_between_tiles_is_one_leader_at_its_centroid() -> None:
    mass = np.full((21, 21), 1e-9)
    mass[8:10, 12:14] = 0.25
    place = leaders(Belief(GRID, normalised(np.log(mass).astype(np.float32))), 1, 30.0)[0]
    assert place.weight == pytest.approx(1.0, abs=1e-3)
    assert (place.east_m, place.north_m) == pytest.approx((25.0, 15.0), abs=0.1)


@settings(max_examples=60, deadline=None)
@given(
    row=st.sampled_from([0, 1, 2, 10, 19, 20]), column=st.sampled_from([0, 1, 9, 18, 20]),
    separation_m=st.sampled_from([5.0, 30.0, 50.0, 75.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_leaders_share_and_centroid_are_those_of_the_cells_around_it_at_the_border_too(
    row: int, column: int, separation_m: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mass = rng.random((21, 21)) * (rng.random((21, 21)) < 0.7)
    mass[row, column] = 60.0
    with np.errstate(divide="ignore"):
        belief = Belief(GRID, normalised(np.log(mass).astype(np.float32)))
    found = leaders(belief, 12, separation_m)
    assert (found[0].row, found[0].column) == (row, column)
    reach = max(1, int(separation_m / 20))
    for place in found:
        share = east = north = 0.0
        for i in range(21):
            for j in range(21):
                if abs(i - place.row) <= reach and abs(j - place.column) <= reach:
                    here = float(mass[i, j] / mass.sum())
                    share += here
                    east += here * (-100.0 + 10.0 * j)
                    north += here * (100.0 - 10.0 * i)
        assert place.weight == pytest.approx(share, rel=1e-4)
        assert place.east_m == pytest.approx(east / share, abs=0.01)
        assert place.north_m == pytest.approx(north / share, abs=0.01)


def test_leaders_keep_their_distance() -> None:
    noise = np.random.default_rng(0).random((21, 21))
    belief = Belief(GRID, normalised(np.log(noise).astype(np.float32)))
    found = leaders(belief, 8, 40.0)
    for number, place in enumerate(found):
        for other in found[:number]:
            assert max(abs(place.row - other.row), abs(place.column - other.column)) > 4


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), apart=st.integers(1, 5), count=st.sampled_from([1, 3, 8, 40]),
       levels=st.sampled_from([2, 5, 1000]))  # fmt: skip
def test_leaders_are_the_highest_and_then_the_highest_away_from_all_before(
    seed: int, apart: int, count: int, levels: int
) -> None:
    mass = np.random.default_rng(seed).integers(0, levels, (21, 21)) + 1e-3
    belief = Belief(GRID, normalised(np.log(mass).astype(np.float32)))
    found = [(place.row, place.column) for place in leaders(belief, count, 10.0 * apart)]
    reach = max(1, apart // 2)
    held = np.exp(belief.log_p)
    box = (2 * reach + 1, 2 * reach + 1)
    summed = held + cv2.boxFilter(held, -1, box, normalize=False, borderType=cv2.BORDER_CONSTANT)
    heights = [float(summed[cell]) for cell in found]
    assert heights == sorted(heights, reverse=True)
    assert 1 <= len(found) <= count
    rows, columns = np.mgrid[:21, :21]
    for number, (row, column) in enumerate(found):
        before = np.array(found[:number]).reshape(-1, 2)
        assert (np.abs(before - [row, column]).max(axis=1) > apart).all()
    # every cell that is left out has one as high beside it, or is below all of so many
    highest_beside = np.zeros((21, 21))
    for (row, column), height in zip(found, heights, strict=True):
        beside = np.maximum(np.abs(rows - row), np.abs(columns - column)) <= apart
        highest_beside[beside] = np.maximum(highest_beside[beside], height)
    least = heights[-1] if len(found) == count else 0.0
    assert ((highest_beside >= summed) | (summed <= least)).all()


def test_a_prior_disc_is_uniform_inside_and_empty_outside() -> None:
    belief = disc_belief(GRID, EVERYWHERE, (0.0, 0.0), 30.0)
    assert belief is not None
    distance_m = 10.0 * np.hypot(*np.mgrid[-10:11, -10:11])
    inside = np.exp(belief.log_p) > 0
    assert np.array_equal(inside, distance_m <= 35.0)


def test_a_prior_off_the_map_is_refused() -> None:
    assert disc_belief(GRID, EVERYWHERE, (5000.0, 0.0), 30.0) is None


def test_a_measured_flight_shifts_the_belief_and_blurs_it_by_its_deviation() -> None:
    after = carried(at(10, 10), EVERYWHERE, (30.0, -20.0), 6.0)
    mass = np.exp(after.log_p.astype(np.float64))
    rows, columns = np.mgrid[0:21, 0:21]
    mean = (rows * mass).sum(), (columns * mass).sum()
    assert mean == pytest.approx((12.0, 13.0), abs=0.02)
    assert ((rows - mean[0]) ** 2 * mass).sum() == pytest.approx(0.36, abs=0.06)
    assert total(after) == pytest.approx(1)


def test_a_belief_that_is_carried_off_the_map_knows_nothing() -> None:
    alone = np.full((21, 21), -np.inf, np.float32)
    alone[10, 10] = 0.0
    after = carried(Belief(GRID, alone), EVERYWHERE, (900.0, 0.0), 5.0)
    assert after.log_p == pytest.approx(uniform_belief(GRID, EVERYWHERE).log_p)


def test_the_models_own_temperature_says_what_a_similarity_is_worth() -> None:
    score = np.zeros((21, 21), np.float32)
    score[5, 5] = 0.2
    for temperature in (0.03, 0.1):
        likelihood = Likelihood(temperature=temperature, epsilon=1e-9)
        after = updated(uniform_belief(GRID, EVERYWHERE), WHOLE, score, likelihood)
        gain = after.log_p[5, 5] - after.log_p[0, 0]
        assert gain == pytest.approx(0.2 / temperature, rel=1e-3)


def test_a_place_without_mass_leads_nowhere_however_its_neighbours_are_summed() -> None:
    """Rounded sums of masses that are far apart leave traces where nothing is."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        log_p = np.full((40, 40), -200.0, np.float32)
        for row, column in rng.integers(0, 40, (12, 2)):
            log_p[row, column] = -rng.uniform(0, 40)
        belief = Belief(Grid(0.0, 0.0, 10.0, 40, 40), normalised(log_p))
        found = leaders(belief, 96, 30.0)
        assert found
        assert all(
            np.isfinite([place.east_m, place.north_m, place.weight]).all() for place in found
        )


def test_the_thin_rest_of_a_search_does_not_hold_the_window_open() -> None:
    grid = Grid(0.0, 0.0, 10.0, 600, 600)
    mass = np.full((600, 600), 5e-4 / 600**2)
    mass[300:302, 410:413] = 1.0
    found = window_of(Belief(grid, normalised(np.log(mass / mass.sum()).astype(np.float32))))
    assert found == (slice(300, 302), slice(410, 413))
    mass[20, 30] = 0.05  # a rival worth a look
    wide = window_of(Belief(grid, normalised(np.log(mass / mass.sum()).astype(np.float32))))
    assert wide == (slice(20, 302), slice(30, 413))


def test_as_many_places_are_looked_at_as_nearly_all_of_the_mass_is_at() -> None:
    grid = Grid(0.0, 0.0, 10.0, 90, 90)

    def looked_at(weights: list[float]) -> list[float]:
        mass = np.full((90, 90), 1e-12)
        for index, weight in enumerate(weights):
            mass[4 * (index // 20) + 2, 4 * (index % 20) + 2] = weight
        belief = Belief(grid, normalised(np.log(mass).astype(np.float32)))
        return [place.weight for place in leaders_to_look_at(belief, 30.0)]

    sure = looked_at([0.999] + [0.001 / 99] * 99)
    assert len(sure) == LEAST_LEADERS
    unsure = looked_at([1.0] * 100)
    assert len(unsure) == 100
    tail = looked_at([0.06] * 40 + [1.0] * 60)  # of 62.4 in all, 0.312 is left out
    assert tail == sorted(tail, reverse=True)
    assert len(tail) == 60 + 35


def test_never_more_places_are_looked_at_than_a_frame_may_cost() -> None:
    grid = Grid(0.0, 0.0, 10.0, 200, 200)
    everywhere = uniform_belief(grid, np.ones((200, 200), bool))
    found = len(leaders_to_look_at(everywhere, 30.0))  # of 2,500 that there are
    assert (1 - LEFT_OUT) * MOST_LEADERS <= found <= MOST_LEADERS


def test_a_belief_in_doubt_is_half_where_it_was_and_half_anywhere() -> None:
    valid = EVERYWHERE.copy()
    valid[:5] = False
    found = np.exp(doubted(at(12, 7, 0.0 + 1e-30), valid).log_p.astype(np.float64))
    cells = int(valid.sum())
    assert found.sum() == pytest.approx(1)
    assert found[12, 7] == pytest.approx(0.5 + 0.5 / cells, rel=1e-4)
    assert found[20, 20] == pytest.approx(0.5 / cells, rel=1e-4)
    assert found[2, 2] == 0
    whole = window_of(doubted(at(12, 7), EVERYWHERE))
    assert whole == (slice(0, 21), slice(0, 21))
