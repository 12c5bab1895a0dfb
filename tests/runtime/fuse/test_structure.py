"""Structure: what it keeps of a picture, and what of light, crops and noise it leaves out."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.chart import STRUCTURED_PX
from skyfix.runtime.fuse.structure import (
    CONTRAST_GAIN,
    CONTRAST_LIMIT,
    LEVELS,
    NONE,
    neighbourhood_px,
    outline_px,
    structure,
    structured,
)
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

from .conftest import Land, picture

TILE_PX = 80.0


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel().astype(float), second.ravel().astype(float))[0, 1])


def fields(years: int) -> list[np.ndarray]:
    """The same fields in several years: other crops, so other greys within the same borders."""
    rng = np.random.default_rng(4)
    which = np.kron(rng.permutation(100).reshape(10, 10), np.ones((24, 24), np.intp))
    texture = rng.normal(0, 3, which.shape)
    return [
        cv2.GaussianBlur((rng.uniform(60, 200, 100)[which] + texture).astype(np.float32), (0, 0), 1)
        .clip(0, 255).astype(np.uint8)
        for _ in range(years)
    ]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(0.5, 1.4), bias=st.floats(-20, 60))
def test_another_exposure_leaves_it_as_it_is(gain: float, bias: float) -> None:
    grey = (picture(1, 300, 4.0).astype(np.float64) * 0.6 + 20).astype(np.uint8)
    exposed = np.rint(gain * grey + bias).clip(0, 255).astype(np.uint8)
    assert similarity(structure(grey, TILE_PX), structure(exposed, TILE_PX)) > 0.97


def test_fields_of_another_year_look_alike_by_their_borders() -> None:
    before, after = fields(2)
    assert abs(similarity(before, after)) < 0.2
    assert similarity(structure(before, TILE_PX), structure(after, TILE_PX)) > 0.4


def test_ground_without_anything_on_it_is_flat() -> None:
    assert np.ptp(structure(np.full((200, 200), 130, np.uint8), TILE_PX)) == 0


def test_noise_below_the_floors_stays_faint_beside_ground() -> None:
    noise = np.rint(130 + np.random.default_rng(0).normal(0, 1, (300, 300))).astype(np.uint8)
    faint, ground = (
        float(cv2.resize(structure(grey, TILE_PX), (75, 75), interpolation=cv2.INTER_AREA).std())
        for grey in (noise, picture(1, 300, 4.0))
    )
    assert faint < ground / 4


def test_a_picture_of_half_the_scale_has_the_same_structure() -> None:
    fine = picture(3, 480, 8.0)
    coarse = cv2.resize(fine, (240, 240), interpolation=cv2.INTER_AREA).astype(np.uint8)
    expected = cv2.resize(structure(fine, TILE_PX), (240, 240), interpolation=cv2.INTER_AREA)
    assert similarity(structure(coarse, TILE_PX / 2), expected) > 0.95


@pytest.mark.parametrize("tile_px", [2.0, 20.0, 80.0, 128.0])
def test_a_neighbourhood_is_odd(tile_px: float) -> None:
    assert neighbourhood_px(tile_px) % 2 == 1
    assert neighbourhood_px(tile_px) == pytest.approx(0.44 * tile_px, abs=2.0)


def test_a_chart_made_in_blocks_is_as_one_piece(land: Land) -> None:
    chart = land.chart.structured(TILE_PX)
    pixels, valid = land.chart.read(-300.0, 300.0, (600, 600))
    whole = structure(pixels, TILE_PX)
    corner = (-300.0 + STRUCTURED_PX - 60, 300.0 - STRUCTURED_PX + 50)  # over four blocks
    found, there = chart.read(*corner, (120, 120))
    rows = slice(STRUCTURED_PX - 50, STRUCTURED_PX + 70)
    columns = slice(STRUCTURED_PX - 60, STRUCTURED_PX + 60)
    assert valid.all()
    assert there.all()
    assert np.abs(found.astype(int) - whole[rows, columns]).max() <= 1


def test_beside_what_is_no_map_the_ground_keeps_its_structure_and_has_no_border() -> None:
    """A map that is cut from a larger one, which knows what lies beyond."""
    larger = np.repeat(picture(3, 400, 6.0)[..., None], 3, axis=2)
    valid = np.zeros((400, 400), bool)
    valid[50:, 100:] = True
    valid[300:340, 250:300] = False
    raster = Raster(larger, valid, LocalFrame(45.0, 9.0), 0.0, 0.0, 1.0)
    found, shown = Land(raster).chart.structured(TILE_PX).read(0.0, 0.0, (400, 400))
    known = structure(larger[..., 0], TILE_PX)
    reach = outline_px(TILE_PX)
    inside = np.zeros((400, 400), bool)
    inside[50 + reach : 400 - reach, 100 + reach : 400 - reach] = True
    inside[300 - reach : 340 + reach, 250 - reach : 300 + reach] = False
    assert np.array_equal(shown, inside)
    beside = inside.copy()
    beside[50 + 2 * reach : 400 - 2 * reach, 100 + 2 * reach : 400 - 2 * reach] = False
    assert similarity(found[beside], known[beside]) > 0.9


def test_a_glint_is_no_more_than_the_limit() -> None:
    grey = np.full((200, 200), 90, np.uint8)
    grey[100, 100] = 255
    contrast = structure(grey, TILE_PX)[..., 2].astype(int) - NONE
    assert contrast.max() == pytest.approx(LEVELS * CONTRAST_GAIN * CONTRAST_LIMIT, abs=1)


def test_noise_of_single_pixels_hides_no_outline_of_a_fine_picture() -> None:
    grey = picture(3, 480, 16.0)
    noise = np.random.default_rng(0).normal(0, 8, grey.shape)
    noisy = np.rint(grey + noise).clip(0, 255).astype(np.uint8)
    clean, seen = (structure(each, 4 * TILE_PX)[..., :2] for each in (grey, noisy))
    assert similarity(clean, seen) > 0.8


def test_a_frame_on_the_ground_is_the_structure_of_its_picture(land: Land) -> None:
    ground = land.seen(10.0, -20.0)
    found = structured(ground, 96.0)
    px_m = ground.view.gsd_m * ground.pixel_from_small[0, 0]
    assert np.array_equal(found.small, structure(ground.small, 96.0 / px_m))
    assert np.array_equal(found.pixel_from_small, ground.pixel_from_small)
