"""The camera as a matrix: intrinsics from camera.yaml, and pixels of ground points.

    pixel ~ K R^T (ground - drone),   ground = (east, north, 0), drone = (0, 0, height)

R's columns are the camera's axes (right, down, forward) in east/north/up. Yaw turns the image's
top to a direction, pitch lifts the optical axis from the horizon (-90 = straight down), roll turns
about the optical axis, in the order of the autopilots (Z-Y-X).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError

Array = NDArray[np.float64]


class CameraFile(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of camera.yaml."""

    image_width: int
    image_height: int
    camera_matrix: list[float]  # 9 numbers, row-major, pixels
    camera_model: Literal["pinhole"] = "pinhole"  # with OpenCV's radial-tangential distortion
    distortion_coefficients: list[float] = []  # k1 k2 p1 p2 [k3 [k4 k5 k6]]


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics of frames of one size."""

    width_px: int
    height_px: int
    matrix: Array  # (3, 3)
    distortion: Array  # (0,), (4,), (5,) or (8,), OpenCV order

    def __post_init__(self) -> None:
        """Refuse numbers that no camera has."""
        focal_x, focal_y = float(self.matrix[0, 0]), float(self.matrix[1, 1])
        if self.width_px <= 0 or self.height_px <= 0:
            raise CameraError(f"image size {self.width_px} x {self.height_px} is no size")
        if not (focal_x > 0 and focal_y > 0 and math.isfinite(focal_x * focal_y)):
            raise CameraError(f"focal length {focal_x} x {focal_y} px must be positive")
        if not np.isfinite(self.matrix).all() or not np.isfinite(self.distortion).all():
            raise CameraError("the camera matrix and the distortion must be finite numbers")
        if self.matrix[2].tolist() != [0, 0, 1]:
            raise CameraError(f"the camera matrix ends with {self.matrix[2].tolist()}, not 0, 0, 1")
        if self.distortion.size not in (0, 4, 5, 8):
            raise CameraError(
                f"{self.distortion.size} distortion coefficients; OpenCV takes 0, 4, 5 or 8"
            )

    @cached_property
    def is_distorted(self) -> bool:
        """Whether straight lines leave the lens curved."""
        return bool(np.any(self.distortion != 0))


def camera_from_yaml(path: Path) -> Camera:
    """Read a camera file; raises CameraError with the key at fault."""
    try:
        file = msgspec.yaml.decode(path.read_bytes(), type=CameraFile)
    except OSError as error:
        raise CameraError(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise CameraError(f"{path}: {error}. docs/formats.md lists the keys.") from error
    if len(file.camera_matrix) != 9:
        raise CameraError(f"{path}: camera_matrix has {len(file.camera_matrix)} numbers, not 9")
    try:
        return Camera(
            width_px=file.image_width,
            height_px=file.image_height,
            matrix=np.array(file.camera_matrix, float).reshape(3, 3),
            distortion=np.array(file.distortion_coefficients, float),
        )
    except CameraError as error:
        raise CameraError(f"{path}: {error}") from error


def enu_from_camera(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Array:
    """Rotation whose columns are the camera's right, down and forward axes in ENU, (3, 3)."""
    yaw, pitch, roll = (math.radians(angle) for angle in (yaw_deg, pitch_deg, roll_deg))
    ahead = np.array([math.sin(yaw), math.cos(yaw), 0.0])
    right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    forward = ahead * math.cos(pitch) + up * math.sin(pitch)
    down = ahead * math.sin(pitch) - up * math.cos(pitch)
    rolled_right = right * math.cos(roll) + down * math.sin(roll)
    rolled_down = down * math.cos(roll) - right * math.sin(roll)
    return np.stack([rolled_right, rolled_down, forward], axis=1)


def turned_to_tilt(right: float, forward: float) -> Array:
    """The shortest rotation of a camera that moves its optical axis by these tangents, (3, 3).

    Along the camera's own axes, forward being the image's top. Rays of the turned camera are given
    in the axes that it had before: enu_from_camera(...) @ turned_to_tilt(...) is its rotation.
    """
    norm = math.sqrt(1 + right**2 + forward**2)
    aside, ahead = np.array([right, -forward]) / norm, 1 / norm
    rotation = np.empty((3, 3))
    rotation[:2, :2] = np.eye(2) - np.outer(aside, aside) / (1 + ahead)
    rotation[:2, 2], rotation[2, :2], rotation[2, 2] = aside, -aside, ahead
    return rotation


def pixel_from_ground(camera_matrix: Array, rotation: Array, height_m: float) -> Array:
    """Homography from ground metres (east, north, 1) around the drone to pixels, (3, 3).

    The third homogeneous coordinate is the distance along the optical axis: ground points with a
    positive one lie in front of the camera.
    """
    drone = np.array([0.0, 0.0, height_m])
    ground_axes = np.stack([rotation[0], rotation[1], -rotation.T @ drone], axis=1)
    homography: Array = camera_matrix @ ground_axes
    return homography
