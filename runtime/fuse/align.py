"""Dense alignment: a template moved, turned and scaled until it fits the map best.

The map is sampled through a similarity W of the template's pixels and compared with it. One
Gauss-Newton step with the template's own gradients serves every iteration (inverse composition):

    W <- W o W(d)^-1,    d: what the template is off by (gauss_newton.py)

S. Baker, I. Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 2004, with the gain
and bias of G. Evangelidis, E. Psarakis, "Parametric Image Alignment Using Enhanced Correlation
Coefficient Maximization", PAMI 2008. What is left unexplained, 1 - rho^2, and H say how well the
place, the heading and the height are known.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis
from .chart import Window
from .gauss_newton import MIN_CORRELATION, compared, jacobian_of
from .template import Signed, Template

SETTLED_PX = 0.05
MIN_DECORRELATION = 0.05  # a perfect fit is still one of pixels
# Pixels that share one error: few where the map is seen as it is, and the more the less it fits.
# Places of simulated flights over exact maps lie in their ellipses with these.
CORRELATED_PX, CORRELATED_PX_UNEXPLAINED = 5.0, 7.5

Array = NDArray[np.float64]
NONE = np.empty(0)


@dataclass(frozen=True)
class Pose:
    """Where a template lies on the map, and how it has to be turned and scaled there."""

    east_m: float  # of the template's centre
    north_m: float
    turn_deg: float  # beyond the telemetry's heading
    log_scale: float  # of the height over the telemetry's


@dataclass(frozen=True)
class Alignment:
    """The best fit."""

    pose: Pose
    correlation: float  # -1..1
    cov: Array  # (4, 4) of east_m, north_m, turn_deg, log_scale


def aligned(window: Window, template: Template, start: Pose, iterations: int) -> Alignment:
    """Fit a template around a start within a few pixels, degrees and percent of the truth."""
    jacobian = jacobian_of([template]).of(0)
    levels = window.levels.astype(np.float32)
    linear, offset_px = np.eye(2), pixel_from_pose(window, start)
    best = -2.0
    kept = (linear, offset_px)
    for _ in range(iterations + 1):
        seen = _sampled(levels, linear, offset_px, template.mask.shape[0])
        correlation, step_px = compared(jacobian, seen)
        if correlation <= best:  # the last step led nowhere
            break
        best, kept = float(correlation), (linear, offset_px)
        linear, offset_px = composed(linear, offset_px, step_px, jacobian.rim_px)
        if np.abs(step_px).max() < SETTLED_PX:
            break
    pose = pose_from_pixel(window, template, *kept)
    cov = covariance_of(jacobian.inverse, jacobian.rim_px, window.gsd_m, noise_of(best))
    return Alignment(pose, best, cov)


def noise_of(correlation: float) -> float:
    """Variance of a pixel's error, times the pixels that share one."""
    noise = unexplained(correlation)
    return (CORRELATED_PX + CORRELATED_PX_UNEXPLAINED * noise) * noise


def unexplained(correlation: float) -> float:
    """Variance of what the map does not show of the template, in variances of what it shows."""
    left = max(1 - correlation**2, MIN_DECORRELATION)
    return left / max(correlation, MIN_CORRELATION) ** 2


def _sampled(levels: Signed, linear: Array, offset_px: Array, side: int) -> Signed:
    """The map under the template's pixels, (N,)."""
    corner = offset_px - linear @ np.full(2, (side - 1) / 2)
    picture = cv2.warpAffine(
        levels, np.column_stack([linear, corner]), (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return picture.astype(np.float32, copy=False).ravel()


def composed(linear: Array, offset_px: Array, step_px: Array, rim_px: float) -> tuple[Array, Array]:
    """W o W(d)^-1 of similarities (..., 2, 2) with centres (..., 2), by steps (..., 4)."""
    turn, grown = step_px[..., 2] / rim_px, 1 + step_px[..., 3] / rim_px
    back = np.array([[grown, turn], [-turn, grown]]) / (grown * grown + turn * turn)
    linear = linear @ np.moveaxis(back, (0, 1), (-2, -1))
    return linear, offset_px - (linear @ step_px[..., :2, None])[..., 0]


def pixel_from_pose(window: Window, pose: Pose) -> Array:
    """Column and row in the window of a pose's place."""
    middle = (np.array(window.levels.shape[1::-1]) - 1) / 2
    shift = np.array([pose.east_m - window.east_m, window.north_m - pose.north_m])
    return np.asarray(middle + shift / window.gsd_m, np.float64)


def pose_from_pixel(window: Window, template: Template, linear: Array, offset_px: Array) -> Pose:
    """The pose of a template whose pixels lie there in the window."""
    middle = (np.array(window.levels.shape[1::-1]) - 1) / 2
    east_px, south_px = offset_px - middle
    log_scale = math.log(max(abs(float(np.linalg.det(linear))), 1e-6)) / 2
    return Pose(
        east_m=window.east_m + float(east_px) * window.gsd_m,
        north_m=window.north_m - float(south_px) * window.gsd_m,
        turn_deg=template.turn_deg + math.degrees(math.atan2(linear[1, 0], linear[0, 0])),
        log_scale=template.log_scale + log_scale,
    )


def pose_of(place: Hypothesis) -> Pose:
    """Where a hypothesis lies."""
    return Pose(place.east_m, place.north_m, place.turn_deg, place.log_scale)


def posed(place: Hypothesis, found: Alignment) -> Hypothesis:
    """A hypothesis moved to where its picture fits; as sure as that, and as it may have slid."""
    return replace(
        place,
        east_m=found.pose.east_m,
        north_m=found.pose.north_m,
        turn_deg=(found.pose.turn_deg + 180) % 360 - 180,
        log_scale=found.pose.log_scale,
        correlation=found.correlation,
        cov_en_m2=found.cov[:2, :2] + place.slide_en_m2,
        attitude_cov=found.cov[2:, 2:],
    )


def covariance_of(
    inverse: Array, rim_px: float, gsd_m: float, noise: float, further: Array = NONE
) -> Array:
    """Of east_m, north_m, turn_deg, log_scale and further parameters of these units, (P, P).

    `inverse` is that of H, `noise` the variance of a pixel's error, times the pixels that share it.
    """
    units = np.concatenate([units_of(rim_px, gsd_m), further])
    cov: Array = noise * inverse * np.outer(units, units)
    return cov


def units_of(rim_px: float, gsd_m: float) -> Array:
    """East_m, north_m, turn_deg and log_scale of a step of one pixel at the rim, (4,)."""
    return np.array([gsd_m, -gsd_m, math.degrees(1 / rim_px), 1 / rim_px])
