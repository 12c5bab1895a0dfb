"""The picture's geometry, and that what is in the record is in the picture."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.bench.picture import (
    HEAT,
    HEIGHT_PX,
    LEFT_PX,
    RIGHT_PX,
    STAGE,
    WHOLE,
    WIDTH_PX,
    Scale,
    density,
    draw_record,
    round_step,
    rows_of,
    running_median,
)
from skyfix.runtime.bench.record import Record, Trace

MakeRecord = Callable[..., Record]


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=30))
def test_every_sample_lies_within_the_axis(samples: list[float]) -> None:
    scale = Scale.over(np.array(samples))
    columns = scale.x_px(np.array(samples))
    assert columns.min() >= LEFT_PX - 1e-6
    assert columns.max() <= RIGHT_PX + 1e-6


def test_equal_ratios_are_equal_distances() -> None:
    columns = Scale(1.0, 100.0).x_px(np.array([1.0, 10.0, 100.0]))
    assert columns.tolist() == pytest.approx([LEFT_PX, (LEFT_PX + RIGHT_PX) / 2, RIGHT_PX])


def test_the_hill_stands_where_the_samples_are() -> None:
    centers, shares = density(np.array([3.0] * 10 + [30.0] * 5), Scale(1.0, 100.0))
    assert centers[int(np.argmax(shares))] == pytest.approx(3.0, rel=0.05)
    assert shares[np.abs(centers - 10).argmin()] < 0.01
    assert shares[np.abs(centers - 30).argmin()] == pytest.approx(0.5, abs=0.15)


def test_the_running_median_ignores_one_slow_frame() -> None:
    values = [10.0] * 60
    values[30] = 900.0
    assert running_median(values).tolist() == [10.0] * 60


@given(st.floats(1e-6, 1e9))
def test_a_round_step_is_the_next_of_1_2_5(least: float) -> None:
    step = round_step(least)
    assert least * (1 - 1e-9) <= step <= least * 2.5 * (1 + 1e-9)
    digit = step / 10 ** np.floor(np.log10(step * (1 + 1e-9)))
    assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-6


def pixels_of(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((image == np.array(color)).all(axis=2).sum())


def test_stages_the_whole_and_the_heat_are_drawn(make_record: MakeRecord) -> None:
    cool = draw_record(make_record())
    assert cool.shape == (HEIGHT_PX, WIDTH_PX, 3)
    trace = Trace(
        times_s=[0.0, 0.5, 1.0], hottest_c=[40.0, 45.0, 50.0], cpu_mhz=[None] * 3,
        interval_s=0.5, cpu_percent=0.1,
    )  # fmt: skip
    hot = draw_record(make_record(trace=trace))
    assert min(pixels_of(cool, STAGE), pixels_of(cool, WHOLE)) > 100
    assert pixels_of(hot, HEAT) > pixels_of(cool, HEAT)


def test_a_stage_without_samples_has_no_row(make_record: MakeRecord) -> None:
    record = make_record(path_ms={"ortho": [1.0] * 120, "refine": [None] * 120})
    assert [row.label for row in rows_of(record)] == ["ortho", "end to end", "(decode)"]
    draw_record(record)
