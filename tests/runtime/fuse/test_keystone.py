import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.export.rasters import open_raster
from skyfix.runtime.fuse import keystone as module
from skyfix.runtime.fuse.align import Pose, aligned
from skyfix.runtime.fuse.chart import Chart
from skyfix.runtime.fuse.keystone import Keystone, keystone, rays_from_pixels, tilted
from skyfix.runtime.fuse.structure import structured
from skyfix.runtime.fuse.template import Cuts, Template
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense import simulator
from skyfix.runtime.sense.camera import (
    camera_from_yaml,
    enu_from_camera,
    pixel_from_ground,
    turned_to_tilt,
)
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import center_from_pose, render
from skyfix.runtime.sense.source import open_source
from skyfix.runtime.sense.telemetry import read_telemetry
from skyfix.runtime.truth import read_truth
from skyfix.runtime.types import Frame, Telemetry

from .conftest import CAMERA, HEIGHT_M, TILE_M, Land, picture

SIDE_PX, GSD_M = 48, 2.0
BELOW = Telemetry(0, 0.0, -90.0, 0.0, HEIGHT_M)


def seen(
    land: Land, ahead_deg: float, aside_deg: float, turn_deg: float = 0.0, scale: float = 1.0
) -> tuple[Ground, tuple[float, float]]:
    """A tilted camera's ground, laid out by telemetry that says straight down; its true centre."""
    level = simulator.Pose(0, 30.0, -45.0, HEIGHT_M * scale, turn_deg)
    pose = simulator.tilted(level, ahead_deg, aside_deg)
    picture_of_it = render(land.raster, CAMERA, pose)
    smooth = isinstance(land, Smooth)
    frame = np.ascontiguousarray(picture_of_it if smooth else picture_of_it[..., ::-1])
    ground = ground_from_frame(frame, CAMERA, BELOW, 0.8)
    assert isinstance(ground, Ground)
    shown = ground if smooth else structured(ground.grey(), TILE_M)
    return shown.coarser(GSD_M), center_from_pose(CAMERA, pose)


@dataclass(frozen=True)
class Smooth(Land):
    """Structure without a meaning, so smooth that a few pixels change it evenly."""

    @staticmethod
    def of(land: Land, smooth_px: float) -> "Smooth":
        image = np.stack([picture(seed, 600, smooth_px) for seed in (7, 8, 9)], axis=-1)
        return Smooth(replace(land.raster, image=image))

    def structured(self, factor: int) -> Chart:
        west, _, _, north = self.raster.bounds_m

        def read(
            west_m: float, north_m: float, size: tuple[int, int]
        ) -> tuple[np.ndarray, np.ndarray]:
            window = self.raster.read(west_m, north_m, size, 1.0)
            return window.image, window.valid

        return Chart(read, west, north, 1.0).averaged(factor)


def _grey(window: Raster) -> tuple[np.ndarray, np.ndarray]:
    grey = cv2.cvtColor(window.image, cv2.COLOR_RGB2GRAY)
    return grey.astype(np.uint8, copy=False), window.valid


def fitted(land: Land, ground: Ground, start: Pose, noise: np.ndarray | None = None) -> Keystone:
    template = Cuts(ground, SIDE_PX, GSD_M).at(start.turn_deg, start.log_scale)
    assert template is not None
    window = land.structured(2).around(start.east_m, start.north_m, 72)
    if noise is not None:
        window.levels[:] = np.rint(window.levels + noise).clip(-127, 127)
    return keystone(window, template, ground, start)


@pytest.mark.parametrize(
    ("ahead", "aside", "turn", "scale"),
    [
        (0.0, 0.0, 0.0, 1.0), (8.0, 0.0, 0.0, 1.0), (0.0, 8.0, 0.0, 1.0), (5.0, -4.0, 3.0, 1.03),
        (8.0, 0.0, 90.0, 1.0), (-6.0, 6.0, 177.0, 0.97),
    ],
)  # fmt: skip
def test_a_planted_tilt_is_found_in_the_cameras_own_axes_whatever_its_heading(
    land: Land, ahead: float, aside: float, turn: float, scale: float
) -> None:
    ground, center = seen(land, ahead, aside, turn, scale)
    nearby = round(turn / 90) * 90.0
    found = fitted(land, ground, Pose(center[0] + 1, center[1] - 1, nearby, 0.0))
    assert np.degrees(np.arctan(found.tilt)) == pytest.approx([aside, ahead], abs=0.25)
    assert (found.pose.east_m, found.pose.north_m) == pytest.approx(center, abs=0.2)
    assert found.pose.turn_deg == pytest.approx(turn, abs=0.2)
    assert math.exp(found.pose.log_scale) == pytest.approx(scale, abs=0.004)
    assert found.correlation > 0.98


def test_without_it_a_tilted_camera_fits_worse_and_beside_its_place(land: Land) -> None:
    ground, center = seen(land, 8.0, 0.0)
    start = Pose(*center, 0.0, 0.0)
    template = Cuts(ground, SIDE_PX, GSD_M).at(0.0, 0.0)
    assert template is not None
    plain = aligned(land.structured(2).around(*center, 72), template, start, 8)
    assert plain.correlation < fitted(land, ground, start).correlation - 0.02
    assert plain.pose.north_m - center[1] > 0.8


def test_a_fit_without_it_is_pulled_away_as_it_says(land: Land) -> None:
    land = Smooth.of(land, 4.0)
    for ahead, aside in ((2.0, 0.0), (0.0, 2.0), (-1.5, 1.0)):
        ground, center = seen(land, ahead, aside)
        start = Pose(*center, 0.0, 0.0)
        template = Cuts(ground, SIDE_PX, GSD_M).at(0.0, 0.0)
        assert template is not None
        plain = aligned(land.structured(2).around(*center, 72), template, start, 10).pose
        pulled = fitted(land, ground, start).pull @ np.tan(np.radians([aside, ahead]))
        away = (plain.east_m - center[0], plain.north_m - center[1], plain.turn_deg)
        assert away == pytest.approx(pulled[:3], abs=0.06)
        assert np.linalg.norm(pulled[:2]) > 0.1


@given(
    yaw=st.floats(-180, 180), pitch=st.floats(-90, -55), roll=st.floats(-30, 30),
    right=st.floats(-0.2, 0.2), forward=st.floats(-0.2, 0.2),
    turn=st.floats(-30, 30), log_scale=st.floats(-0.2, 0.2),
)  # fmt: skip
def test_the_homography_leads_from_where_a_pixel_was_laid_to_where_it_lies(
    yaw: float, pitch: float, roll: float, right: float, forward: float, turn: float,
    log_scale: float,
) -> None:  # fmt: skip
    """Against the ground points of both cameras, each by its own view."""
    telemetry = Telemetry(0, yaw, pitch, roll, HEIGHT_M)
    flat = np.zeros((CAMERA.height_px, CAMERA.width_px, 3), np.uint8)
    ground = ground_from_frame(flat, CAMERA, telemetry, 1.0)
    assert isinstance(ground, Ground)
    rotation = enu_from_camera(yaw, pitch, roll) @ turned_to_tilt(right, forward)
    seen_from_ground = pixel_from_ground(CAMERA.matrix, rotation, HEIGHT_M)
    down = -HEIGHT_M / rotation[2, 2]
    views = (
        (ground.view.pixel_from_ground, ground.view.center_en_m),
        (seen_from_ground, down * rotation[:2, 2]),
    )
    none = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    template = Template(none[..., None], none, GSD_M, turn, log_scale)
    bent = tilted(rays_from_pixels(ground, template), np.array([right, forward]))
    frame_px = np.array([CAMERA.width_px * 0.3, CAMERA.height_px * 0.8, 1.0])
    angle, scale = math.radians(turn), math.exp(log_scale)
    turned = scale * np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    was, lies = (
        turned @ (raised[:2] / raised[2] - center_en_m) / GSD_M * [1, -1]
        for homography, center_en_m in views
        for raised in [np.linalg.solve(homography, frame_px)]
    )
    east, south, far = bent @ [*was, 1.0]
    assert (east / far, south / far) == pytest.approx(lies, abs=1e-6)


def test_its_covariance_is_that_of_its_errors(land: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in patches of a known size over ground that is smoother than they are."""
    sigma_px = 1.2
    monkeypatch.setattr(module, "CORRELATED_PX", 4 * math.pi * sigma_px**2)
    smooth = Smooth.of(land, 10.0)
    ground, center = seen(smooth, 4.0, 2.0)
    truth = np.tan(np.radians([2.0, 4.0]))
    squared = []
    for seed in range(80):
        rough = np.random.default_rng(seed).standard_normal((72, 72, 3)).astype(np.float32)
        noise = cv2.GaussianBlur(rough, (0, 0), sigma_px)
        found = fitted(smooth, ground, Pose(*center, 0.0, 0.0), 20 * noise / noise.std())
        apart = found.tilt - truth
        squared.append(float(apart @ np.linalg.solve(found.cov[4:, 4:], apart)))
    assert np.mean(squared) == pytest.approx(2.0, abs=0.7)


@pytest.mark.real
def test_flight_a_shows_the_tilt_that_its_log_does_not_know(shared_data: Path) -> None:
    """Eight to nine degrees ahead by its GNSS; lens and relief may be worth three."""
    folder = shared_data / "fengyuan"
    raster = open_raster(folder / "map.tif").reader
    chart = Chart(
        lambda west_m, north_m, size: _grey(raster.read(west_m, north_m, size, GSD_M)),
        raster.bounds_m[0], raster.bounds_m[3], GSD_M,
    ).structured(160.0)  # fmt: skip
    camera, truth = camera_from_yaml(folder / "camera.yaml"), read_truth(folder / "flight_A.csv")
    center = truth["center"]
    east, north = raster.frame.en_from_wgs84(center.lat_deg, center.lon_deg)
    at = dict(zip(center.frames, np.stack([east, north], axis=1).tolist(), strict=True))
    rows = [row for row in read_telemetry(folder / "flight_A.csv") if np.isfinite(at[row.frame][0])]
    weights, weighted = np.zeros((2, 2)), np.zeros(2)
    with open_source(str(folder / "frames"), rows[::2]) as frames:
        for frame, row in zip(frames, rows[::2], strict=True):
            assert isinstance(frame, Frame)
            assert row.telemetry is not None
            ground = ground_from_frame(frame.image, camera, row.telemetry, 1.25)
            assert isinstance(ground, Ground)
            ground = structured(ground.grey(), 160.0).coarser(GSD_M)
            east_m, north_m = at[row.frame]
            start = Pose(east_m, north_m, 1.5, -0.08)  # as the whole flight is turned and lower
            template = Cuts(ground, 80, GSD_M).at(start.turn_deg, start.log_scale)
            assert template is not None
            window = chart.around(start.east_m, start.north_m, 104)
            found = keystone(window, template, ground, start)
            weight = np.linalg.inv(found.cov[4:, 4:])
            weights, weighted = weights + weight, weighted + weight @ found.tilt
    right_deg, ahead_deg = np.degrees(np.arctan(np.linalg.solve(weights, weighted)))
    assert abs(right_deg) < 3
    assert 5 < ahead_deg < 12
