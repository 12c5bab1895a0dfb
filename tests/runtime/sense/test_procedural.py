import time

import cv2
import numpy as np
import pytest

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.procedural_style import STYLES

ORIGIN = LocalFrame(47.0, 8.0)


@pytest.fixture(scope="module")
def landscapes() -> list[Raster]:
    """One of each style, 360 x 300 m at 0.6 m/px."""
    return [town_and_country(seed, 360, 300, 0.6, ORIGIN) for seed in range(len(STYLES))]


def test_the_picture_has_the_asked_size_and_lies_around_the_origin(
    landscapes: list[Raster],
) -> None:
    raster = landscapes[0]
    assert raster.image.shape == (500, 600, 3)
    assert raster.valid.all()
    assert raster.bounds_m == pytest.approx((-180, -150, 180, 150))
    assert raster.frame == ORIGIN


def test_a_seed_is_a_picture() -> None:
    first, again, other = (town_and_country(seed, 120, 90, 0.6, ORIGIN) for seed in (4, 4, 8))
    np.testing.assert_array_equal(first.image, again.image)
    assert np.abs(first.image.astype(int) - other.image).mean() > 10


def test_the_plan_is_the_same_at_another_scale() -> None:
    fine, coarse = (town_and_country(0, 480, 480, gsd_m, ORIGIN) for gsd_m in (0.5, 1.5))
    reduced = cv2.resize(fine.image, (320, 320), interpolation=cv2.INTER_AREA)
    smooth = [cv2.GaussianBlur(image, (0, 0), 3).ravel() for image in (reduced, coarse.image)]
    assert np.corrcoef(np.stack(smooth)).min() > 0.7


def test_styles_differ_in_colour(landscapes: list[Raster]) -> None:
    means = np.array([raster.image.mean(axis=(0, 1)) for raster in landscapes])
    for i in range(len(means)):
        for j in range(i):
            assert np.linalg.norm(means[i] - means[j]) > 8


def test_nothing_is_over_exposed_or_black(landscapes: list[Raster]) -> None:
    for raster in landscapes:
        assert 60 < raster.image.mean() < 190
        assert (raster.image == 255).mean() < 0.02
        assert (raster.image == 0).mean() < 0.02


def test_every_patch_of_40_metres_has_texture(landscapes: list[Raster]) -> None:
    for raster in landscapes:
        grey = cv2.cvtColor(raster.image, cv2.COLOR_RGB2GRAY).astype(float)
        blocks = grey[:462, :594].reshape(7, 66, 9, 66).transpose(0, 2, 1, 3)
        assert blocks.std(axis=(2, 3)).min() > 2.0


@pytest.mark.parametrize("seed", range(len(STYLES)))
def test_no_place_looks_like_another(seed: int) -> None:
    raster = town_and_country(seed, 600, 600, 1.0, ORIGIN)
    grey = cv2.cvtColor(raster.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    for row, column in ((40, 60), (250, 330), (480, 450)):
        tile = grey[row : row + 64, column : column + 64]
        ncc = cv2.matchTemplate(grey, tile, cv2.TM_CCOEFF_NORMED)
        assert ncc[row, column] == pytest.approx(1, abs=1e-3)
        ncc[max(0, row - 12) : row + 13, max(0, column - 12) : column + 13] = -1
        assert ncc.max() < 0.8


def test_a_strip_too_narrow_for_anything_is_still_drawn() -> None:
    assert town_and_country(1, 8, 6, 0.5, ORIGIN).image.shape == (12, 16, 3)


def megapixel_s() -> float:
    begin = time.process_time()
    town_and_country(2, 600, 600, 0.6, ORIGIN)
    return time.process_time() - begin


def test_a_picture_of_a_megapixel_takes_seconds() -> None:
    # about 0.9 s of one core; tried again on a starved machine, which counts what others took
    assert any(megapixel_s() < 5 for _ in range(5))
