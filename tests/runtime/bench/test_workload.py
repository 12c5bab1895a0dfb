"""The flight: closed laps over ground that is there, the same for everyone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyfix.runtime.bench.workload import (
    DRAWN,
    PACK,
    SPEED_MPS,
    Flight,
    Video,
    circle_in_pack,
    flight_over,
)
from skyfix.runtime.encoder import Model
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.sense.ortho import patch_from_frame
from skyfix.runtime.sense.source import decode_image
from skyfix.runtime.types import Patch

Fly = Callable[[TilePack | None], Flight]


@pytest.fixture
def pack(town_pack: Path) -> TilePack:
    return TilePack.open(town_pack, model_id=None)


@pytest.fixture
def fly(tiny_model: Model, small_video: Video) -> Fly:
    return lambda pack: flight_over(pack, tiny_model.card, 30, small_video, lambda: None)


def test_a_lap_closes_and_time_goes_on(fly: Fly, pack: TilePack) -> None:
    flight = fly(pack)
    shots = [flight.shot(number) for number in range(3 * len(flight.lap))]
    steps = np.diff([shot.telemetry.time_ns for shot in shots])
    assert set(steps.tolist()) == {10**9}
    assert shots[0].jpeg is shots[len(flight.lap)].jpeg
    assert shots[0].telemetry.yaw_deg == shots[len(flight.lap)].telemetry.yaw_deg


def test_the_nose_points_where_the_drone_flies(pack: TilePack) -> None:
    poses = circle_in_pack(pack, 20.0).poses(360, 50.0)
    for before, here, after in zip(poses, poses[1:], poses[2:], strict=False):
        heading = np.degrees(
            np.arctan2(after.east_m - before.east_m, after.north_m - before.north_m)
        )
        assert abs((heading - here.yaw_deg + 180) % 360 - 180) < 1e-6
        assert -180 <= here.yaw_deg <= 180


def test_the_circle_lies_within_the_pack_s_tiles(pack: TilePack) -> None:
    circle = circle_in_pack(pack, 500.0)
    for pose in circle.poses(24, 50.0):
        row, column = (round(cell) for cell in pack.grid.cell_from_en(pose.east_m, pose.north_m))
        assert pack.valid[row, column]
    assert circle_in_pack(pack, 5.0).radius_m == 5.0


@pytest.mark.parametrize("over_pack", [True, False])
def test_every_frame_shows_a_whole_patch_of_ground(
    fly: Fly, pack: TilePack, tiny_model: Model, over_pack: bool
) -> None:
    flight, card = fly(pack if over_pack else None), tiny_model.card
    for shot in flight.lap:
        image = decode_image(shot.jpeg.tobytes())
        assert image is not None
        patch = patch_from_frame(image, flight.camera, shot.telemetry, card.input_px, card.gsd_m)
        assert isinstance(patch, Patch)
        assert patch.valid.mean() > 0.9
        assert patch.image.std() > 5
    assert flight.workload.ground == (PACK if over_pack else DRAWN)
    assert flight.workload.tiles == (pack.valid.sum() if over_pack else 0)


def test_the_same_seed_makes_the_same_flight(fly: Fly, pack: TilePack) -> None:
    first, second = fly(pack), fly(pack)
    assert first.workload == second.workload
    assert all(
        np.array_equal(mine.jpeg, theirs.jpeg) and mine.telemetry == theirs.telemetry
        for mine, theirs in zip(first.lap, second.lap, strict=True)
    )


def test_the_stated_speed_is_the_flown_one(fly: Fly, pack: TilePack, small_video: Video) -> None:
    workload = fly(pack).workload
    radius_m = circle_in_pack(pack, small_video.radius_m).radius_m
    assert workload.speed_mps == pytest.approx(2 * np.pi * radius_m / 8, abs=1e-3)
    assert workload.speed_mps <= SPEED_MPS + 1e-3
