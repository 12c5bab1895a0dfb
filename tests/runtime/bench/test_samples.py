"""Percentiles, drifts and ratios that the test has planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.bench.samples import (
    Change,
    drift_of,
    percentiles_of,
    ratio_of,
)

COUNT = 240


def wandering(seed: int, scale: float = 1.0) -> list[float]:
    """Times around 10 ms that are alike for a dozen frames, as those of a lap are."""
    rng = np.random.default_rng(seed)
    noise, level = rng.normal(0, 0.3, COUNT), 0.0
    values = []
    for step in noise:
        level = 0.8 * level + step
        values.append(scale * (10 + level))
    return values


@given(st.lists(st.floats(0.001, 1e4), min_size=101, max_size=101))
def test_percentiles_are_the_sorted_samples(samples: list[float]) -> None:
    found, ordered = percentiles_of(samples), sorted(samples)
    assert found is not None
    assert (found.p50, found.p90, found.p95, found.p99, found.max) == pytest.approx(
        tuple(ordered[index] for index in (50, 90, 95, 99, 100))
    )


def test_frames_without_a_stage_do_not_count_as_zero() -> None:
    found = percentiles_of([None, 4.0, None, 4.0])
    assert found is not None
    assert found.p50 == 4.0
    assert percentiles_of([None, None]) is None


@pytest.mark.parametrize("planted", [0.12, -0.12])
def test_a_drift_over_the_run_is_found_with_its_size(planted: float) -> None:
    times_s = np.linspace(0, 60, COUNT)
    noise = np.random.default_rng(2).normal(0, 0.2, COUNT)
    values = 10 * (1 + planted * times_s / 60) + noise
    drift = drift_of(times_s.tolist(), values.tolist())
    assert drift is not None
    assert drift.is_flagged
    assert drift.share == pytest.approx(planted, abs=0.02)


def test_a_small_drift_is_not_flagged_however_sure_it_is() -> None:
    times_s = np.linspace(0, 60, COUNT)
    drift = drift_of(times_s.tolist(), (10 + 0.3 * times_s / 60).tolist())
    assert drift is not None
    assert drift.is_significant
    assert not drift.is_flagged


def test_noise_is_not_reported_as_drift() -> None:
    times_s = np.linspace(0, 60, COUNT).tolist()
    drifts = [drift_of(times_s, wandering(seed)) for seed in range(30)]
    assert sum(drift is not None and drift.is_flagged for drift in drifts) == 0


def test_one_outlier_makes_no_drift() -> None:
    values = [10.0] * COUNT
    values[-1] = 5000.0
    drift = drift_of(np.linspace(0, 60, COUNT).tolist(), values)
    assert drift is not None
    assert not drift.is_flagged


def test_too_few_values_tell_nothing_about_drift() -> None:
    assert drift_of([0.0, 1.0], [1.0, 2.0]) is None


def test_two_runs_of_the_same_are_no_change() -> None:
    ratios = [ratio_of(wandering(seed), wandering(seed + 100), 50) for seed in range(20)]
    assert {ratio.change for ratio in ratios if ratio} == {Change.NONE}


@pytest.mark.parametrize(
    ("scale", "change"), [(1.3, Change.SLOWER), (0.7, Change.FASTER), (1.02, Change.NONE)]
)
@pytest.mark.parametrize("percent", [50.0, 95.0])
def test_a_planted_change_is_found_and_a_small_one_is_not_claimed(
    scale: float, change: Change, percent: float
) -> None:
    ratio = ratio_of(wandering(5, scale), wandering(6), percent)
    assert ratio is not None
    assert ratio.change is change
    assert ratio.low <= scale <= ratio.high


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        ratio = ratio_of(wandering(seed, 1.2), wandering(seed + 500), 50)
        assert ratio is not None
        held += ratio.low <= 1.2 <= ratio.high
    assert held >= 48  # 95 % of 60 are 57; blocks of a short run are a little too sure


def test_a_stage_that_a_run_has_not_gives_no_ratio() -> None:
    assert ratio_of([1.0, 2.0], [None, None], 50) is None
    assert ratio_of([1.0, 2.0], [0.0, 0.0], 50) is None
