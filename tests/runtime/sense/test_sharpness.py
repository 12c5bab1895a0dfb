import cv2
import numpy as np
import pytest

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.sharpness import is_blurred, sharpness
from skyfix.runtime.sense.simulator import Pose, render
from skyfix.runtime.types import Telemetry

CAMERA = Camera(480, 270, np.array([[332.8, 0, 239.5], [0, 332.8, 134.5], [0, 0, 1]]), np.zeros(0))


@pytest.mark.parametrize(("blur_px", "blurred"), [(0, False), (1, False), (8, True), (20, True)])
def test_a_frame_is_blurred_when_its_lens_was_and_not_before(blur_px: int, blurred: bool) -> None:
    land = town_and_country(3, 500, 500, 0.6, LocalFrame(45.0, 9.0))
    frame = render(land, CAMERA, Pose(0, 0.0, 0.0, 120.0, 30.0))
    if blur_px:
        frame = cv2.GaussianBlur(frame, (0, 0), blur_px).astype(np.uint8)
    ground = ground_from_frame(frame, CAMERA, Telemetry(0, 30.0, -90.0, 0.0, 120.0), 1.25)
    assert isinstance(ground, Ground)
    assert is_blurred(ground.grey(), 128, 1.25) is blurred


def test_sharpness_is_the_ratio_of_the_gradients_of_a_wave_and_its_blur() -> None:
    """A wave of angular frequency w loses exp(-w^2 s^2 / 2) by a Gaussian blur of s."""
    frequency = 0.5
    column = np.arange(200)
    wave = (127 + 100 * np.sin(frequency * column)).astype(np.uint8)
    inner = np.zeros((40, 200), bool)
    inner[15:25, 20:180] = True
    found = sharpness(np.tile(wave, (40, 1)), inner)
    assert found == pytest.approx(np.exp(frequency**2 * 2.0**2 / 2), rel=0.03)


def test_a_flat_picture_has_no_detail() -> None:
    assert sharpness(np.full((30, 30), 90, np.uint8), np.ones((30, 30), bool)) == 0.0
