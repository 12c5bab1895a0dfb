"""Camera frame + attitude + height -> north-up patch of the ground at the model's scale.

The patch is centred on the ground point in the image's centre. One homography per patch does it
all; the frame is first shrunk by an integer factor, averaging pixels, so that the warps that
follow neither alias nor touch two million pixels.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Patch, Reason, Telemetry
from .camera import Camera, enu_from_camera, pixel_from_ground

MAX_TILT_DEG = 40.0  # beyond, the far side of the footprint is over four times coarser
MIN_VALID_FRACTION = 0.15  # of the patch; training masks go down to this
MAX_HEIGHT_STD = 0.5  # of the height; a drone that knows less of it knows nothing
MIN_HEIGHT_M, MAX_HEIGHT_M = 1e-3, 10_000.0  # above any drone, and below any unit mistake


Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One frame's geometry: where its pixels lie on the ground."""

    pixel_from_ground: Array  # (3, 3), ground = east, north metres from the drone
    center_en_m: tuple[float, float]  # ground point in the image's centre, from the drone
    gsd_m: float  # metres a pixel at the centre


def telemetry_fault(telemetry: Telemetry) -> Reason | None:
    """What makes a telemetry row unusable, if anything."""
    values = (
        telemetry.yaw_deg, telemetry.pitch_deg, telemetry.roll_deg, telemetry.height_agl_m,
    )  # fmt: skip
    if not all(math.isfinite(value) for value in values):
        return Reason.TELEMETRY_INVALID
    if not (telemetry.yaw_std_deg > 0 and 0 < telemetry.height_std <= MAX_HEIGHT_STD):
        return Reason.TELEMETRY_INVALID  # NaN too
    if abs(telemetry.yaw_deg) > 360:
        return Reason.YAW_RANGE
    if abs(telemetry.pitch_deg) > 90 or abs(telemetry.roll_deg) > 180:
        return Reason.ATTITUDE_RANGE
    if not MIN_HEIGHT_M <= telemetry.height_agl_m <= MAX_HEIGHT_M:
        return Reason.HEIGHT_RANGE
    return None


def view_from_telemetry(camera: Camera, telemetry: Telemetry) -> View | Reason:
    """Geometry of a frame, or why there is none."""
    fault = telemetry_fault(telemetry)
    if fault is not None:
        return fault
    rotation = enu_from_camera(telemetry.yaw_deg, telemetry.pitch_deg, telemetry.roll_deg)
    optical_axis = rotation[:, 2]
    if -optical_axis[2] < math.cos(math.radians(MAX_TILT_DEG)):
        return Reason.TILT
    range_m = telemetry.height_agl_m / -optical_axis[2]
    return View(
        pixel_from_ground=pixel_from_ground(camera.matrix, rotation, telemetry.height_agl_m),
        center_en_m=(float(range_m * optical_axis[0]), float(range_m * optical_axis[1])),
        gsd_m=float(range_m / math.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1])),
    )


@dataclass(frozen=True)
class Ground:
    """A frame laid on the ground once, from which patches of any heading and scale are cut.

    An error of heading turns what is seen about the point under the drone, an error of height
    stretches it from there: hypotheses about both are similarities of one picture.
    """

    camera: Camera
    view: View  # as the telemetry says
    small: NDArray[np.uint8]  # the frame, averaged down and freed of distortion; BGR or one channel
    pixel_from_small: Array  # (3, 3)

    def patch(
        self, size_px: int, gsd_m: float, turn_deg: float = 0.0, scale: float = 1.0
    ) -> Patch | Reason:
        """North-up patch as if the heading were `turn_deg` more and the height `scale` times."""
        cut = self.cut(size_px, gsd_m, turn_deg, scale)
        if isinstance(cut, Reason):
            return cut
        warped, valid, (east_m, north_m) = cut
        rgb = cv2.cvtColor(warped, cv2.COLOR_BGR2RGB)
        rgb = cv2.bitwise_and(rgb, rgb, mask=valid.view(np.uint8))
        return Patch(
            image=rgb.astype(np.uint8, copy=False),
            valid=valid,
            gsd_m=gsd_m,
            drone_from_center_en_m=(-east_m, -north_m),
        )

    def cut(
        self, size_px: int, gsd_m: float, turn_deg: float = 0.0, scale: float = 1.0
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[float, float]] | Reason:
        """Pixels in the frame's own colours, which of them are valid, and their centre's ground."""
        frame_from_patch, (east, north) = self.frame_from_patch(size_px, gsd_m, turn_deg, scale)
        valid = _seen(frame_from_patch, self.camera, size_px)
        if valid.mean() < MIN_VALID_FRACTION:
            return Reason.FOOTPRINT
        warped = cv2.warpPerspective(
            self.small,
            np.linalg.inv(self.pixel_from_small) @ frame_from_patch,
            (size_px, size_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return warped.astype(np.uint8, copy=False), valid, (east, north)

    def cuts(
        self, size_px: int, gsd_m: float, turn_deg: Array, scale: Array
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """`cut` for turns (T,) and scales (T,) at once, however little of them is valid.

        Returns pixels (T, size_px, size_px, ...) and which of them are valid.
        """
        frame_from_patch = self.frame_from_patches(size_px, gsd_m, turn_deg, scale)
        small_from_patch = np.linalg.inv(self.pixel_from_small) @ frame_from_patch
        pixels = np.empty((len(turn_deg), size_px, size_px, *self.small.shape[2:]), np.uint8)
        for patch, homography in zip(pixels, small_from_patch, strict=True):
            cv2.warpPerspective(
                self.small, homography, (size_px, size_px), patch,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
        return pixels, _seen(frame_from_patch, self.camera, size_px)

    def frame_from_patch(
        self, size_px: int, gsd_m: float, turn_deg: float = 0.0, scale: float = 1.0
    ) -> tuple[Array, tuple[float, float]]:
        """Homography from a patch's pixels to the frame's, (3, 3); the ground in its centre."""
        east, north = turned_scaled(turn_deg, scale)[:2, :2] @ np.array(self.view.center_en_m)
        turns, scales = np.array([turn_deg]), np.array([scale])
        (homography,) = self.frame_from_patches(size_px, gsd_m, turns, scales)
        return homography, (float(east), float(north))

    def frame_from_patches(
        self, size_px: int, gsd_m: float, turn_deg: Array, scale: Array
    ) -> Array:
        """Homographies from patches' pixels to the frame's, (T, 3, 3)."""
        cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
        told = np.zeros((len(turn_deg), 3, 3))  # the ground as told, from that of pixels
        told[:, :2, :2] = np.moveaxis(np.array([[cos, sin], [sin, -cos]]) * (gsd_m / scale), -1, 0)
        middle = np.full(2, (size_px - 1) / 2)
        told[:, :2, 2] = np.array(self.view.center_en_m) - told[:, :2, :2] @ middle
        told[:, 2, 2] = 1
        homographies: Array = self.view.pixel_from_ground @ told
        return homographies

    def turned_rad(self, turn_deg: Array) -> Array:
        """Angles of patches' axes in the frame's, (T,), around their centre: right towards down."""
        homography = self.frame_from_patches(1, 1.0, turn_deg, np.ones(len(turn_deg)))
        at = homography[:, :2, 2] / homography[:, 2:, 2]
        linear = homography[:, :2, :2] - at[:, :, None] * homography[:, 2:, :2]
        angle: Array = np.arctan2(
            linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1]
        )
        return angle

    def center_of_tilted(self, right: float, forward: float) -> Array:
        """The ground in the image's centre if the camera were tilted by these tangents, (2,)."""
        ray = self.camera.matrix @ np.array([right, -forward, 1.0])
        east, north, scale = np.linalg.solve(self.view.pixel_from_ground, ray)
        center: Array = np.array([east, north]) / scale
        return center

    def grey(self) -> "Ground":
        """The same without colours, which costs a third to cut from."""
        small = cv2.cvtColor(self.small, cv2.COLOR_BGR2GRAY)
        return replace(self, small=small.astype(np.uint8, copy=False))

    def coarser(self, gsd_m: float) -> "Ground":
        """The same for patches of a coarser scale: averaged down further, so they do not alias."""
        factor = int(gsd_m / (self.view.gsd_m * self.pixel_from_small[0, 0]))
        small, small_from_smaller = _averaged(self.small, factor)
        return replace(
            self, small=small, pixel_from_small=self.pixel_from_small @ small_from_smaller
        )


def turned_scaled(turn_deg: float, scale: float) -> Array:
    """Ground as it is from ground as the telemetry has it, both from the drone, (3, 3)."""
    cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    # clockwise, as headings count
    return np.array([[scale * cos, scale * sin, 0], [-scale * sin, scale * cos, 0], [0, 0, 1]])


def ground_from_frame(
    image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry, gsd_m: float
) -> Ground | Reason:
    """A frame on the ground, sharp enough for patches of `gsd_m`, or why there is none.

    Args:
        image: (H, W, 3) BGR of the camera's size.
        camera: intrinsics of the image as stored.
        telemetry: attitude and height at mid-exposure.
        gsd_m: metres a pixel of the finest patch that will be cut.
    """
    if image.shape[:2] != (camera.height_px, camera.width_px):
        return Reason.FRAME_SIZE
    view = view_from_telemetry(camera, telemetry)
    if isinstance(view, Reason):
        return view
    return Ground(camera, view, *shrunk(image, camera, int(gsd_m / view.gsd_m)))


def patch_from_frame(
    image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry, size_px: int, gsd_m: float
) -> Patch | Reason:
    """North-up patch of `size_px` at `gsd_m` by the telemetry alone, or why there is none."""
    ground = ground_from_frame(image, camera, telemetry, gsd_m)
    return ground if isinstance(ground, Reason) else ground.patch(size_px, gsd_m)


def shrunk(
    image: NDArray[np.uint8], camera: Camera, factor: int
) -> tuple[NDArray[np.uint8], Array]:
    """The frame averaged over factor x factor pixels and freed of distortion, and its map back."""
    small, pixel_from_small = _averaged(image, factor)
    if camera.is_distorted:
        small_matrix = np.linalg.inv(pixel_from_small) @ camera.matrix
        straight = cv2.undistort(small, small_matrix, camera.distortion)
        small = straight.astype(np.uint8, copy=False)
    return small, pixel_from_small


def _averaged(image: NDArray[np.uint8], factor: int) -> tuple[NDArray[np.uint8], Array]:
    """The picture averaged over factor x factor pixels, and its pixels from the small ones."""
    height, width = image.shape[:2]
    factor = max(1, min(factor, width, height))  # at least one pixel is left
    size = (width // factor, height // factor)
    small = image
    if factor > 1:
        cropped = image[: size[1] * factor, : size[0] * factor]
        small = cv2.resize(cropped, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    shift = (factor - 1) / 2  # centre of a small pixel, in pixels of the picture
    return small, np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]], float)


def _seen(frame_from_patch: Array, camera: Camera, size_px: int) -> NDArray[np.bool_]:
    """Patch pixels whose ground point projects into the frame, (..., size_px, size_px)."""
    index = np.arange(size_px, dtype=np.float64)
    along, down, start = (frame_from_patch[..., part, None, None] for part in range(3))
    x, y, depth = (
        along[..., line, :, :] * index + down[..., line, :, :] * index[:, None]
        + start[..., line, :, :]
        for line in range(3)
    )  # fmt: skip
    seen: NDArray[np.bool_] = (
        (depth > 0)
        & (x >= 0) & (x <= (camera.width_px - 1) * depth)
        & (y >= 0) & (y <= (camera.height_px - 1) * depth)
    )  # fmt: skip
    return seen
