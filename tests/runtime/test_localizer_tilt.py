"""A camera whose tilt no log tells, over a map with structure everywhere."""

import math
from dataclasses import replace

import numpy as np
import pytest

import skyfix.runtime.localizer as localizer_module
from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.tilt import Tilt
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.simulator import Pose, render, tilted
from skyfix.runtime.types import Fix, Frame, Telemetry

CAMERA = Camera(320, 240, np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), np.zeros(0))
HEIGHT_M = 50.0
TILT_DEG = (8.0, -3.0)  # to the image's top, to its right
SECOND_NS = 1_000_000_000
CHI2_95 = 5.99


def route() -> list[Pose]:
    """Eastwards, a half turn, and back."""
    there = [(-70.0 + 12 * k, 30.0, 90.0) for k in range(10)]
    back = [(38.0 - 12 * k, -30.0, -90.0) for k in range(10)]
    return [
        Pose(2 * k * SECOND_NS, east, north, HEIGHT_M, yaw)
        for k, (east, north, yaw) in enumerate(there + back)
    ]


def fixes_of(
    pack: TilePack, model: Model, town: Raster, settings: LocalizerSettings
) -> list[tuple[Fix, Pose]]:
    """Fixes with a position, from telemetry that says straight down."""
    localizer = Localizer(pack, model, CAMERA, settings)
    found = []
    for pose in route():
        picture = render(town, CAMERA, tilted(pose, *TILT_DEG))
        frame = Frame("frame", pose.time_ns, np.ascontiguousarray(picture[..., ::-1]))
        told = Telemetry(pose.time_ns, pose.yaw_deg, -90.0, 0.0, HEIGHT_M)
        fix = localizer.step(frame, told)
        if fix.lat_deg is not None:
            found.append((fix, pose))
    return found


def errors_en_m(pack: TilePack, fixes: list[tuple[Fix, Pose]]) -> np.ndarray:
    """The drone's, (n, 2)."""
    errors = []
    for fix, pose in fixes:
        assert fix.lat_deg is not None
        assert fix.lon_deg is not None
        east, north = pack.frame.en_from_wgs84(fix.lat_deg, fix.lon_deg)
        errors.append((east - pose.east_m, north - pose.north_m))
    return np.array(errors)


def test_the_drone_of_a_tilted_camera_is_found_and_its_ellipses_hold(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    fixes = fixes_of(pack, tiny_model, town, LocalizerSettings())
    assert len(fixes) >= 15
    errors = errors_en_m(pack, fixes)
    off_m = HEIGHT_M * math.tan(math.radians(math.hypot(*TILT_DEG)))
    assert np.median(np.hypot(*errors[5:].T)) < off_m / 3
    squared = [
        float(error @ np.linalg.solve(fix.cov_en_m2, error))
        for (fix, _), error in zip(fixes, errors, strict=True)
        if fix.cov_en_m2 is not None
    ]
    assert np.mean(np.array(squared) < CHI2_95) >= 0.9
    alone = fixes_of(pack, tiny_model, town, LocalizerSettings(independent=True))
    last, lone = fixes[-1][0].std_m, alone[-1][0].std_m
    assert last is not None
    assert lone is not None
    assert last < 0.85 * lone


def test_a_frame_alone_learns_nothing_from_the_one_before(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    alone = LocalizerSettings(independent=True)
    fixes = fixes_of(pack, tiny_model, town, alone)
    again = fixes_of(pack, tiny_model, town, alone)
    assert [fix.lat_deg for fix, _ in fixes] == [fix.lat_deg for fix, _ in again]
    localizer = Localizer(pack, tiny_model, CAMERA, alone)
    pose = route()[-1]
    picture = render(town, CAMERA, tilted(pose, *TILT_DEG))
    frame = Frame("frame", pose.time_ns, np.ascontiguousarray(picture[..., ::-1]))
    told = Telemetry(pose.time_ns, pose.yaw_deg, -90.0, 0.0, HEIGHT_M)
    assert localizer.step(frame, told).lat_deg == fixes[-1][0].lat_deg


def test_a_camera_that_is_trusted_to_hang_straight_is_taken_as_told(
    pack: TilePack, tiny_model: Model, town: Raster
) -> None:
    fixes = fixes_of(pack, tiny_model, town, LocalizerSettings(tilt_std_deg=0.0))
    errors = errors_en_m(pack, fixes)
    off_m = HEIGHT_M * math.tan(math.radians(math.hypot(*TILT_DEG)))
    assert np.median(np.hypot(*errors.T)) == pytest.approx(off_m, rel=0.15)


def test_what_no_picture_shows_of_the_tilt_moves_the_drone_and_not_the_centre(
    pack: TilePack, tiny_model: Model, town: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = LocalizerSettings(independent=True)
    before, _ = fixes_of(pack, tiny_model, town, alone)[0]
    hidden = np.eye(2) * 0.1**2

    def further(tilt: Tilt) -> Tilt:
        return replace(tilt, cov=tilt.cov + hidden)

    monkeypatch.setattr(localizer_module, "tilt_of_camera", further)
    after, _ = fixes_of(pack, tiny_model, town, alone)[0]
    assert after.center_cov_en_m2 == pytest.approx(before.center_cov_en_m2)
    assert after.cov_en_m2 is not None
    assert before.cov_en_m2 is not None
    assert np.trace(after.cov_en_m2 - before.cov_en_m2) > np.trace(hidden) * (0.9 * HEIGHT_M) ** 2
