import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.chart import Chart

GSD_M = 2.0
GREY = np.arange(40 * 50).reshape(40, 50) % 251


def read(west_m: float, north_m: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """West edge at 100 m, north edge at 300 m; whole pixels only."""
    row, column = (300.0 - north_m) / GSD_M, (west_m - 100.0) / GSD_M
    assert row == pytest.approx(round(row), abs=1e-6)
    assert column == pytest.approx(round(column), abs=1e-6)
    grey, valid = np.zeros(size, np.uint8), np.zeros(size, bool)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = round(row) + i, round(column) + j
            if 0 <= y < 40 and 0 <= x < 50:
                grey[i, j], valid[i, j] = GREY[y, x], True
    return grey, valid


CHART = Chart(read, 100.0, 300.0, GSD_M)


@given(east=st.floats(120, 180), north=st.floats(240, 280), side=st.integers(3, 12))
def test_the_window_says_where_it_truly_lies(east: float, north: float, side: int) -> None:
    window = CHART.around(east, north, side)
    assert abs(window.east_m - east) <= GSD_M / 2 + 1e-9
    assert abs(window.north_m - north) <= GSD_M / 2 + 1e-9
    # the pixel in its north-west corner is the map's own
    column = round((window.east_m - side * GSD_M / 2 - 100.0) / GSD_M)
    row = round((300.0 - window.north_m - side * GSD_M / 2) / GSD_M)
    assert window.grey[0, 0] == GREY[row, column]


def test_what_is_no_map_is_grey_and_counted() -> None:
    window = CHART.around(100.0, 270.0, 10)  # half of it lies west of the map
    assert window.seen == 0.5
    assert np.all(window.grey[:, 0] == pytest.approx(window.grey[:, 5:].mean()))
    assert CHART.around(-900.0, 270.0, 4).seen == 0.0


def test_a_reduced_window_averages_and_keeps_its_centre() -> None:
    window = CHART.around(140.0, 260.0, 12)
    small = window.reduced(3)
    assert (small.east_m, small.north_m, small.gsd_m) == (window.east_m, window.north_m, 6.0)
    assert small.grey[0, 0] == pytest.approx(window.grey[:3, :3].mean(), abs=1e-3)
    assert window.reduced(1) is window
