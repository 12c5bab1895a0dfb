"""The sums of one product, against the formula over pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.fuse.gauss_newton import (
    DAMPING,
    MAX_STEP_PX,
    MIN_CORRELATION,
    Jacobian,
    compared,
    jacobian_of,
)
from skyfix.runtime.fuse.template import Template

SIDE = 17
RIM_PX = (SIDE - 1) / 2

Array = NDArray[np.float64]


def smooth(seed: int) -> Array:
    """A picture of a few waves."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE].astype(np.float64) - RIM_PX
    waves: Array = np.zeros((SIDE, SIDE, 3))
    for channel in range(3):
        for along, across, phase in rng.uniform((-0.5, -0.5, 0), (0.5, 0.5, 6), (6, 3)):
            waves[..., channel] += 20 * np.sin(along * column + across * row + phase)
    return waves


def template_of(levels: Array, mask: Array) -> Template:
    seen = mask[..., None]
    mean = (levels * seen).sum(axis=(0, 1)) / seen.sum()
    within = (levels - mean) * seen
    return Template(within.astype(np.float32), mask.astype(np.float32), 2.0, 0.0, 0.0)


def round_mask() -> Array:
    row, column = np.mgrid[:SIDE, :SIDE] - RIM_PX
    mask: Array = (np.hypot(row, column) < 7.5).astype(np.float64)
    return mask


def by_the_formula(template: Template, picture: Array) -> tuple[float, Array]:
    """Pixel by pixel, in double precision."""
    mask = template.mask
    inner = [
        (i, j)
        for i in range(1, SIDE - 1)
        for j in range(1, SIDE - 1)
        if mask[i - 1 : i + 2, j - 1 : j + 2].all()
    ]
    levels = template.levels.astype(np.float64)
    values = np.array([levels[at] for at in inner])
    values -= values.mean(axis=0)
    size = np.sqrt((values**2).mean())
    values /= size
    seen = np.array([picture[at] for at in inner])
    seen -= seen.mean(axis=0)
    seen /= np.sqrt((seen**2).mean())
    columns = []
    for i, j in inner:
        right = (levels[i, j + 1] - levels[i, j - 1]) / 2 / size
        down = (levels[i + 1, j] - levels[i - 1, j]) / 2 / size
        x, y = (j - RIM_PX) / RIM_PX, (i - RIM_PX) / RIM_PX
        columns.append(np.stack([right, down, down * x - right * y, right * x + down * y]))
    change = np.stack(columns).transpose(1, 0, 2).reshape(4, -1)
    normal = change @ change.T
    damped = normal + np.eye(4) * DAMPING * max(np.trace(normal) / 4, 1)
    correlation = (values * seen).mean()
    residual = (seen - correlation * values).ravel()
    gain = max(correlation, MIN_CORRELATION)
    return float(correlation), np.linalg.solve(damped, change @ residual) / gain


def flat(picture: Array) -> NDArray[np.float32]:
    return picture.astype(np.float32).ravel()


@pytest.mark.parametrize("brighter", [0.0, 60.0])
def test_correlation_and_step_are_those_of_the_pixels(brighter: float) -> None:
    """However bright the picture is: no channel's mean counts."""
    template = template_of(smooth(0), round_mask())
    picture = np.roll(smooth(0), (1, 0), axis=(0, 1)) + 0.4 * smooth(9) + [brighter, 0, -brighter]
    correlation, step_px = compared(jacobian_of([template]).of(0), flat(picture))
    expected, expected_px = by_the_formula(template, picture)
    assert 0.2 < expected < 0.95
    assert float(correlation) == pytest.approx(expected, abs=1e-5)
    assert step_px == pytest.approx(np.clip(expected_px, -MAX_STEP_PX, MAX_STEP_PX), abs=1e-4)


def test_many_templates_say_what_each_says_alone() -> None:
    templates = [template_of(smooth(seed), round_mask()) for seed in range(3)]
    pictures = np.stack([flat(smooth(seed)) for seed in (2, 0, 7, 1)])
    which = np.array([2, 0, 0, 1])
    correlation, step_px = compared(jacobian_of(templates).of(which), pictures)
    for k, index in enumerate(which):
        alone, alone_px = compared(jacobian_of([templates[index]]).of(0), pictures[k])
        assert correlation[k] == pytest.approx(float(alone), abs=1e-5)
        assert step_px[k] == pytest.approx(alone_px, abs=1e-4)
    assert correlation[[0, 1, 3]] == pytest.approx(1, abs=1e-3)


def test_what_lies_beside_the_mask_says_nothing() -> None:
    template = template_of(smooth(3), round_mask())
    picture = smooth(4)
    beside = picture.copy()
    beside[round_mask() == 0] = 127
    jacobian = jacobian_of([template]).of(0)
    once, again = compared(jacobian, flat(picture)), compared(jacobian, flat(beside))
    assert float(once[0]) == pytest.approx(float(again[0]), abs=1e-6)
    assert once[1] == pytest.approx(again[1], abs=1e-5)


def test_flows_beyond_the_similarity_have_their_own_steps() -> None:
    """A stretch along one axis, which no similarity explains."""
    template = template_of(smooth(5), np.ones((SIDE, SIDE)))
    jacobian: Jacobian = jacobian_of([template], lambda x, _y: [(x, np.zeros_like(x))]).of(0)
    column = np.arange(SIDE) - RIM_PX
    stretched = np.zeros((SIDE, SIDE, 3))
    grown = 0.3 / RIM_PX  # 0.3 pixels at the rim
    for channel in range(3):
        stretched[..., channel] = template.levels[..., channel]
        slope = np.gradient(stretched[..., channel], axis=1)
        stretched[..., channel] += slope * column * grown
    _, step_px = compared(jacobian, flat(stretched))
    assert step_px[4] == pytest.approx(0.3, abs=0.05)
    assert np.abs(step_px[:4]).max() < 0.05


def test_a_picture_of_one_level_fits_nothing_and_moves_nothing() -> None:
    jacobian = jacobian_of([template_of(smooth(6), round_mask())]).of(0)
    correlation, step_px = compared(jacobian, np.full(SIDE * SIDE * 3, 40, np.float32))
    assert abs(float(correlation)) < 1e-3
    assert np.abs(step_px).max() < 0.01


def test_no_step_is_longer_than_is_believed() -> None:
    template = template_of(smooth(0), round_mask())
    picture = np.roll(smooth(0), -3, axis=1)
    _, expected_px = by_the_formula(template, picture)
    _, step_px = compared(jacobian_of([template]).of(0), flat(picture))
    assert np.abs(expected_px).max() > MAX_STEP_PX
    assert np.abs(step_px).max() == MAX_STEP_PX


def test_a_template_without_inner_pixels_stays_where_it_is() -> None:
    mask = np.zeros((SIDE, SIDE))
    mask[8] = 1  # a line has no neighbours across
    jacobian = jacobian_of([template_of(smooth(6), mask)]).of(0)
    correlation, step_px = compared(jacobian, flat(smooth(6)))
    assert float(correlation) == 0
    assert not step_px.any()
