import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.structure import NONE
from skyfix.runtime.fuse.sweep import AT_ONCE_BYTES, correlate
from skyfix.runtime.fuse.template import Cuts, Template

from .conftest import Land, picture


def levels_of(seed: int, size: int, gain: float = 0.4) -> np.ndarray:
    """Structure without a meaning, (size, size, 3) around zero."""
    pictures = [picture(10 * seed + channel, size, 2.0) for channel in range(3)]
    signed = gain * (np.stack(pictures, axis=-1).astype(np.float64) - 127)
    return np.asarray(np.rint(signed), np.int8)


def template_of(crop: np.ndarray, mask: np.ndarray) -> Template:
    seen = mask.astype(np.float32)
    levels = crop.astype(np.float32) * seen[..., None]
    return Template(levels, seen, 1.0, 0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(0, 20), column=st.integers(0, 20), hole=st.floats(0, 0.6),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_a_crop_is_found_where_it_was_cut(row: int, column: int, hole: float, seed: int) -> None:
    ground = levels_of(seed, 84)
    mask = np.ones((64, 64), bool)
    mask[: int(hole * 64)] = False
    template = template_of(ground[row : row + 64, column : column + 64], mask)
    ncc = correlate(ground[None], [template])[0, 0]
    assert divmod(int(ncc.argmax()), ncc.shape[1]) == (row, column)
    assert ncc.max() == pytest.approx(1.0, abs=1e-3)


def test_correlation_is_the_cosine_of_what_lies_under_each_mask() -> None:
    ground = levels_of(1, 40)
    rng = np.random.default_rng(0)
    masks = [rng.random((24, 24)) > share for share in (0.0, 0.3, 0.7)]
    templates = [template_of(levels_of(2, 24), mask) for mask in masks]
    (ncc,) = correlate(ground[None], templates)
    assert ncc.shape == (3, 17, 17)
    for which, mask in enumerate(masks):
        for row, column in ((0, 0), (7, 3), (16, 16)):
            window = ground[row : row + 24, column : column + 24][mask].astype(float).ravel()
            sought = templates[which].levels[mask].astype(float).ravel()
            cosine = window @ sought / np.linalg.norm(window) / np.linalg.norm(sought)
            assert ncc[which, row, column] == pytest.approx(cosine, abs=3e-3)


def test_more_windows_than_go_at_once_give_what_each_alone_gives_in_their_order() -> None:
    count = 2 * (AT_ONCE_BYTES // (7 * 7 * 24 * 24 * 3)) + 3
    gains = np.random.default_rng(4).uniform(0.1, 0.6, count)
    windows = np.stack([levels_of(seed, 30, gain) for seed, gain in enumerate(gains, start=20)])
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
        assert found == pytest.approx(alone, abs=1e-6)
    assert [int(best) for best in ncc.max(axis=(2, 3)).argmax(axis=0)] == [0, count - 1]
    assert (ncc[0, 0, 2, 3], ncc[-1, 1, 2, 3]) == pytest.approx((1.0, 1.0), abs=1e-3)


def test_how_strong_structure_is_does_not_matter() -> None:
    ground = levels_of(3, 60)
    template = template_of(ground[4:44, 8:48] * 0.4, np.ones((40, 40), bool))
    ncc = correlate(ground[None], [template])[0, 0]
    assert divmod(int(ncc.argmax()), ncc.shape[1]) == (4, 8)
    assert ncc.max() == pytest.approx(1.0, abs=5e-3)


def test_what_lies_beside_faint_ground_changes_no_correlation_of_it() -> None:
    faint = np.rint(levels_of(3, 40) * 0.2).astype(np.int8)  # about seven levels
    template = template_of(faint[4:28, 8:32], np.ones((24, 24), bool))
    strong = faint.copy()
    strong[0, 0] = -128
    (alone,) = correlate(faint[None], [template])
    beside = correlate(np.stack([faint, strong]), [template])
    assert beside[0] == pytest.approx(alone, abs=1e-6)
    assert beside.max() == pytest.approx(1.0, abs=3e-2)
    assert beside[1, 0, 4, 8] == pytest.approx(alone[0, 4, 8], abs=1e-6)  # it holds none of that


def test_a_map_without_structure_correlates_with_nothing() -> None:
    template = template_of(levels_of(3, 24), np.ones((24, 24), bool))
    assert np.abs(correlate(np.zeros((1, 40, 40, 3), np.int8), [template])).max() == 0


def test_what_is_fainter_than_noise_correlates_the_less_the_fainter_it_is() -> None:
    full = np.ones((24, 24), bool)
    ground = levels_of(3, 24)
    faint = np.rint(ground * 0.06).astype(np.int8)  # about two levels
    ncc = correlate(faint[None], [template_of(ground, full)])[0, 0, 0, 0]
    assert 0.1 < ncc < 0.6


def test_among_headings_the_true_one_correlates_best(land: Land) -> None:
    ground = land.shown(20.0, -30.0, turn_deg=25.0).coarser(4.0)
    turns = (-25.0, 0.0, 10.0, 25.0, 40.0)
    templates = Cuts(ground, 24, 4.0).of([(turn, 0.0) for turn in turns])
    window = land.structured(4).around(20.0, -30.0, 30)
    (ncc,) = correlate(window.levels[None], [template for template in templates if template])
    assert turns[int(ncc.max(axis=(1, 2)).argmax())] == 25.0


def test_flat_ground_gives_no_template(land: Land) -> None:
    ground = land.shown(0.0, 0.0)
    ground.small[:] = NONE
    assert Cuts(ground, 24, 4.0).at(0.0, 0.0) is None


def test_templates_that_share_a_mask_correlate_as_each_does_alone() -> None:
    window = levels_of(6, 40)[None]
    half = np.ones((24, 24), bool)
    half[:, 12:] = False
    masks = (half, np.ones((24, 24), bool), half, half[::-1].T, half)
    templates = [template_of(levels_of(seed, 24), mask) for seed, mask in enumerate(masks, start=7)]
    together = correlate(window, templates)[0]
    for template, ncc in zip(templates, together, strict=True):
        assert ncc == pytest.approx(correlate(window, [template])[0, 0], abs=1e-5)
