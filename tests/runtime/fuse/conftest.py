"""A land of smooth noise, a chart of it, and what a camera above it sees."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.fuse.chart import Chart
from skyfix.runtime.fuse.structure import structured
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Pose, render
from skyfix.runtime.types import Telemetry

CAMERA = Camera(160, 160, np.array([[110.0, 0, 79.5], [0, 110.0, 79.5], [0, 0, 1]]), np.zeros(0))
HEIGHT_M = 70.0  # a footprint of 101 m
TILE_M = 96.0


@dataclass(frozen=True)
class Land:
    """Ground whose every place is known."""

    raster: Raster

    @property
    def chart(self) -> Chart:
        west, _, _, north = self.raster.bounds_m

        def read(
            west_m: float, north_m: float, size: tuple[int, int]
        ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
            window = self.raster.read(west_m, north_m, size, 1.0)
            return window.image[..., 0].copy(), window.valid

        return Chart(read, west, north, 1.0)

    def structured(self, factor: int) -> Chart:
        """The chart's structure at `factor` metres a pixel."""
        return self.chart.averaged(factor).structured(TILE_M)

    def shown(
        self, east_m: float, north_m: float, turn_deg: float = 0.0, scale: float = 1.0
    ) -> Ground:
        """The structure of what is seen."""
        return structured(self.seen(east_m, north_m, turn_deg, scale), TILE_M)

    def seen(
        self, east_m: float, north_m: float, turn_deg: float = 0.0, scale: float = 1.0
    ) -> Ground:
        """From a drone that is turned and higher than its telemetry says (north, HEIGHT_M)."""
        pose = Pose(0, east_m, north_m, HEIGHT_M * scale, turn_deg)
        frame = np.ascontiguousarray(render(self.raster, CAMERA, pose)[..., ::-1])
        ground = ground_from_frame(frame, CAMERA, Telemetry(0, 0.0, -90.0, 0.0, HEIGHT_M), 0.8)
        assert isinstance(ground, Ground)
        return ground.grey()


def picture(seed: int, size: int, smooth_px: float) -> np.ndarray:
    rough = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), smooth_px)
    return np.asarray((127 + 40 * smooth / smooth.std()).clip(1, 255), np.uint8)


@pytest.fixture(scope="session")
def land() -> Land:
    grey = picture(5, 600, 4.0)
    image = np.repeat(grey[..., None], 3, axis=2)
    valid = np.ones(grey.shape, bool)
    return Land(Raster(image, valid, LocalFrame(45.0, 9.0), -300.0, 300.0, 1.0))
