import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.align import Alignment, Pose, aligned, composed
from skyfix.runtime.fuse.template import Cuts, Template

from .conftest import Land

PLACE = (30.0, -45.0)


def fitted(land: Land, turn_deg: float, scale: float, start: Pose, noise: float = 0.0) -> Alignment:
    ground = land.shown(*PLACE, turn_deg, scale).coarser(2.0)
    template = Cuts(ground, 48, 2.0).at(start.turn_deg, start.log_scale)
    assert template is not None
    window = land.structured(2).around(start.east_m, start.north_m, 72)
    rough = np.random.default_rng(0).normal(0, noise, window.levels.shape)
    window.levels[:] = (window.levels + rough).clip(-127, 127)
    return aligned(window, template, start, 12)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.floats(-5, 5), log_scale=st.floats(-0.06, 0.06),
    east=st.floats(-4, 4), north=st.floats(-4, 4),
)  # fmt: skip
def test_place_heading_and_height_are_found_from_a_start_nearby(
    land: Land, turn: float, log_scale: float, east: float, north: float
) -> None:
    start = Pose(PLACE[0] + east, PLACE[1] + north, 0.0, 0.0)
    found = fitted(land, turn, float(np.exp(log_scale)), start)
    assert (found.pose.east_m, found.pose.north_m) == pytest.approx(PLACE, abs=0.4)
    assert found.pose.turn_deg == pytest.approx(turn, abs=0.4)
    assert found.pose.log_scale == pytest.approx(log_scale, abs=0.01)
    assert found.correlation > 0.97


def test_no_iterations_measure_the_start(land: Land) -> None:
    ground = land.shown(*PLACE).coarser(2.0)
    template = Cuts(ground, 48, 2.0).at(0.0, 0.0)
    assert template is not None
    window = land.structured(2).around(*PLACE, 72)
    start = Pose(PLACE[0] + 3, PLACE[1], 0.0, 0.0)
    found = aligned(window, template, start, 0)
    assert found.pose.east_m == pytest.approx(start.east_m)
    assert found.correlation < aligned(window, template, start, 8).correlation


def test_noise_lowers_the_correlation_and_widens_the_covariance(land: Land) -> None:
    start = Pose(*PLACE, 0.0, 0.0)
    clear, noisy = (fitted(land, 0.0, 1.0, start, noise) for noise in (0.0, 60.0))
    assert noisy.correlation < clear.correlation
    assert np.trace(noisy.cov[:2, :2]) > 2 * np.trace(clear.cov[:2, :2])


def test_the_ellipse_lies_along_a_road(land: Land) -> None:
    east = np.arange(600.0) - 300
    across = np.broadcast_to(60 + 120 * np.exp(-(((east - 30) / 6) ** 2)), (600, 600))
    image = np.repeat(across[..., None], 3, axis=2).astype(np.uint8)
    road = Land(type(land.raster)(image, land.raster.valid, land.raster.frame, -300.0, 300.0, 1.0))
    found = fitted(road, 0.0, 1.0, Pose(*PLACE, 0.0, 0.0))
    assert found.cov[1, 1] > 9 * found.cov[0, 0]


def test_a_heading_beyond_the_start_by_a_template_of_another_turn_adds_up(land: Land) -> None:
    found = fitted(land, 63.0, 1.1, Pose(*PLACE, 60.0, 0.12))
    assert found.pose.turn_deg == pytest.approx(63.0, abs=0.4)
    assert np.exp(found.pose.log_scale) == pytest.approx(1.1, abs=0.012)


def test_structure_in_a_corner_alone_says_nothing_about_the_place(land: Land) -> None:
    levels = np.zeros((48, 48, 3), np.float32)
    levels[0, 0] = 127
    everywhere = np.ones((48, 48), np.float32)
    template = Template(levels, everywhere, 2.0, 0.0, 0.0)
    window = land.structured(2).around(*PLACE, 72)
    found = aligned(window, template, Pose(*PLACE, 0.0, 0.0), 6)
    assert np.isfinite(found.cov).all()
    assert found.cov[0, 0] > 100.0**2


@given(
    turn=st.floats(-180, 180), scale=st.floats(0.5, 2.0),
    offset=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    step=st.tuples(*[st.floats(-2, 2)] * 4), rim=st.floats(8, 60),
)  # fmt: skip
def test_what_a_step_moves_a_pixel_by_is_taken_back_from_where_it_is_sought(
    turn: float, scale: float, offset: tuple[float, float], step: tuple[float, ...], rim: float
) -> None:
    """W' (W(d) p) = W p, pixel by pixel."""
    cos, sin = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    linear = np.array([[cos, -sin], [sin, cos]])
    after, after_px = composed(linear, np.array(offset), np.array(step), rim)
    right, down, turned, grown = step
    for x, y in ((0.0, 0.0), (rim, 0.0), (-7.0, 5.0)):
        moved = np.array([
            x + right + (grown * x - turned * y) / rim, y + down + (turned * x + grown * y) / rim,
        ])  # fmt: skip
        assert after @ moved + after_px == pytest.approx(linear @ (x, y) + offset, abs=1e-6)
