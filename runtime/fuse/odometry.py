"""Visual odometry: how the image's centre has moved over the ground between two frames.

    frame -> Look: a small picture of local contrast, and where its pixels lie on the ground
    two Looks -> a start (the shift that correlates best, else matched keypoints)
              -> second picture laid over the first -> optical flow -> planar fit
              -> laid over once more: do they agree there, and nowhere else? -> Motion

Everything is measured along the first camera's own axes and in heights above ground: a wrong
heading turns the motion, a wrong height stretches it, and neither makes it wrong in itself.

On one x86 core a Look takes 0.7 ms (852 x 480) to 1.8 ms (2000 x 1125), a Motion 4.5 ms, and 9 ms
more where keypoints have to help. What is stuck to the lens is taken for a hovering drone where
nothing else can be seen: in fog, a motion of nothing may be dirt.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sense.camera import Camera
from ..sense.ortho import shrunk, view_from_telemetry
from ..types import Reason, Telemetry
from .overlay import Grey, agreement_and_rival, best_shift_px, correlation, local_contrast
from .planar import (
    COUNT,
    LOG_RATIO,
    SHIFT,
    TILT,
    TURN,
    PlanarFit,
    moved,
    planar_fit,
    second_from_first,
    similarity_from_tracks,
)

Array = NDArray[np.float64]

LONG_SIDE_PX = 256  # at least, of the small picture
CORNERS = 100
CORNER_QUALITY = 0.02  # of the best corner
CORNER_SPACING_PX = 10
FLOW_WINDOW_PX = 11
FLOW_LEVELS = 2  # halvings: a turn of 20 degrees is 40 pixels in the corners
FLOW_STOP = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 10, 0.02)  # steps, pixels
RETURN_PX = 0.7  # a track followed there and back ends this close to where it began
TOLERANCE_PX = 4.0  # keystone of 3 degrees of unknown tilt in the corners
KEYPOINTS = 500
KEYPOINT_RATIO = 0.85  # of the distances to the best and the second best match
BLOCKS = (4, 3)  # columns, rows of the picture whose errors are independent of each other
BIAS_PX = 0.025  # of a whole picture; nust in steps of 1, 10 and 30 frames differs by that a step
MIN_INLIERS = 15
MIN_SHARE = 0.4  # of the tracks; towns seen from low, half of it beyond the picture, have 0.5
MIN_AGREEMENT = 0.3  # correlation: fengyuan A has 0.36 at least, other places 0.17 at most
MAX_RIVAL = 0.6  # of the agreement: nust's streets have 0.5, equal fields 0.95


@dataclass(frozen=True)
class Look:
    """A frame reduced to what odometry needs of it."""

    contrast: Grey  # (h, w) see overlay.py
    ground_from_pixel: Array  # (3, 3) pixels of it -> right, forward from the drone, in heights
    center: Array  # (2,) ground point in the image's centre, in heights
    height_m: float  # as the telemetry claims
    pixel: float  # one pixel in the centre, in heights


@dataclass(frozen=True)
class Motion:
    """How the image's centre moved, along the axes of the first frame's telemetry heading."""

    right_m: float  # where the first frame's height is what its telemetry claims
    forward_m: float
    cov_m2: Array  # (2, 2) right, forward
    turn_deg: float  # of the camera's heading, clockwise; the telemetry's turn is not used
    turn_std_deg: float
    log_scale: float  # log of second true height / first; the telemetry's heights are not used
    log_scale_std: float
    inliers: int
    share: float  # of the tracks
    tilt: Array  # (2,) of the second frame's camera, as in planar.py, with that prior
    tilt_cov: Array  # (2, 2), `effect` times that of independent errors
    effect: float

    def center_en_m(self, yaw_deg: float, scale: float = 1.0) -> tuple[float, float]:
        """East and north for the first frame's true heading and true height / claimed height."""
        cos, sin = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
        east = cos * self.right_m + sin * self.forward_m
        north = cos * self.forward_m - sin * self.right_m
        return scale * east, scale * north


@dataclass(frozen=True)
class Tracks:
    """The same points in two frames, as ground points of each in heights."""

    first: Array  # (n, 2)
    second: Array  # (n, 2)
    blocks: NDArray[np.intp]  # (n,) part of the first picture


def look_from_frame(
    image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry
) -> Look | Reason:
    """A frame as odometry keeps it, or why it is of no use."""
    if image.shape[:2] != (camera.height_px, camera.width_px):
        return Reason.FRAME_SIZE
    view = view_from_telemetry(camera, replace(telemetry, yaw_deg=0.0))
    if isinstance(view, Reason):
        return view
    factor = max(1, max(camera.width_px, camera.height_px) // LONG_SIDE_PX)
    small, pixel_from_small = shrunk(image, camera, factor)
    height_m = telemetry.height_agl_m
    in_heights = np.diag([1, 1, height_m])  # homogeneous: divides metres by the height
    return Look(
        contrast=local_contrast(_grey(small), _seen_through_lens(camera, factor)),
        ground_from_pixel=in_heights @ np.linalg.inv(view.pixel_from_ground) @ pixel_from_small,
        center=np.array(view.center_en_m) / height_m,
        height_m=height_m,
        pixel=view.gsd_m * factor / height_m,
    )


def motion_between(first: Look, second: Look) -> Motion | None:
    """The motion from the first frame to the second; None where it cannot be trusted."""
    for start_from in (_start_from_correlation, _start_from_keypoints):
        start = start_from(first, second)
        fit, tracks = (None, None) if start is None else _followed(first, second, start)
        if fit is not None and tracks is not None and _is_clear(first, second, fit, tracks):
            return _motion(first, second, fit, tracks)
    return None


def _start_from_correlation(first: Look, second: Look) -> Array:
    """Parameters of the shift at which the pictures fit best, without a turn."""
    start = np.zeros(COUNT)
    start[LOG_RATIO] = math.log(second.height_m / first.height_m)
    field = correlation(first.contrast, _laid_over(first, second, start))
    middle_px = (np.array([first.contrast.shape[::-1]]) - 1) / 2
    shifted_px = middle_px + best_shift_px(field)
    both = moved(first.ground_from_pixel, np.concatenate([middle_px, shifted_px]))
    start[SHIFT] = both[0] - both[1]
    return start


def _start_from_keypoints(first: Look, second: Look) -> Array | None:
    """Parameters of the similarity that ORB keypoints agree on, whatever the turn."""
    detector = cv2.ORB_create(KEYPOINTS, edgeThreshold=15, fastThreshold=10, nlevels=4)  # type: ignore[attr-defined]  # missing in OpenCV's own stubs
    points_1, words_1 = detector.detectAndCompute(first.contrast, None)
    points_2, words_2 = detector.detectAndCompute(second.contrast, None)
    if len(points_1) < MIN_INLIERS or len(points_2) < MIN_INLIERS:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(words_1, words_2, k=2)
    best = [near for near, far in pairs if near.distance < KEYPOINT_RATIO * far.distance]
    if len(best) < 6:
        return None
    pixels_1 = np.array([points_1[match.queryIdx].pt for match in best])
    pixels_2 = np.array([points_2[match.trainIdx].pt for match in best])
    return similarity_from_tracks(
        moved(first.ground_from_pixel, pixels_1) - first.center,
        moved(second.ground_from_pixel, pixels_2) - second.center,
        TOLERANCE_PX * second.pixel,
    )


def _followed(first: Look, second: Look, start: Array) -> tuple[PlanarFit | None, Tracks | None]:
    """Optical flow from a start, and the fit to it."""
    tracks = _tracks(first, second, start)
    if tracks is None:
        return None, None
    centers, tolerance = np.stack([first.center, second.center]), TOLERANCE_PX * second.pixel
    rough = similarity_from_tracks(
        tracks.first - first.center, tracks.second - second.center, tolerance
    )
    if rough is None:
        return None, None
    fit = planar_fit(tracks.first, tracks.second, centers, rough, tolerance, tracks.blocks)
    return fit, tracks


def _tracks(first: Look, second: Look, start: Array) -> Tracks | None:
    """Corners of the first picture followed into the second laid over it, and back."""
    over = _laid_over(first, second, start)
    window = np.ones((FLOW_WINDOW_PX, FLOW_WINDOW_PX), np.uint8)
    inside = cv2.erode(np.minimum(over, first.contrast), window)  # 0 where a window holds a 0
    corners = cv2.goodFeaturesToTrack(
        first.contrast, CORNERS, CORNER_QUALITY, CORNER_SPACING_PX, mask=inside
    )
    if corners is None or len(corners) < MIN_INLIERS:
        return None
    begin = corners.astype(np.float32)
    there, arrived = _flow(first.contrast, over, begin)
    back, returned = _flow(over, first.contrast, there)
    home = np.linalg.norm(back - begin, axis=2)[:, 0] < RETURN_PX
    kept = arrived & returned & home
    if np.count_nonzero(kept) < MIN_INLIERS:
        return None
    begin_px, end_px = begin[kept, 0].astype(float), there[kept, 0].astype(float)
    cell = begin_px * BLOCKS // np.array(first.contrast.shape[::-1])
    laid = _second_from_first(first, second, start)
    return Tracks(
        first=moved(first.ground_from_pixel, begin_px),
        second=moved(second.ground_from_pixel, moved(laid, end_px)),
        blocks=(cell[:, 1] * BLOCKS[0] + cell[:, 0]).astype(np.intp),
    )


def _flow(
    first: Grey, second: Grey, points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points (n, 1, 2) of the first picture lie in the second, and which were found (n,)."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, np.empty_like(points),
        winSize=(FLOW_WINDOW_PX, FLOW_WINDOW_PX), maxLevel=FLOW_LEVELS, criteria=FLOW_STOP,
    )  # fmt: skip
    return there.astype(np.float32, copy=False), found[:, 0].astype(bool)


def _is_clear(first: Look, second: Look, fit: PlanarFit, tracks: Tracks) -> bool:
    """Whether most tracks agree, and the pictures where these put them, and nowhere else."""
    inliers = np.count_nonzero(fit.inliers)
    if inliers < MIN_INLIERS or inliers < MIN_SHARE * len(tracks.first):
        return False
    field = correlation(first.contrast, _laid_over(first, second, fit.parameters))
    agreement, rival = agreement_and_rival(field)
    return agreement >= MIN_AGREEMENT and rival <= MAX_RIVAL * agreement


def _motion(first: Look, second: Look, fit: PlanarFit, tracks: Tracks) -> Motion:
    """A fit in metres and degrees, with the bias that all tracks of a picture share."""
    inliers = np.count_nonzero(fit.inliers)
    reach = np.linalg.norm(tracks.first[fit.inliers].std(axis=0))  # lever of turn and scale
    bias = BIAS_PX * second.pixel * np.array([1, 1, 1 / reach, 1 / reach])
    covariance = fit.covariance[:4, :4] + np.diag(bias**2)
    std = np.sqrt(np.diag(covariance))
    right, forward = fit.parameters[SHIFT] * first.height_m
    return Motion(
        right_m=float(right),
        forward_m=float(forward),
        cov_m2=covariance[SHIFT, SHIFT] * first.height_m**2,
        turn_deg=math.degrees(math.remainder(fit.parameters[TURN], 2 * math.pi)),
        turn_std_deg=math.degrees(std[TURN]),
        log_scale=float(fit.parameters[LOG_RATIO]),
        log_scale_std=float(std[LOG_RATIO]),
        inliers=int(inliers),
        share=float(inliers / len(tracks.first)),
        tilt=fit.parameters[TILT],
        tilt_cov=fit.covariance[TILT, TILT],
        effect=fit.effect,
    )


def _laid_over(first: Look, second: Look, parameters: Array) -> Grey:
    """The second picture in the first one's pixels, 0 where it is not seen."""
    pixels = _second_from_first(first, second, parameters)
    size = (first.contrast.shape[1], first.contrast.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    over = cv2.warpPerspective(second.contrast, pixels, size, flags=flags)
    return over.astype(np.uint8, copy=False)


def _second_from_first(first: Look, second: Look, parameters: Array) -> Array:
    """Homography between the pixels of two small pictures, (3, 3)."""
    ground = second_from_first(parameters, np.stack([first.center, second.center]))
    pixels: Array = np.linalg.inv(second.ground_from_pixel) @ ground @ first.ground_from_pixel
    return pixels


def _grey(small: NDArray[np.uint8]) -> Grey:
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def _seen_through_lens(camera: Camera, factor: int) -> NDArray[np.bool_] | None:
    """Pixels of the small picture that an undistorted frame fills; None: all of them."""
    if not camera.is_distorted:
        return None
    white = np.full((camera.height_px // factor, camera.width_px // factor), 255, np.uint8)
    matrix = np.diag([1 / factor, 1 / factor, 1]) @ camera.matrix
    seen: NDArray[np.bool_] = cv2.undistort(white, matrix, camera.distortion) > 254
    return seen
