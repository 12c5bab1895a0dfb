import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.refine import (
    Template,
    correlate,
    peak_from_correlation,
    template_from_patch,
)
from skyfix.runtime.types import Patch


def ground(seed: int, size: int) -> np.ndarray:
    rough = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.0)
    return np.asarray((127 + 40 * smooth / smooth.std()).clip(1, 255), np.uint8)


def patch_at(picture: np.ndarray, row: int, column: int, size: int, hole: float = 0.0) -> Patch:
    crop = picture[row : row + size, column : column + size]
    valid = np.ones((size, size), bool)
    valid[: int(hole * size)] = False
    image = np.repeat(crop[..., None], 3, axis=2) * valid[..., None]
    return Patch(image.astype(np.uint8), valid, 1.0, (0.0, 0.0))


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(0, 20),
    column=st.integers(0, 20),
    hole=st.floats(0, 0.6),
    seed=st.integers(0, 9),
)
def test_a_crop_is_found_where_it_was_cut(row: int, column: int, hole: float, seed: int) -> None:
    picture = ground(seed, 84)
    template = template_from_patch(patch_at(picture, row, column, 64, hole), 1.0)
    assert template is not None
    peak = peak_from_correlation(correlate(picture.astype(np.float32), template), 1.0)
    assert peak.correlation == pytest.approx(1.0, abs=1e-3)
    assert peak.east_m == pytest.approx(column - 10, abs=0.2)
    assert peak.north_m == pytest.approx(10 - row, abs=0.2)


def test_correlation_equals_numpys_coefficient_under_the_mask() -> None:
    picture = ground(1, 40).astype(np.float32)
    template = template_from_patch(patch_at(ground(2, 40), 3, 5, 24, 0.3), 1.0)
    assert template is not None
    ncc = correlate(picture, template)
    seen = template.mask > 0
    for row, column in ((0, 0), (7, 3), (16, 16)):
        window = picture[row : row + 24, column : column + 24][seen]
        expected = np.corrcoef(window, template.centred[seen])[0, 1]
        assert ncc[row, column] == pytest.approx(expected, abs=1e-4)


def test_brightness_and_contrast_do_not_matter() -> None:
    picture = ground(3, 60)
    dimmed = (picture * 0.4 + 20).astype(np.uint8)
    template = template_from_patch(patch_at(dimmed, 4, 8, 40), 1.0)
    assert template is not None
    ncc = correlate(picture.astype(np.float32), template)
    assert divmod(int(ncc.argmax()), ncc.shape[1]) == (4, 8)
    assert ncc.max() > 0.99


def test_half_a_pixel_is_measured() -> None:
    picture = ground(4, 130).astype(np.float32)
    half = cv2.resize(picture, (65, 65), interpolation=cv2.INTER_AREA)
    # the template starts at full pixel 21, i.e. half pixel 10.5
    crop = cv2.resize(picture[21:101, 20:100], (40, 40), interpolation=cv2.INTER_AREA)
    centred = crop - crop.mean()
    template = Template(centred, np.ones_like(centred), float((centred**2).sum()), 2.0)
    peak = peak_from_correlation(correlate(half.astype(np.float32), template), 2.0)
    centre = (65 - 40) / 2
    assert peak.north_m == pytest.approx((centre - 10.5) * 2.0, abs=0.35)
    assert peak.east_m == pytest.approx((10 - centre) * 2.0, abs=0.35)


@pytest.mark.parametrize("offset_en_px", [(0.3, -0.2), (-0.4, 0.1), (0.45, 0.45)])
@pytest.mark.parametrize("cross", [-0.012, 0.012])
def test_an_offset_on_an_oblique_ridge_is_measured(
    offset_en_px: tuple[float, float], cross: float
) -> None:
    east, north = np.meshgrid(np.arange(9.0) - 4, 4 - np.arange(9.0))
    away = np.stack([east - offset_en_px[0], north - offset_en_px[1]])
    curvature = np.array([[0.02, cross], [cross, 0.015]])
    surface = 0.9 - 0.5 * np.einsum("ihw,ij,jhw->hw", away, curvature, away)
    peak = peak_from_correlation(surface.astype(np.float32), 2.0)
    assert (peak.east_m, peak.north_m) == pytest.approx(np.array(offset_en_px) * 2.0, abs=1e-3)


def test_no_peak_is_measured_further_than_a_pixel_from_its_highest_value() -> None:
    surface = np.full((5, 5), 0.1, np.float32)
    surface[1:4, 1:4] = [[0.53, 0.89, 0.89], [0.7, 0.9, 0.89], [0.88, 0.7, 0.53]]  # a long ridge
    peak = peak_from_correlation(surface, 1.0)
    assert (peak.east_m, peak.north_m) == (1.0, 1.0)


def test_a_flat_patch_has_no_template() -> None:
    flat = np.full((64, 64), 120, np.uint8)
    assert template_from_patch(patch_at(flat, 0, 0, 64), 1.0) is None


def test_a_sharp_peak_has_a_smaller_covariance_than_a_broad_one() -> None:
    picture = ground(5, 84)
    traces = []
    for image in (picture, cv2.GaussianBlur(picture, (0, 0), 6.0)):
        template = template_from_patch(patch_at(image, 10, 10, 64), 1.0)
        assert template is not None
        noisy = image + np.random.default_rng(0).normal(0, 25, image.shape)
        peak = peak_from_correlation(correlate(noisy.astype(np.float32), template), 1.0)
        traces.append(float(np.trace(peak.cov_en_m2)))
    assert traces[0] < traces[1]


@pytest.mark.parametrize("bearing_deg", [0, 30, 90, 150])
def test_the_ellipse_lies_along_a_road(bearing_deg: float) -> None:
    bearing = np.radians(bearing_deg)
    east, north = np.meshgrid(np.arange(90.0) - 45, 45 - np.arange(90.0))
    across = east * np.cos(bearing) - north * np.sin(bearing)
    along = east * np.sin(bearing) + north * np.cos(bearing)
    grey = 60 + 120 * np.exp(-((across / 4) ** 2)) + 8 * np.sin(along / 7)
    picture = np.asarray(grey.clip(1, 255), np.uint8)
    template = template_from_patch(patch_at(picture, 13, 13, 64), 1.0)
    assert template is not None
    peak = peak_from_correlation(correlate(picture.astype(np.float32), template), 1.0)
    values, vectors = np.linalg.eigh(peak.cov_en_m2)
    assert values[1] > 3 * values[0]
    long_east, long_north = vectors[:, 1]
    expected = abs(long_east * np.sin(bearing) + long_north * np.cos(bearing))
    assert expected > 0.97
