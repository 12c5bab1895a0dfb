"""The arithmetic of grid, shards and overview: nothing twice, nothing forgotten."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.export.cli import ACCURACY_HELP
from skyfix.export.plan import BuildPlan, plan_from_raster
from skyfix.runtime.engines.base import ModelCard, TrainingRecord
from skyfix.runtime.errors import InputError, RasterError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import DEFAULT_ACCURACY_M, Imagery
from skyfix.runtime.maps.raster import Raster

CARD = ModelCard(
    schema=1, name="test", model_id="0" * 16, architecture="test", graphs={}, input_px=64,
    gsd_m=0.9, mean=None, std=None, dimension=8, precision="fp32",
    training=TrainingRecord(config="", steps=0, hours=0, device="", imagery={}), licence="",
)  # fmt: skip


def raster(width_px: int, height_px: int, gsd_m: float) -> Raster:
    shape = (height_px, width_px)
    image, valid = np.zeros((*shape, 3), np.uint8), np.ones(shape, bool)
    return Raster(image, valid, LocalFrame(47.0, 8.0), -310.5, 207.25, gsd_m)


def plan(map_image: Raster, step_m: float | None = None, tile_m: float | None = None) -> BuildPlan:
    return plan_from_raster(map_image, CARD, "onnx", Imagery(), step_m, tile_m)


def covered(blocks: list[tuple[slice, slice]], shape: tuple[int, int]) -> np.ndarray:
    """How often every cell is covered."""
    times = np.zeros(shape, int)
    for block in blocks:
        times[block] += 1
    return times


MAPS = st.builds(
    raster, st.integers(150, 900), st.integers(150, 900), st.sampled_from([0.5, 0.9, 1.0, 1.7])
)


@given(MAPS, st.floats(0.9, 50))
def test_every_tile_is_in_one_shard_and_every_pixel_too(map_image: Raster, step_m: float) -> None:
    built = plan(map_image, step_m)
    tiles = [(block.row_slice, block.column_slice) for block in built.blocks]
    assert (covered(tiles, (built.grid.rows, built.grid.columns)) == 1).all()
    assert all(block.rows <= 64 and block.columns <= 64 for block in built.blocks)

    views = [built.overview_block(block) for block in built.blocks]
    pixels = [(view.row_slice, view.column_slice) for view in views]
    assert (covered(pixels, (built.overview.rows, built.overview.columns)) == 1).all()
    assert all(view.size for view in views)


@given(MAPS, st.floats(0.9, 50))
def test_every_tile_lies_on_the_map_by_60_percent(map_image: Raster, step_m: float) -> None:
    grid = plan(map_image, step_m).grid
    west, south, east, north = map_image.bounds_m
    tile_m, one_px = CARD.tile_m, CARD.gsd_m
    reach = 0.1 * tile_m - one_px  # from the edge to the centre of a tile that is 60 % inside
    last_east = grid.east_m + (grid.columns - 1) * grid.step_m
    last_north = grid.north_m - (grid.rows - 1) * grid.step_m
    assert reach <= grid.east_m - west <= reach + 2 * one_px
    assert reach <= north - grid.north_m <= reach + 2 * one_px
    assert reach <= east - last_east <= reach + 2 * one_px + grid.step_m
    assert reach <= last_north - south <= reach + 2 * one_px + grid.step_m


def test_the_step_is_a_tenth_of_a_tile_in_whole_pixels() -> None:
    assert plan(raster(300, 300, 0.9)).step_px == 6
    assert plan(raster(300, 300, 0.9)).grid.step_m == pytest.approx(5.4)


@pytest.mark.parametrize("step_m", [0.0, -3.0, 0.2, 60.0, float("nan")])
def test_a_step_that_is_none_is_refused(step_m: float) -> None:
    with pytest.raises(InputError, match="no tile step"):
        plan(raster(300, 300, 0.9), step_m)


def test_another_tile_width_changes_the_scale() -> None:
    built = plan(raster(300, 300, 0.9), tile_m=64.0)
    assert built.gsd_m == 1.0
    assert built.overview.gsd_m == 1.0


@pytest.mark.parametrize("tile_m", [40.0, 76.0, 0.0, -57.6, float("nan")])
def test_a_tile_the_model_was_not_trained_for_is_refused(tile_m: float) -> None:
    with pytest.raises(InputError, match="was trained for"):
        plan(raster(300, 300, 0.9), tile_m=tile_m)


@pytest.mark.parametrize(("map_gsd_m", "overview_gsd_m"), [(0.2, 0.9), (0.9, 0.9), (1.7, 1.7)])
def test_the_overview_is_as_fine_as_the_model_but_no_finer_than_the_map(
    map_gsd_m: float, overview_gsd_m: float
) -> None:
    assert plan(raster(600, 600, map_gsd_m)).overview.gsd_m == overview_gsd_m


@pytest.mark.parametrize("accuracy_m", [-1.0, math.nan, math.inf, 1000.5])
def test_an_accuracy_that_no_map_has_is_refused(accuracy_m: float) -> None:
    imagery = Imagery(accuracy_m=accuracy_m)
    with pytest.raises(InputError, match=r"0 to 1000 m \(CE90 / 2\.15"):
        plan_from_raster(raster(200, 200, 0.9), CARD, "onnx", imagery, None, None)


def test_a_map_may_be_exact() -> None:
    imagery = Imagery(accuracy_m=0.0)
    planned = plan_from_raster(raster(200, 200, 0.9), CARD, "onnx", imagery, None, None)
    assert planned.imagery.accuracy_m == 0


def test_the_help_divides_a_data_sheets_quantiles_by_those_of_the_normal_distribution() -> None:
    errors = np.random.default_rng(1).normal(size=(400_000, 2))
    for share, divisor in ((90, 2.15), (95, 2.45)):
        assert np.percentile(np.hypot(*errors.T), share) == pytest.approx(divisor, abs=0.01)
        assert f"CE{share} / {divisor}" in ACCURACY_HELP
    assert f"Default: {DEFAULT_ACCURACY_M:g}," in ACCURACY_HELP


def test_a_map_smaller_than_a_tile_is_refused() -> None:
    with pytest.raises(RasterError, match="smaller than one tile"):
        plan(raster(63, 300, 0.9))


def test_a_map_too_coarse_for_the_model_is_refused() -> None:
    with pytest.raises(RasterError, match=r"needs about 0\.9 m"):
        plan(raster(300, 300, 8.0))


def test_a_wide_step_makes_smaller_shards_not_huge_pictures() -> None:
    built = plan(raster(9000, 200, 0.9), step_m=57.6)
    widest = max((block.columns - 1) * built.step_px + built.input_px for block in built.blocks)
    assert widest <= 4096
