"""What a camera sees over a raster: frames along a route, with all that goes wrong on the way.

The ground is flat, the picture a homography of the raster: `pixel_from_ground` of the true
attitude and height. Errors of attitude and height stand in what the telemetry says, not in what
the camera sees. Training draws its camera views through the same `render`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..maps.raster import RasterReader
from ..types import Frame, Reason, Telemetry
from .appearance import apply_appearance, draw_appearance
from .camera import Camera
from .ortho import View, view_from_telemetry

MAX_VIEW_HEIGHTS = 8.0  # how far towards the horizon ground is drawn, in heights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Where the drone truly is and how its camera is truly held."""

    time_ns: int
    east_m: float
    north_m: float
    height_m: float
    yaw_deg: float
    pitch_deg: float = -90.0
    roll_deg: float = 0.0


@dataclass(frozen=True)
class Conditions:
    """Spread of what differs between the map and the flight, and between truth and telemetry."""

    appearance: float = 0.6  # strength of draw_appearance, once per flight
    flicker: float = 0.1  # the same, anew for each frame
    tilt_std_deg: float = 2.0  # true pitch and roll around nadir, unknown to the telemetry
    yaw_std_deg: float = 3.0  # telemetry's error
    height_std: float = 0.03  # telemetry's error, fraction of the height


@dataclass(frozen=True)
class SimulatedFrame:
    """A frame, what the telemetry claims, and the truth."""

    frame: Frame
    telemetry: Telemetry
    pose: Pose
    center_en_m: tuple[float, float]  # ground point in the image's centre


@dataclass(frozen=True)
class Simulator:
    """A camera over a raster under given conditions; the same seed gives the same flight."""

    raster: RasterReader
    camera: Camera
    conditions: Conditions = field(default_factory=Conditions)
    seed: int = 0

    def fly(self, route: list[Pose]) -> Iterator[SimulatedFrame]:
        """Render one frame per pose."""
        rng = np.random.default_rng(self.seed)
        weather = draw_appearance(rng, self.conditions.appearance)
        for number, planned in enumerate(route):
            ahead, aside = rng.normal(0, self.conditions.tilt_std_deg, 2)
            pose = tilted(planned, float(ahead), float(aside))
            ground = render(self.raster, self.camera, pose)
            seen = apply_appearance(ground, weather, rng)
            seen = apply_appearance(seen, draw_appearance(rng, self.conditions.flicker), rng)
            image = cv2.cvtColor(seen, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
            yield SimulatedFrame(
                frame=Frame(f"{number:05d}", pose.time_ns, image),
                telemetry=self._telemetry(planned, rng),
                pose=pose,
                center_en_m=center_from_pose(self.camera, pose),
            )

    def _telemetry(self, planned: Pose, rng: np.random.Generator) -> Telemetry:
        yaw = planned.yaw_deg + rng.normal(0, self.conditions.yaw_std_deg)
        height = planned.height_m * (1 + rng.normal(0, self.conditions.height_std))
        return Telemetry(
            time_ns=planned.time_ns,
            yaw_deg=float((yaw + 180) % 360 - 180),
            pitch_deg=planned.pitch_deg,
            roll_deg=planned.roll_deg,
            height_agl_m=float(max(height, 0.1 * planned.height_m)),
        )


def route_from_waypoints(
    waypoints_en_m: Array, height_m: float, speed_mps: float, interval_s: float
) -> list[Pose]:
    """Poses every `interval_s` along straight legs, nose in flight direction.

    Args:
        waypoints_en_m: (n, 2) east, north; n >= 2.
        height_m: above ground.
        speed_mps: over ground.
        interval_s: between frames.
    """
    legs = np.diff(waypoints_en_m, axis=0)
    ends_m = np.concatenate([[0.0], np.cumsum(np.hypot(legs[:, 0], legs[:, 1]))])
    poses = []
    for number, along_m in enumerate(np.arange(0, ends_m[-1], speed_mps * interval_s)):
        leg = int(np.searchsorted(ends_m, along_m, side="right")) - 1
        share = (along_m - ends_m[leg]) / (ends_m[leg + 1] - ends_m[leg])
        east, north = waypoints_en_m[leg] + share * legs[leg]
        yaw_deg = math.degrees(math.atan2(legs[leg, 0], legs[leg, 1]))
        time_ns = round(number * interval_s * 1e9)
        poses.append(Pose(time_ns, float(east), float(north), height_m, yaw_deg))
    return poses


def render(raster: RasterReader, camera: Camera, pose: Pose) -> NDArray[np.uint8]:
    """The raster as the camera sees it, (H, W, 3) RGB; black where the map ends."""
    view = _view(camera, pose)
    gsd_m = max(view.gsd_m, raster.gsd_m)
    margin_m = 2 * gsd_m  # the warp interpolates beyond the outermost pixel centres
    west, south, east, north = _footprint(camera, view, pose.height_m, margin_m)
    size_px = (math.ceil((north - south) / gsd_m), math.ceil((east - west) / gsd_m))
    window = raster.read(pose.east_m + west, pose.north_m + north, size_px, gsd_m)
    half = gsd_m / 2  # ground = east, north metres from the drone, of a pixel's centre
    ground_from_window = np.array(
        [[gsd_m, 0, west + half], [0, -gsd_m, north - half], [0, 0, 1]], float
    )
    picture = cv2.warpPerspective(
        window.image * window.valid[..., None],
        view.pixel_from_ground @ ground_from_window,
        (camera.width_px, camera.height_px),
        flags=cv2.INTER_LINEAR,
    )
    return _through_lens(picture.astype(np.uint8, copy=False), camera)


def tilted(pose: Pose, ahead_deg: float, aside_deg: float) -> Pose:
    """The pose with its optical axis moved towards the image's top and its right side.

    Straight down, a tilt to the side is a tilt ahead on another heading, rolled back again; the
    image's top keeps its direction. An oblique camera rolls instead.
    """
    if pose.pitch_deg > -90:
        pitch = max(pose.pitch_deg + ahead_deg, -90.0)
        return replace(pose, pitch_deg=pitch, roll_deg=pose.roll_deg + aside_deg)
    towards_deg = math.degrees(math.atan2(aside_deg, ahead_deg))
    return replace(
        pose,
        yaw_deg=pose.yaw_deg + towards_deg,
        pitch_deg=-90.0 + math.hypot(ahead_deg, aside_deg),
        roll_deg=pose.roll_deg - towards_deg,
    )


def center_from_pose(camera: Camera, pose: Pose) -> tuple[float, float]:
    """East and north of the ground point in the image's centre."""
    east, north = _view(camera, pose).center_en_m
    return pose.east_m + east, pose.north_m + north


def _view(camera: Camera, pose: Pose) -> View:
    telemetry = Telemetry(pose.time_ns, pose.yaw_deg, pose.pitch_deg, pose.roll_deg, pose.height_m)
    view = view_from_telemetry(camera, telemetry)
    if isinstance(view, Reason):
        raise InputError(f"the simulator cannot look down from {pose}: {view.value}")
    return view


def _footprint(
    camera: Camera, view: View, height_m: float, margin_m: float
) -> tuple[float, float, float, float]:
    """West, south, east, north of the visible ground around the drone, in metres."""
    right, bottom = camera.width_px - 0.5, camera.height_px - 0.5
    corners_px = np.array([[-0.5, right, right, -0.5], [-0.5, -0.5, bottom, bottom], [1, 1, 1, 1]])
    east, north, scale = np.linalg.inv(view.pixel_from_ground) @ corners_px
    far_m = MAX_VIEW_HEIGHTS * height_m
    depth = np.where(scale > 1e-9, scale, 1e-9)  # beyond the horizon: as far as we draw
    east, north = np.clip(east / depth, -far_m, far_m), np.clip(north / depth, -far_m, far_m)
    return (
        float(east.min()) - margin_m,
        float(north.min()) - margin_m,
        float(east.max()) + margin_m,
        float(north.max()) + margin_m,
    )


def _through_lens(picture: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """Bend a pinhole picture as the camera's lens does."""
    if not camera.is_distorted:
        return picture
    column, row = np.meshgrid(np.arange(camera.width_px), np.arange(camera.height_px))
    distorted = np.stack([column, row], axis=-1).reshape(-1, 1, 2).astype(np.float32)
    pinhole = cv2.undistortPoints(
        distorted, camera.matrix, camera.distortion, None, camera.matrix
    ).reshape(camera.height_px, camera.width_px, 2)
    x, y = (np.ascontiguousarray(pinhole[..., axis], np.float32) for axis in (0, 1))
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR), np.uint8)
