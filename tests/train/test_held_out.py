from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.errors import RasterError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train.config import ViewConfig
from skyfix.train.held_out import (
    MAX_TILES,
    Exam,
    cropped,
    draw_block,
    draw_exam,
    gain_in_deviations,
    without,
)
from skyfix.train.models.network import Encoded, Network

VIEW = ViewConfig(input_px=16, gsd_m=2.0)  # tiles of 32 m
HERE = LocalFrame(0.0, 0.0)
CPU = torch.device("cpu")


class Pixels(Network):
    """A network that describes a picture by its pixels: what it finds is known beforehand."""

    def encode(self, view: str, images: torch.Tensor) -> Encoded:  # noqa: ARG002  one branch
        return Encoded(torch.nn.functional.normalize(images.flatten(1), dim=1))


def noise_map(width_m: float, height_m: float) -> Raster:
    """White noise at the patches' scale: no two places are alike."""
    shape = (int(height_m / 2), int(width_m / 2))
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return Raster(image, np.ones(shape, bool), HERE, 500.0, 900.0, 2.0)


@given(
    width=st.integers(50, 400), height=st.integers(50, 400), seed=st.integers(0, 1000)
)  # in pixels
def test_a_block_lies_on_the_map_and_leaves_three_quarters(
    width: int, height: int, seed: int
) -> None:
    ground = noise_map(2.0 * width, 2.0 * height)
    block = draw_block(ground, VIEW, np.random.default_rng(seed))
    west, south, east, north = ground.bounds_m
    assert west <= block[0] < block[2] <= east
    assert south <= block[1] < block[3] <= north
    assert max(block[2] - block[0], block[3] - block[1]) <= 160.001  # five tiles, however large
    kept = without(ground, block).valid
    assert kept.mean() > 0.7
    assert (~kept).sum() == cropped(ground, block).valid.size


def test_what_is_cut_out_is_the_block_pixel_for_pixel() -> None:
    ground = noise_map(200.0, 120.0)
    block = (540.0, 800.0, 600.0, 860.0)
    part = cropped(ground, block)
    assert part.bounds_m == block
    assert np.array_equal(part.image, ground.image[20:50, 20:50])
    hole = np.flatnonzero(~without(ground, block).valid.any(axis=1))
    assert hole.size == 0  # other columns keep these rows
    assert (~without(ground, block).valid)[20:50, 20:50].all()
    assert (~without(ground, block).valid).sum() == 900


def test_the_fullest_of_the_drawn_places_is_held_out() -> None:
    ground = noise_map(400.0, 100.0)
    ground.valid[:, : ground.valid.shape[1] // 2] = False  # nothing in the west
    block = draw_block(ground, VIEW, np.random.default_rng(1))
    assert cropped(ground, block).valid.mean() > 0.8


def test_a_map_of_two_tiles_is_too_small() -> None:
    with pytest.raises(RasterError, match="Take 96 m a side or more"):
        draw_block(noise_map(400.0, 80.0), VIEW, np.random.default_rng(0))


@pytest.mark.parametrize(("off_m", "found"), [(7.9, True), (8.1, False)])
def test_a_view_is_found_within_one_step_of_its_tile(off_m: float, found: bool) -> None:
    tiles = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)
    places = np.arange(12.0).reshape(6, 2) * 100
    exam = Exam(tiles[[4]] + 0.1, places[[4]] + (0.0, off_m), tiles, places, step_m=8.0)
    assert exam.found(Pixels({"camera": (16, 16)}), CPU).tolist() == [found]


def test_the_mirror_image_of_a_tile_is_not_found() -> None:
    tiles = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)
    places = np.arange(12.0).reshape(6, 2) * 100
    exam = Exam(-tiles[[4]], places[[4]], tiles, places, step_m=8.0)
    assert exam.found(Pixels({"camera": (16, 16)}), CPU).tolist() == [False]


def test_exact_views_of_a_map_are_found_where_they_were_taken() -> None:
    """No error of heading, height or tilt and no change: pixels suffice, and places must agree."""
    exact = ViewConfig(
        input_px=16, gsd_m=2.0, heading_deg=0, scale=0, tilt_deg=0, camera_appearance=0
    )
    ground = town_and_country(3, 300.0, 260.0, 1.0, HERE)
    rng = np.random.default_rng(0)
    block = draw_block(ground, exact, rng)
    exam = draw_exam(ground, ground, block, exact, rng, views=40)
    found = exam.found(Pixels({"camera": (16, 16)}), CPU)
    assert found.mean() > 0.6  # a view lies up to half a step from its tile, and pixels see that
    moved = replace(ground, west_m=ground.west_m + 100.0)  # the fault: a map 100 m off
    wrong = draw_exam(moved, ground, block, exact, np.random.default_rng(0), views=40)
    assert wrong.found(Pixels({"camera": (16, 16)}), CPU).mean() < 0.2


def test_a_large_map_is_asked_about_with_few_tiles() -> None:
    ground = noise_map(1600.0, 1200.0)
    rng = np.random.default_rng(0)
    block = draw_block(ground, VIEW, rng)
    exam = draw_exam(ground, ground, block, VIEW, rng, views=10)
    assert len(exam.tiles) == MAX_TILES
    inside = ((exam.tile_en_m > block[:2]) & (exam.tile_en_m < block[2:])).all(axis=1)
    assert inside.sum() == 400  # 160 m by 8 m, each way


def test_a_gain_is_counted_in_deviations_of_the_views_that_changed() -> None:
    before = np.array([True] * 5 + [False] * 15)
    after = np.array([True] * 4 + [False] + [True] * 9 + [False] * 6)  # 9 won, 1 lost
    assert gain_in_deviations(before, after) == pytest.approx(8 / 10**0.5)
    assert gain_in_deviations(after, before) == pytest.approx(-8 / 10**0.5)
    assert gain_in_deviations(before, before) == 0
