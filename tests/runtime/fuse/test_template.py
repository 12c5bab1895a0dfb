import numpy as np
import pytest

from skyfix.runtime.fuse.template import template_from_ground
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.types import Reason, Telemetry


@pytest.mark.parametrize(("height_px", "enough"), [(44, False), (90, True)])
def test_a_strip_too_thin_for_gradients_is_no_template(height_px: int, enough: bool) -> None:
    matrix = np.array([[110.0, 0, 79.5], [0, 110.0, (height_px - 1) / 2], [0, 0, 1]])
    camera = Camera(160, height_px, matrix, np.zeros(0))
    rough = np.random.default_rng(0).integers(0, 255, (height_px, 160, 3), dtype=np.uint8)
    ground = ground_from_frame(rough, camera, Telemetry(0, 0.0, -90.0, 0.0, 70.0), 2.0)
    assert isinstance(ground, Ground)
    cut = ground.grey().cut(14, 7.0)
    assert not isinstance(cut, Reason)  # enough of the patch is seen to look for it by descriptors
    assert (template_from_ground(ground.grey(), 14, 7.0) is not None) == enough
