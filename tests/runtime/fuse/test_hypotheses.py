import cv2
import numpy as np
import pytest

from skyfix.runtime.fuse.belief import Belief, Leader, leaders, normalised, uniform_belief
from skyfix.runtime.fuse.hypotheses import Weighed, absorbed, refined, unrefined
from skyfix.runtime.geo import Grid
from skyfix.runtime.types import Hypothesis, Patch

GSD_M = 1.0


def ground() -> np.ndarray:
    rough = np.random.default_rng(7).standard_normal((300, 300)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.5)
    return np.asarray((127 + 40 * smooth / smooth.std()).clip(1, 255), np.uint8)


GROUND = ground()


def overview(
    west_m: float, north_m: float, size_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The ground's north-west corner is at (0, 0); no map beyond."""
    grey, valid = np.zeros(size_px, np.uint8), np.zeros(size_px, bool)
    for row in range(size_px[0]):
        for column in range(size_px[1]):
            r, c = round(-north_m) + row, round(west_m) + column
            if 0 <= r < 300 and 0 <= c < 300:
                grey[row, column], valid[row, column] = GROUND[r, c], True
    return grey, valid


def patch_centred(east_m: int, north_m: int, size: int = 64) -> Patch:
    row, column = -north_m - size // 2, east_m - size // 2
    crop = GROUND[row : row + size, column : column + size]
    image = np.repeat(crop[..., None], 3, axis=2)
    return Patch(image, np.ones((size, size), bool), GSD_M, (0.0, 0.0))


def place(east_m: float, north_m: float, weight: float) -> Hypothesis:
    return Hypothesis(east_m, north_m, weight, 0.5, float("nan"), np.eye(2))


def test_the_true_place_wins_against_a_heavier_wrong_one_and_is_moved_onto_its_peak() -> None:
    start = Weighed([place(220.0, -90.0, 0.7), place(108.0, -152.0, 0.2)], 0.1)
    weighed = refined(start, patch_centred(100, -160), overview, GSD_M, 16.0)
    best = weighed.hypotheses[0]
    assert (best.east_m, best.north_m) == pytest.approx((100.0, -160.0), abs=0.3)
    assert best.weight > 0.99
    assert best.correlation > 0.95


def test_without_the_true_place_the_weight_goes_to_none_of_them() -> None:
    start = Weighed([place(220.0, -90.0, 0.7), place(60.0, -60.0, 0.25)], 0.05)
    weighed = refined(start, patch_centred(100, -220), overview, GSD_M, 16.0)
    assert weighed.unexplained > max(place.weight for place in weighed.hypotheses)
    assert sum(h.weight for h in weighed.hypotheses) + weighed.unexplained == pytest.approx(1)


def test_a_patch_without_structure_leaves_the_places_as_they_are() -> None:
    flat = Patch(np.full((64, 64, 3), 90, np.uint8), np.ones((64, 64), bool), GSD_M, (0.0, 0.0))
    start = Weighed([place(220.0, -90.0, 0.7)], 0.3)
    assert refined(start, flat, overview, GSD_M, 16.0) is start


def test_leaders_become_hypotheses_best_first() -> None:
    found = [Leader(0.0, 0.0, 0.2, 0, 0), Leader(9.0, 9.0, 0.6, 3, 3)]
    weighed = unrefined(found, [0.4, 0.8], 5.0)
    assert [h.weight for h in weighed.hypotheses] == [0.6, 0.2]
    assert weighed.hypotheses[0].score == 0.8
    assert weighed.unexplained == pytest.approx(0.2)


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
