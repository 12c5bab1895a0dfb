"""How flat ground moves between two frames: a similarity, and the tilt that no log tells.

    ground points     x = (right, forward) from below the camera, in heights above ground
    one frame         x* = x seen along rays turned by its unknown tilt, from the image's centre
    two frames        x1* = ratio R(turn) x2* + shift

In heights, `ratio` is that of the true heights and `shift` the motion of the image's centre,
whatever height the telemetry claims. The eight parameters are fitted to tracked points by
Gauss-Newton with Tukey's weights. A prior on the tilts decides what parallax cannot tell, and
hands its share of doubt to the covariance of the rest.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Blocks = NDArray[np.intp]

SHIFT = slice(0, 2)  # right, forward, in heights of the first frame
TURN = 2  # radians, clockwise
LOG_RATIO = 3  # log of second height / first height
TILTS = slice(4, 8)  # right, forward of the first frame, then of the second; tangents
TILT = slice(6, 8)  # of the second frame
COUNT = 8

TILT_STD = float(np.tan(np.radians(4)))  # simulated flights have 2 degrees, fengyuan A 8 to 9
STEP = 1e-6  # of the numerical derivative; parameters are of the order of one
ITERATIONS = 4
TUKEY = 4.685  # standard deviations: 95 % efficient for normal errors
MEDIAN_RADIUS = float(np.sqrt(np.log(4)))  # median length of a plane error, in std of one axis


@dataclass(frozen=True)
class PlanarFit:
    """What two frames' tracks lead to."""

    parameters: Array  # (8,), see the indices above
    covariance: Array  # (8, 8), `effect` times that of independent errors
    effect: float
    inliers: NDArray[np.bool_]  # (n,)


def second_from_first(parameters: Array, centers: Array) -> Array:
    """Homographies from ground points of the first frame to those of the second, (..., 3, 3).

    Args:
        parameters: (..., 8).
        centers: (2, 2) ground point in each image's centre, as the telemetry has it.
    """
    tilts = parameters[..., TILTS].reshape(*parameters.shape[:-1], 2, 2)
    star = _star_from_ground(tilts, centers)
    right, forward, turn, log_ratio = (parameters[..., index] for index in range(4))
    move = np.zeros((*parameters.shape[:-1], 3, 3))
    cos, sin = np.cos(turn), np.sin(turn)
    move[..., 0, 0], move[..., 0, 1] = cos, -sin
    move[..., 1, 0], move[..., 1, 1] = sin, cos
    move[..., 0, 2] = sin * forward - cos * right
    move[..., 1, 2] = -sin * right - cos * forward
    move[..., 2, 2] = np.exp(log_ratio)
    homography: Array = np.linalg.inv(star[..., 1, :, :]) @ move @ star[..., 0, :, :]
    return homography


def _star_from_ground(tilts: Array, centers: Array) -> Array:
    """Ground as it is, from the image's centre, for ground as the telemetry has it.

    Args:
        tilts: (..., 2) tangents; the shortest rotation from straight down to them turns all rays.
        centers: (..., 2) ground points that become the origin.
    """
    norm = np.sqrt(1 + (tilts**2).sum(axis=-1))[..., None]
    aside, down = tilts / norm, 1 / norm[..., 0]
    star = np.empty((*tilts.shape[:-1], 3, 3))
    outer = aside[..., :, None] * aside[..., None, :]
    star[..., :2, :2] = np.eye(2) - outer / (1 + down[..., None, None])
    star[..., :2, 2], star[..., 2, :2], star[..., 2, 2] = aside, -aside, down
    center = (star[..., :2] @ centers[..., None])[..., 0] + star[..., 2]
    star[..., :2, :] -= (center[..., :2] / center[..., 2:])[..., None] * star[..., None, 2, :]
    return star


def moved(homography: Array, points: Array) -> Array:
    """Points (n, 2) through homographies (..., 3, 3): (..., n, 2)."""
    raised = points @ np.swapaxes(homography[..., :2], -1, -2) + homography[..., None, :, 2]
    flat: Array = raised[..., :2] / raised[..., 2:]
    return flat


def similarity_from_tracks(first: Array, second: Array, tolerance: float) -> Array | None:
    """Parameters (8,) of the similarity that most tracks agree with, by RANSAC.

    Args:
        first: (n, 2) ground points from the image's centre.
        second: (n, 2) the same points in the second frame.
        tolerance: distance within which a track agrees, wide enough for unknown tilt.
    """
    affine, _ = cv2.estimateAffinePartial2D(
        second, first, method=cv2.RANSAC, ransacReprojThreshold=tolerance
    )
    if affine is None or not np.isfinite(affine).all():
        return None
    cos, sin = affine[0, :2]
    if cos == sin == 0:
        return None
    parameters = np.zeros(COUNT)
    parameters[SHIFT] = affine[:, 2]
    parameters[TURN], parameters[LOG_RATIO] = np.arctan2(sin, cos), np.log(np.hypot(cos, sin))
    return parameters


def planar_fit(
    first: Array, second: Array, centers: Array, start: Array, tolerance: float, blocks: Blocks
) -> PlanarFit | None:
    """All eight parameters from tracks; None where too few agree.

    Args:
        first: (n, 2) ground points.
        second: (n, 2) the same points in the second frame.
        centers: (2, 2) ground point in each image's centre.
        start: (8,) parameters to start from.
        tolerance: distance beyond which a track is wrong at the start.
        blocks: (n,) part of the picture that a track begins in; errors are correlated within.
    """
    parameters, std = start, tolerance / TUKEY
    prior = np.zeros(COUNT)
    prior[TILTS] = 1 / TILT_STD**2
    for _ in range(ITERATIONS):
        error, slope = _linearised(parameters, first, second, centers)
        inlying = _tukey(error, std) > 0
        if np.count_nonzero(inlying) < COUNT:
            return None
        radius = np.median(np.linalg.norm(error[inlying], axis=1))
        std = max(float(radius) / MEDIAN_RADIUS, tolerance * 1e-3)
        weight = _tukey(error, std)
        weighted = (slope * weight[:, None, None] / std**2).reshape(-1, COUNT)
        information = weighted.T @ slope.reshape(-1, COUNT) + np.diag(prior)
        gradient = weighted.T @ error.ravel() - prior * parameters
        parameters = parameters + np.linalg.solve(information, gradient)
    effect = _design_effect(error * weight[:, None], blocks)
    return PlanarFit(parameters, np.linalg.inv(information) * effect, effect, weight > 0)


def _linearised(
    parameters: Array, first: Array, second: Array, centers: Array
) -> tuple[Array, Array]:
    """Errors (n, 2) of the second points, and what the parameters do to their model (n, 2, 8)."""
    nearby = np.concatenate([parameters[None], parameters + STEP * np.eye(COUNT)])
    model = moved(second_from_first(nearby, centers), first)
    slope = (model[1:] - model[0]).transpose(1, 2, 0) / STEP
    return second - model[0], slope


def _tukey(error: Array, std: float) -> Array:
    """Weights (n,) that fall to zero at 4.685 standard deviations."""
    share = (error**2).sum(axis=1) / (TUKEY * std) ** 2
    weight: Array = np.where(share < 1, (1 - share) ** 2, 0.0)
    return weight


def _design_effect(error: Array, blocks: Blocks) -> float:
    """How much more the blocks' sums scatter than those of independent errors; 1 at least.

    Relief, a rolling shutter and video compression move neighbours alike. On nust it is about 3.
    """
    sums = np.stack([np.bincount(blocks, column) for column in error.T])
    terms = 2 * np.unique(blocks).size
    scatter = (sums**2).sum() / max((error**2).sum(), np.finfo(float).tiny)
    return max(1.0, float(scatter) * terms / max(terms - COUNT, 1))
