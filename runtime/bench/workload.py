"""The flight that a benchmark repeats: a circle over the pack's own map, or over drawn land.

    ground -> simulator -> JPEG in memory       all of it before the clock starts

A lap is a closed circle, so laps follow each other without a jump, and the localizer flies as it
does in the field: lost in the warm-up, tracking when the clock runs. The seed makes the flight the
same everywhere.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..engines.base import ModelCard
from ..errors import PackError
from ..geo import LocalFrame
from ..maps.pack import TilePack
from ..maps.raster import Raster
from ..sense.camera import Camera
from ..sense.procedural import town_and_country
from ..sense.simulator import Pose, Simulator
from ..types import Telemetry
from .record import Workload

SEED = 4
SPEED_MPS, INTERVAL_S = 10.0, 1.0  # slower where the map is small
TILES_IN_VIEW = 1.2  # tile widths across the short side of a frame
DEPTH_SHARE = 0.6  # of the way from the pack's deepest tile to its edge
JPEG_QUALITY = 92
DRAWN_GSD_M = 0.5
DRAWN_FRAME = LocalFrame(47.0, 8.0)  # where the drawn land is said to lie
PACK, DRAWN = "pack", "drawn"  # words of Workload.ground

Made = Callable[[], None]  # called for every frame that has been made


@dataclass(frozen=True)
class Video:
    """What the camera delivers."""

    width_px: int = 1280
    height_px: int = 720
    focal_px: float = 930.0  # 69 degrees wide
    lap_frames: int = 24

    @property
    def camera(self) -> Camera:
        """Without distortion, looking through the middle."""
        right, below = (self.width_px - 1) / 2, (self.height_px - 1) / 2
        matrix = np.array([[self.focal_px, 0, right], [0, self.focal_px, below], [0, 0, 1]])
        return Camera(self.width_px, self.height_px, matrix, np.zeros(0))

    @property
    def radius_m(self) -> float:
        """Of a lap at full speed."""
        return self.lap_frames * SPEED_MPS * INTERVAL_S / 2 / math.pi


VIDEO = Video()


@dataclass(frozen=True)
class Shot:
    """One frame of the lap as a camera delivers it."""

    jpeg: NDArray[np.uint8]  # (n,) its bytes
    telemetry: Telemetry  # time within the lap


@dataclass(frozen=True)
class Circle:
    """Where the lap goes."""

    east_m: float
    north_m: float
    radius_m: float

    def poses(self, count: int, height_m: float) -> list[Pose]:
        """A lap's poses, nose in flight direction, anticlockwise from the east."""
        step = 2 * math.pi / count
        return [
            Pose(
                time_ns=round(number * INTERVAL_S * 1e9),
                east_m=self.east_m + self.radius_m * math.cos(number * step),
                north_m=self.north_m + self.radius_m * math.sin(number * step),
                height_m=height_m,
                yaw_deg=180.0 - math.degrees(number * step + math.pi) % 360,
            )
            for number in range(count)
        ]


@dataclass(frozen=True)
class Flight:
    """A lap in memory; frames beyond it repeat it, later."""

    workload: Workload
    camera: Camera
    lap: tuple[Shot, ...]

    def shot(self, number: int) -> Shot:
        """The frame of a number, in the lap that it belongs to."""
        laps, index = divmod(number, len(self.lap))
        shot = self.lap[index]
        later_ns = laps * round(len(self.lap) * INTERVAL_S * 1e9)
        told = replace(shot.telemetry, time_ns=shot.telemetry.time_ns + later_ns)
        return replace(shot, telemetry=told)


def flight_over(
    pack: TilePack | None, card: ModelCard, frames: int, video: Video, made: Made
) -> Flight:
    """Fly a lap; raises PackError where the pack has no room for one."""
    camera, gsd_m = video.camera, pack.manifest.gsd_m if pack else card.gsd_m
    tile_m = card.input_px * gsd_m
    height_m = TILES_IN_VIEW * tile_m * video.focal_px / video.height_px
    diagonal_px = math.hypot(video.width_px, video.height_px)
    reach_m = height_m * diagonal_px / 2 / video.focal_px + tile_m
    if pack:
        circle = circle_in_pack(pack, video.radius_m)
        ground = ground_of_pack(pack, circle, reach_m)
    else:
        circle = Circle(0.0, 0.0, video.radius_m)
        side_m = 2 * (circle.radius_m + reach_m)
        ground = town_and_country(SEED, side_m, side_m, DRAWN_GSD_M, DRAWN_FRAME)
    poses = circle.poses(video.lap_frames, height_m)
    lap = tuple(_shots(ground, camera, poses, made))
    told = lap[0].telemetry
    workload = Workload(
        ground=PACK if pack else DRAWN,
        imagery=pack.manifest.imagery.fingerprint if pack else "",
        tiles=int(pack.valid.sum()) if pack else 0,
        step_m=pack.grid.step_m if pack else 0.0,
        seed=SEED,
        frames=frames,
        distinct_frames=video.lap_frames,
        width_px=video.width_px,
        height_px=video.height_px,
        focal_px=video.focal_px,
        height_m=round(height_m, 3),
        speed_mps=round(2 * math.pi * circle.radius_m / video.lap_frames / INTERVAL_S, 3),
        interval_s=INTERVAL_S,
        yaw_std_deg=told.yaw_std_deg,
        height_std=told.height_std,
        input_px=card.input_px,
        gsd_m=gsd_m,
    )
    return Flight(workload, camera, lap)


def circle_in_pack(pack: TilePack, radius_m: float) -> Circle:
    """A circle around the tile that lies deepest within the pack; raises PackError for none."""
    room = np.pad(pack.valid.astype(np.uint8), 1)  # beyond the grid there is nothing
    depth = cv2.distanceTransform(room, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    depth_m = float(depth[row, column]) * pack.grid.step_m
    if depth_m == 0:
        raise PackError(f"{pack.folder} has no tiles to fly over. Build it from another map.")
    grid = pack.grid
    return Circle(
        grid.east_m + int(column) * grid.step_m,
        grid.north_m - int(row) * grid.step_m,
        min(radius_m, DEPTH_SHARE * depth_m),
    )


def ground_of_pack(pack: TilePack, circle: Circle, reach_m: float) -> Raster:
    """The grey overview around a circle as a picture to look down on."""
    gsd_m, half_m = pack.manifest.overview.gsd_m, circle.radius_m + reach_m
    side_px = math.ceil(2 * half_m / gsd_m)
    west_m, north_m = circle.east_m - half_m, circle.north_m + half_m
    grey, valid = pack.overview(west_m, north_m, (side_px, side_px))
    return Raster(np.repeat(grey[..., None], 3, axis=2), valid, pack.frame, west_m, north_m, gsd_m)


def _shots(ground: Raster, camera: Camera, poses: list[Pose], made: Made) -> Iterator[Shot]:
    for seen in Simulator(ground, camera, seed=SEED).fly(poses):
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, jpeg = cv2.imencode(".jpg", seen.frame.image, quality)
        made()
        yield Shot(np.asarray(jpeg, np.uint8), seen.telemetry)
