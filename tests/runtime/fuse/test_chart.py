import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.chart import AVERAGED_PX, Chart, Window
from skyfix.runtime.fuse.structure import NONE

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
    assert window.levels[0, 0] == int(GREY[row, column]) - NONE


def test_what_is_no_map_has_no_structure() -> None:
    window = CHART.around(100.0, 270.0, 10)  # half of it lies west of the map
    assert not window.levels[:, :5].any()
    assert window.levels[:, 5:].any()
    assert not CHART.around(-900.0, 270.0, 4).levels.any()


WIDE_M = 0.5
WIDE = np.random.default_rng(0).integers(0, 256, (700, 800), np.uint8)


def wide(*holes: tuple[int, int]) -> tuple[Chart, list[tuple[float, float]]]:
    """A map of several blocks at any scale, without some of its pixels, and where it was read."""
    valid = np.ones(WIDE.shape, bool)
    for hole in holes:
        valid[hole] = False
    reads = []

    def read_wide(
        west_m: float, north_m: float, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        reads.append((west_m, north_m))
        rows, columns = (
            round(first) + np.arange(count)
            for first, count in zip(((300 - north_m) / WIDE_M, (west_m - 100) / WIDE_M), size,
                                    strict=True)
        )  # fmt: skip
        on_map = (rows >= 0)[:, None] & (rows < 700)[:, None] & (columns >= 0) & (columns < 800)
        there = np.ix_(rows.clip(0, 699), columns.clip(0, 799))
        return np.where(on_map, WIDE[there], np.uint8(0)), on_map & valid[there]

    return Chart(read_wide, 100.0, 300.0, WIDE_M), reads


def grey_of(window: Window) -> np.ndarray:
    """The levels that a window of a grey chart was made of."""
    return window.levels.astype(np.int16) + NONE


def mean_of(window: Window, factor: int, side: int) -> np.ndarray:
    """The fine pixels under a window that lies on the map, averaged by hand."""
    row = round((300 - window.north_m) / WIDE_M - side * factor / 2)
    column = round((window.east_m - 100) / WIDE_M - side * factor / 2)
    fine = WIDE[row : row + side * factor, column : column + side * factor].astype(np.float64)
    return np.asarray(fine.reshape(side, factor, side, factor).mean(axis=(1, 3)))


@settings(max_examples=60, deadline=None)
@given(
    factor=st.sampled_from([2, 3, 4, 5]), side=st.integers(2, 40),
    over=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_pixels_of_an_averaged_chart_are_the_plain_mean_of_the_fine_ones_across_its_blocks(
    factor: int, side: int, over: tuple[float, float]
) -> None:
    chart = wide()[0].averaged(factor)
    assert chart.gsd_m == factor * WIDE_M
    # centres within half a window of the corner where four blocks meet
    south, east = (AVERAGED_PX + (share - 0.5) * (side - 1.01) for share in over)
    window = chart.around(100 + east * chart.gsd_m, 300 - south * chart.gsd_m, side)
    assert abs(window.east_m - 100 - east * chart.gsd_m) <= chart.gsd_m / 2 + 1e-9
    assert abs(300 - south * chart.gsd_m - window.north_m) <= chart.gsd_m / 2 + 1e-9
    assert window.gsd_m == chart.gsd_m
    # whole grey values
    assert np.abs(grey_of(window) - mean_of(window, factor, side)).max() <= 0.5 + 1e-3


def test_a_window_over_three_blocks_each_way_is_as_one_piece() -> None:
    chart = wide()[0].averaged(3)
    window = chart.around(100 + 100 * chart.gsd_m, 300 - 100 * chart.gsd_m, 2 * AVERAGED_PX + 6)
    found = mean_of(window, 3, 2 * AVERAGED_PX + 6)
    assert np.abs(grey_of(window) - found).max() <= 0.5 + 1e-3


def test_averaging_by_one_is_the_chart_itself() -> None:
    chart, reads = wide()
    assert chart.averaged(1) is chart
    assert not reads


@settings(max_examples=40, deadline=None)
@given(
    factor=st.sampled_from([2, 3, 5]), row=st.integers(0, 599), column=st.integers(0, 599),
    holes=st.integers(1, 25),
)  # fmt: skip
def test_a_pixel_is_the_mean_of_what_is_valid_of_it_as_long_as_that_is_half(
    factor: int, row: int, column: int, holes: int
) -> None:
    """A pixel of the averaged chart has lost so many of its own, the first ones by rows."""
    top, left = row // factor * factor, column // factor * factor
    lost = [(top + k // factor, left + k % factor) for k in range(min(holes, factor**2))]
    fine, _ = wide(*lost)
    chart = fine.averaged(factor)
    corner = (100 + left * WIDE_M, 300 - top * WIDE_M)
    grey, valid = chart.read(*corner, (1, 1))
    kept = factor**2 - len(lost)
    assert bool(valid[0, 0]) == (kept >= factor**2 / 2)
    if valid[0, 0]:
        pixels, there = fine.read(*corner, (factor, factor))
        assert abs(float(grey[0, 0]) - pixels[there].mean()) <= 0.5 + 1e-3
    _, around = chart.read(corner[0] + chart.gsd_m, corner[1] - chart.gsd_m, (1, 1))
    assert around.all()


def test_off_the_map_an_averaged_chart_shows_nothing() -> None:
    chart = wide()[0].averaged(3)  # 700 and 800 rows and columns: 233.3 and 266.7
    _, valid = chart.read(100 + 260 * chart.gsd_m, 300 - 230 * chart.gsd_m, (8, 10))
    rows, columns = np.arange(230, 238)[:, None], np.arange(260, 270)
    assert np.array_equal(valid, (rows < 233) & (columns <= 266))  # two thirds of that column
    _, valid = chart.read(100 - 70 * chart.gsd_m, 300 + 70 * chart.gsd_m, (140, 140))
    assert np.array_equal(valid, np.outer(np.arange(140) >= 70, np.arange(140) >= 70))
    assert not chart.around(100 - 90.0, 300 + 90.0, 8).levels.any()


def test_a_block_is_read_once_however_often_it_is_looked_at() -> None:
    fine, reads = wide()
    chart = fine.averaged(3)
    assert not reads  # nothing before it is looked at
    corner_m = AVERAGED_PX * chart.gsd_m
    for east_m, north_m, read_by_then in (
        (20.0, -20.0, 1),
        (30.0, -15.0, 1),  # elsewhere in the same
        (corner_m, -20.0, 2),  # half of it further east
        (corner_m, -corner_m, 4),
        (corner_m, -corner_m, 4),
        (20.0, -20.0, 4),
    ):
        chart.around(100 + east_m, 300 + north_m, 8)
        assert len(reads) == read_by_then
    assert len(set(reads)) == 4


def test_of_more_blocks_than_are_kept_the_one_longest_not_looked_at_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skyfix.runtime.fuse.chart.KEPT_PX", 2 * AVERAGED_PX**2)
    fine, reads = wide()
    chart = fine.averaged(3)
    block_m = AVERAGED_PX * chart.gsd_m
    for block, read_by_then in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        chart.around(100 + (block + 0.5) * block_m, 280.0, 8)
        assert len(reads) == read_by_then


@given(
    east_m=st.lists(st.floats(80, 520), min_size=2, max_size=9), north_m=st.floats(-60, 320),
    side_px=st.integers(3, 30),
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_many_places_have_the_levels_that_each_has_alone(
    east_m: list[float], north_m: float, side_px: int
) -> None:
    structured = STRUCTURED
    norths_m = north_m - np.linspace(0, 90, len(east_m))
    together = structured.levels_around(np.array(east_m), norths_m, side_px)
    for levels, east, north in zip(together, east_m, norths_m, strict=True):
        assert np.array_equal(levels, structured.around(east, float(north), side_px).levels)


STRUCTURED = wide((30, 40), (650, 700))[0].averaged(4).structured(60.0)
