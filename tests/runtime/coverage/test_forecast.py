"""Weights and waiting times of imagined frames, against the filter's own and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.coverage.forecast import (
    Float,
    Frames,
    Int,
    Memory,
    _seen,
    first_fix_frames,
    looked_at,
    lost_weights,
    weighed,
)
from skyfix.runtime.fuse import hypotheses
from skyfix.runtime.fuse.hypotheses import OFF_MAP, nowhere_of
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.track import CONFIRMING_FRAMES
from skyfix.runtime.types import Hypothesis

RIVALS, TILES = 15, 5000
FLIGHTS = 400
LIKELIHOOD = Likelihood()
DOUBTFUL = Likelihood(offset=80.0)  # trusts no correlation


def stay(start: Int, _frame: int) -> Int:
    return start


def frames_from(
    own: list[float],
    rival: list[float],
    apart: list[tuple[int, int]],
    correlated: tuple[float, float] = (0.8, 0.8),
) -> Frames:
    """One place; each imagined frame has its own mass, and that of one rival at an offset."""
    mass = np.zeros((1, len(own), 1 + RIVALS), np.float32)
    mass[0, :, 0], mass[0, :, 1] = own, rival
    correlation = np.full(mass.shape, 0.1, np.float32)
    correlation[..., :2] = np.array([own, rival]).T > 0
    correlation[..., :2] *= correlated
    offset = np.zeros((1, len(own), RIVALS, 2), np.int64)
    offset[..., 0, :] = apart
    rest = (1 - mass.sum(axis=2)).astype(np.float32)
    return Frames(mass, rest, correlation, offset, TILES)


def waited(frames: Frames, seed: int = 0) -> tuple[Float, NDArray[np.bool_]]:
    starts = np.zeros(FLIGHTS, np.int64)
    return first_fix_frames(frames, starts, stay, 1.0, LIKELIHOOD, np.random.default_rng(seed))


@pytest.mark.parametrize("good", [2, 3])
def test_a_run_of_frames_that_stand_out_takes_as_long_as_the_closed_form_says(good: int) -> None:
    """Of four frames `good` stand out, the others show a place that is not there again."""
    own = [0.97] * good + [0.0] * (4 - good)
    needed, right = waited(frames_from(own, [0.0] * 4, [(90, 90)] * 4))
    chance = good / 4
    expected = (chance**-CONFIRMING_FRAMES - 1) / (1 - chance)
    assert right.all()
    assert needed.mean() == pytest.approx(expected, rel=0.12)


def test_a_copy_of_the_ground_that_flies_along_is_never_resolved() -> None:
    needed, _ = waited(frames_from([0.45] * 4, [0.45] * 4, [(40, 7)] * 4))
    assert np.isinf(needed).all()


def test_a_rival_that_is_never_at_the_same_place_is_resolved_by_the_next_frames() -> None:
    elsewhere = [(40, 7), (-35, 20), (11, -60), (80, 80), (-77, 0), (0, 64)]
    frames = frames_from([0.1] * 6, [0.8] * 6, elsewhere, (0.8, 0.62))
    needed, right = waited(frames)
    assert np.isfinite(needed).all()
    assert right.all()
    assert np.median(needed) <= 4
    assert lost_weights(frames, LIKELIHOOD)[0, :, 0].max() < 0.8  # none of them stands out alone


def test_a_stronger_copy_is_a_wrong_first_fix() -> None:
    needed, right = waited(frames_from([0.01] * 2, [0.97] * 2, [(40, 7)] * 2, (0.5, 0.8)))
    assert (needed == CONFIRMING_FRAMES).all()
    assert not right.any()


def test_frames_that_fit_nowhere_leave_the_memory_as_it_was() -> None:
    """The fault: the true place, which is always among those looked at, gains by nothing else."""
    frames = frames_from([0.3], [0.3], [(40, 7)], (0.05, 0.05))
    start = Memory.lost(1, RIVALS)
    before = replace(start, own=np.array([0.2], np.float32), rest=np.array([0.8], np.float32))
    memory, nothing = before, np.zeros(1, np.int64)
    for _ in range(50):
        memory, verdict = _seen(frames, (nothing, nothing), memory, DOUBTFUL)
        assert verdict.nowhere > 0.999
    assert memory.own == pytest.approx(before.own, rel=0.05)


def test_frames_off_the_map_break_the_run() -> None:
    frames = frames_from([0.97], [0.0], [(90, 90)])

    def every_other(start: Int, frame: int) -> Int:
        return np.where(frame % 2 == 0, start, -1)

    starts = np.zeros(3, np.int64)
    rng = np.random.default_rng(0)
    assert np.isinf(first_fix_frames(frames, starts, every_other, 1.0, LIKELIHOOD, rng)[0]).all()
    assert (waited(frames)[0] == CONFIRMING_FRAMES).all()


def test_tempered_frames_gather_their_evidence_for_longer() -> None:
    frames = frames_from([0.97], [0.0], [(90, 90)], (0.6, 0.1))
    starts = np.zeros(3, np.int64)
    rng = np.random.default_rng(0)
    free, _ = first_fix_frames(frames, starts, stay, 1.0, LIKELIHOOD, rng)
    tempered, _ = first_fix_frames(frames, starts, stay, 0.01, LIKELIHOOD, rng)
    assert (free == CONFIRMING_FRAMES).all()
    assert (tempered > free).all()


def test_weights_are_the_filters_own() -> None:
    rng = np.random.default_rng(5)
    for highest in np.repeat([0.9, 0.3], 10):  # of the rivals, all of them below what any reaches
        mass = rng.dirichlet(np.ones(16)).astype(np.float32)
        peaks = rng.uniform(-0.1, highest, 16).astype(np.float32)
        peaks[3] = 0.7
        places = [
            Hypothesis(
                1000.0 * index, 0.0, float(share), 0.0, float(peak), np.eye(2),
                turn_deg=0.0, log_scale=0.0, attitude_cov=np.eye(2),
            )
            for index, (share, peak) in enumerate(zip(mass, peaks, strict=True))
        ]  # fmt: skip
        expected = hypotheses.weighed(places, nowhere_of(OFF_MAP), 100.0, LIKELIHOOD)
        verdict = weighed(mass[None], peaks[None], nowhere_of(OFF_MAP), LIKELIHOOD)
        for place in expected.hypotheses:
            index = round(place.east_m / 1000)
            assert verdict.weight[0, index] == pytest.approx(place.weight, rel=1e-3, abs=1e-9)
        assert verdict.nowhere[0] == pytest.approx(expected.unexplained, rel=1e-3, abs=1e-9)
        assert verdict.evidence[0] == pytest.approx(expected.evidence, rel=1e-3, abs=1e-4)


def test_a_true_place_behind_all_rivals_is_not_looked_at() -> None:
    mass = np.array([[0.01, 0.2, 0.3], [0.25, 0.2, 0.3]], np.float32)
    looked = looked_at(mass, np.full((2, 3), 0.9, np.float32))
    np.testing.assert_allclose(looked, [[-1, 0.9, 0.9], [0.9, 0.9, 0.9]], rtol=1e-6)
