import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfix.runtime.fuse.align import Pose as Fit
from skyfix.runtime.fuse.align import aligned
from skyfix.runtime.fuse.structure import structured
from skyfix.runtime.fuse.sweep import correlate
from skyfix.runtime.fuse.template import Cuts
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Pose, center_from_pose, render, tilted
from skyfix.runtime.types import Reason, Telemetry

from .conftest import CAMERA, HEIGHT_M, TILE_M, Land


@pytest.mark.parametrize(("height_px", "enough"), [(44, False), (90, True)])
def test_a_strip_too_thin_for_gradients_is_no_template(height_px: int, enough: bool) -> None:
    matrix = np.array([[110.0, 0, 79.5], [0, 110.0, (height_px - 1) / 2], [0, 0, 1]])
    camera = Camera(160, height_px, matrix, np.zeros(0))
    rough = np.random.default_rng(0).integers(0, 255, (height_px, 160, 3), dtype=np.uint8)
    ground = ground_from_frame(rough, camera, Telemetry(0, 0.0, -90.0, 0.0, 70.0), 2.0)
    assert isinstance(ground, Ground)
    shown = structured(ground.grey(), 98.0)
    cut = shown.cut(14, 7.0)
    assert not isinstance(cut, Reason)  # enough of the patch is seen to look for it by descriptors
    assert (Cuts(shown, 14, 7.0).at(0.0, 0.0) is not None) == enough


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(-180, 180), turn=st.floats(-180, 180), tilt=st.floats(0, 20),
    scale=st.floats(0.8, 1.25),
)  # fmt: skip
def test_outlines_are_cut_in_the_maps_axes_whatever_the_frames(
    land: Land, yaw: float, turn: float, tilt: float, scale: float
) -> None:
    """Frames of a turned and tilted camera, laid out by telemetry that is as wrong as is known."""
    pose = tilted(Pose(0, 20.0, -30.0, HEIGHT_M * scale, yaw + turn), tilt, 0.0)
    frame = np.ascontiguousarray(render(land.raster, CAMERA, pose)[..., ::-1])
    told = Telemetry(0, yaw, tilt - 90.0, 0.0, HEIGHT_M)
    ground = ground_from_frame(frame, CAMERA, told, 0.8)
    assert isinstance(ground, Ground)
    shown = structured(ground.grey(), TILE_M).coarser(2.0)
    template = Cuts(shown, 24, 2.0).at(turn, math.log(scale))
    assert template is not None
    window = land.structured(2).around(*center_from_pose(CAMERA, pose), 28)
    assert correlate(window.levels[None], [template]).max() > 0.85


def waves(seed: int, across_px: float, along_px: float) -> Land:
    """Crests that all run one way, and are nowhere the same."""
    rough = np.random.default_rng(seed).standard_normal((600, 600)).astype(np.float32)
    swell = cv2.GaussianBlur(rough, (0, 0), across_px, sigmaY=along_px)
    grey = (127 + 40 * swell / swell.std()).clip(1, 255).astype(np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    return Land(Raster(image, np.ones((600, 600), bool), LocalFrame(45.0, 9.0), -300.0, 300.0, 1.0))


def test_crests_fit_no_other_crests_that_run_the_same_way() -> None:
    sea, field = waves(1, 12.0, 2.0), waves(2, 12.0, 2.0)
    template = Cuts(sea.shown(20.0, -30.0).coarser(4.0), 24, 4.0).at(0.0, 0.0)
    assert template is not None
    windows = [over.structured(4).around(20.0, -30.0, 60) for over in (sea, field)]
    at_home, elsewhere = (correlate(seen.levels[None], [template]).max() for seen in windows)
    assert at_home > 0.35  # what runs one way on the map still weighs in a sweep
    assert elsewhere < 0.2
    at_home, elsewhere = (
        aligned(seen, template, Fit(20.0, -30.0, 0.0, 0.0), 6).correlation for seen in windows
    )
    assert at_home > 0.65
    assert elsewhere < 0.2


def test_what_is_cut_has_no_mean_where_it_is_valid(land: Land) -> None:
    ground = land.shown(20.0, -30.0).coarser(4.0)
    template = Cuts(ground, 24, 4.0).at(45.0, -0.2)
    assert template is not None
    assert 0 < template.mask.sum() < template.mask.size
    assert not template.levels[template.mask == 0].any()
    assert np.abs(template.levels.sum(axis=(0, 1)) / template.mask.sum()).max() < 1e-3
