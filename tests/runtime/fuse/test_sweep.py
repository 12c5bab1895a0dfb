import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.sweep import WINDOWS_AT_ONCE, correlate
from skyfix.runtime.fuse.template import Template, template_from_ground

from .conftest import Land, picture


def template_of(crop: np.ndarray, mask: np.ndarray) -> Template:
    grey, seen = crop.astype(np.float32), mask.astype(np.float32)
    centred = ((grey - grey[mask].mean()) * seen).astype(np.float32)
    return Template(centred, seen, float((centred**2).sum()), 1.0, 0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(0, 20), column=st.integers(0, 20), hole=st.floats(0, 0.6),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_a_crop_is_found_where_it_was_cut(row: int, column: int, hole: float, seed: int) -> None:
    ground = picture(seed, 84, 2.0)
    mask = np.ones((64, 64), bool)
    mask[: int(hole * 64)] = False
    template = template_of(ground[row : row + 64, column : column + 64], mask)
    ncc = correlate(ground.astype(np.float32)[None], [template])[0, 0]
    assert divmod(int(ncc.argmax()), ncc.shape[1]) == (row, column)
    assert ncc.max() == pytest.approx(1.0, abs=1e-3)


def test_correlation_equals_numpys_coefficient_under_each_mask() -> None:
    ground = picture(1, 40, 2.0).astype(np.float32)
    rng = np.random.default_rng(0)
    masks = [rng.random((24, 24)) > share for share in (0.0, 0.3, 0.7)]
    templates = [template_of(picture(2, 24, 2.0), mask) for mask in masks]
    (ncc,) = correlate(ground[None], templates)
    assert ncc.shape == (3, 17, 17)
    for which, mask in enumerate(masks):
        for row, column in ((0, 0), (7, 3), (16, 16)):
            window = ground[row : row + 24, column : column + 24][mask]
            expected = np.corrcoef(window, templates[which].centred[mask])[0, 1]
            assert ncc[which, row, column] == pytest.approx(expected, abs=1e-4)


def test_more_windows_than_go_at_once_give_what_each_alone_gives_in_their_order() -> None:
    count = 2 * WINDOWS_AT_ONCE + 3
    levels = np.random.default_rng(4).uniform(0.2, 1.4, (2, count))
    windows = np.stack([
        picture(seed, 30, 2.0) * gain + 60 * lift
        for seed, (gain, lift) in enumerate(levels.T, start=20)
    ]).astype(np.float32)  # fmt: skip
    half = np.ones((24, 24), bool)
    half[:, 12:] = False
    templates = [
        template_of(windows[number, 2:26, 3:27], mask)
        for number, mask in ((0, half), (count - 1, np.ones((24, 24), bool)))
    ]
    ncc = correlate(windows, templates)
    assert ncc.shape == (count, 2, 7, 7)
    for window, found in zip(windows, ncc, strict=True):
        (alone,) = correlate(window[None], templates)
        assert found == pytest.approx(alone, abs=1e-5)
    assert [int(best) for best in ncc.max(axis=(2, 3)).argmax(axis=0)] == [0, count - 1]
    assert (ncc[0, 0, 2, 3], ncc[-1, 1, 2, 3]) == pytest.approx((1.0, 1.0), abs=1e-3)


def test_brightness_and_contrast_do_not_matter() -> None:
    ground = picture(3, 60, 2.0)
    template = template_of(ground[4:44, 8:48] * 0.4 + 20, np.ones((40, 40), bool))
    ncc = correlate(ground.astype(np.float32)[None], [template])[0, 0]
    assert divmod(int(ncc.argmax()), ncc.shape[1]) == (4, 8)


def test_flat_map_correlates_with_nothing() -> None:
    template = template_of(picture(3, 24, 2.0), np.ones((24, 24), bool))
    assert np.abs(correlate(np.full((1, 40, 40), 90, np.float32), [template])).max() < 1e-3


def test_among_headings_the_true_one_correlates_best(land: Land) -> None:
    ground = land.seen(20.0, -30.0, turn_deg=25.0).coarser(4.0)
    turns = (-25.0, 0.0, 10.0, 25.0, 40.0)
    templates = [template_from_ground(ground, 24, 4.0, turn) for turn in turns]
    window = land.chart.averaged(4).around(20.0, -30.0, 30)
    (ncc,) = correlate(window.grey[None], [template for template in templates if template])
    assert turns[int(ncc.max(axis=(1, 2)).argmax())] == 25.0


def test_flat_ground_gives_no_template(land: Land) -> None:
    ground = land.seen(0.0, 0.0)
    ground.small[:] = 120
    assert template_from_ground(ground, 24, 4.0) is None


def test_templates_that_share_a_mask_correlate_as_each_does_alone() -> None:
    window = picture(6, 40, 2.0).astype(np.float32)[None]
    half = np.ones((24, 24), bool)
    half[:, 12:] = False
    masks = (half, np.ones((24, 24), bool), half, half[::-1].T, half)
    templates = [
        template_of(picture(seed, 24, 2.0), mask) for seed, mask in enumerate(masks, start=7)
    ]
    together = correlate(window, templates)[0]
    for template, ncc in zip(templates, together, strict=True):
        assert ncc == pytest.approx(correlate(window, [template])[0, 0], abs=1e-5)
