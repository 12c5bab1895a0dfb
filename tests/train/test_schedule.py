from pathlib import Path

import numpy as np
import pytest

from skyfix.train.config import ScheduleConfig
from skyfix.train.schedule import rate_factor

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def test_the_schedule_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    schedule = ScheduleConfig(warmup=0.1)
    assert rate_factor(schedule, 0, 1000, 100) == pytest.approx(0.01)
    assert rate_factor(schedule, 49, 1000, 100) == pytest.approx(0.5)
    assert rate_factor(schedule, 100, 1000, 100) == pytest.approx(1.0)
    assert rate_factor(schedule, 550, 1000, 100) == pytest.approx(0.5)
    assert rate_factor(schedule, 1000, 1000, 100) == pytest.approx(0.0, abs=1e-9)


def test_a_drop_leaves_a_tenth() -> None:
    schedule = ScheduleConfig("drop", warmup=0.0, drop_at=80 / 120)
    assert rate_factor(schedule, 0, 1200, 10) == 1
    assert rate_factor(schedule, 799, 1200, 10) == 1
    assert rate_factor(schedule, 800, 1200, 10) == pytest.approx(0.1)


@pytest.mark.real
def test_a_rate_an_epoch_is_geodtr_plus_s_own() -> None:
    if not GOLDEN.is_dir():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    schedule = ScheduleConfig(warmup=5 / 200, per_epoch=True)
    with np.load(GOLDEN / "training_pieces.npz") as pieces:
        official = pieces["lr_factor_geodtr_plus"]
    ours = [rate_factor(schedule, 7 * epoch + 3, 7 * 200, 7) for epoch in range(200)]
    np.testing.assert_allclose(ours, official, atol=1e-7)
    assert rate_factor(schedule, 6, 7 * 200, 7) == 0  # the first epoch teaches nothing
