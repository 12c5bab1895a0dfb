"""Dense alignment: a template moved, turned and scaled until it fits the map best.

The map is sampled through a similarity W of the template's pixels and compared with it, both at
zero mean and unit variance. One Gauss-Newton step with the template's own gradients serves every
iteration (inverse composition):

    W <- W o W(d)^-1,    d = H^-1 J^T (I(W) - rho T),    H = J^T J

S. Baker, I. Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 2004, with the gain
and bias of G. Evangelidis, E. Psarakis, "Parametric Image Alignment Using Enhanced Correlation
Coefficient Maximization", PAMI 2008. What is left unexplained, 1 - rho^2, and H say how well the
place, the heading and the height are known.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .chart import Window
from .template import Grey, Template

MIN_CORRELATION = 0.2  # a step is no longer than at this; below, the surface is no paraboloid
MAX_STEP_PX = 2.0  # at the template's rim, an iteration
SETTLED_PX = 0.05
MIN_DECORRELATION = 0.05  # a perfect fit is still one of pixels
DAMPING = 1e-3  # of H's mean diagonal, or of one: ground of stripes says nothing along them
# What a camera sees differs from the map in patches, not in pixels: so many pixels of 2 m share
# one error. Set so that simulated flights lie in their ellipses (benchmarks/calibrate_belief.py).
CORRELATED_PX = 100.0

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class Jacobian:
    """A template's side of the normal equations, over its N inner valid pixels."""

    pixels: NDArray[np.int64]  # (N,) flat indices
    values: Grey  # (N,) zero mean, unit variance
    steepest: Grey  # (N, 4) change of the values by x, y, turn, log scale; in pixels at the rim
    inverse: Array  # (4, 4) of H, damped
    rim_px: float


def aligned(window: Window, template: Template, start: Pose, iterations: int) -> Alignment:
    """Fit a template around a start within a few pixels, degrees and percent of the truth."""
    jacobian = jacobian_of(template)
    linear, offset_px = np.eye(2), _pixel_from_pose(window, start)
    best = -2.0
    kept = (linear, offset_px)
    for _ in range(iterations + 1):
        seen = _sampled(window.grey, linear, offset_px, template.mask.shape[0], jacobian.pixels)
        correlation = float(jacobian.values @ seen) / len(seen)
        if correlation <= best:  # the last step led nowhere
            break
        best, kept = correlation, (linear, offset_px)
        step_px = _step(jacobian, seen, correlation)
        linear, offset_px = _composed(linear, offset_px, step_px, jacobian.rim_px)
        if np.abs(step_px).max() < SETTLED_PX:
            break
    return _alignment(window, template, jacobian, *kept, best)


def jacobian_of(template: Template) -> Jacobian:
    """Gradients by central differences, so the outermost pixels of the mask are left out."""
    side = template.mask.shape[0]
    inner = cv2.erode(
        template.mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    pixels = np.flatnonzero(inner)
    rim_px = (side - 1) / 2
    row, column = np.divmod(pixels, side)
    x, y = ((index - rim_px).astype(np.float32) / np.float32(rim_px) for index in (column, row))
    values = template.centred.ravel()[pixels]
    values = values - values.mean()
    std = max(float(values.std()), 1e-6)
    flat = template.centred.ravel()
    right = (flat[pixels + 1] - flat[pixels - 1]) / np.float32(2 * std)
    down = (flat[pixels + side] - flat[pixels - side]) / np.float32(2 * std)
    steepest = np.stack([right, down, down * x - right * y, right * x + down * y], axis=1)
    steepest -= steepest.mean(axis=0)
    normal = (steepest.T @ steepest).astype(np.float64)
    damped = normal + np.eye(4) * DAMPING * max(float(np.trace(normal)) / 4, 1.0)
    return Jacobian(pixels, values / np.float32(std), steepest, np.linalg.inv(damped), rim_px)


def _sampled(
    grey: Grey, linear: Array, offset_px: Array, side: int, pixels: NDArray[np.int64]
) -> Grey:
    """The map under the template's pixels, (N,) zero mean, unit variance."""
    corner = offset_px - linear @ np.full(2, (side - 1) / 2)
    picture = cv2.warpAffine(
        grey, np.column_stack([linear, corner]), (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    seen = picture.ravel()[pixels].astype(np.float32, copy=False)
    seen = seen - seen.mean()
    return np.asarray(seen / np.float32(max(float(seen.std()), 1e-6)), np.float32)


def _step(jacobian: Jacobian, seen: Grey, correlation: float) -> Array:
    """Pixels at the rim by which x, y, turn and scale of the template are off."""
    gain = max(correlation, MIN_CORRELATION)
    residual = seen - np.float32(correlation) * jacobian.values
    step: Array = jacobian.inverse @ (jacobian.steepest.T @ residual).astype(np.float64) / gain
    return np.clip(step, -MAX_STEP_PX, MAX_STEP_PX)


def _composed(
    linear: Array, offset_px: Array, step_px: Array, rim_px: float
) -> tuple[Array, Array]:
    """W o W(d)^-1 of similarities."""
    turn, log_scale = step_px[2:] / rim_px
    change = np.array([[1 + log_scale, -turn], [turn, 1 + log_scale]])
    linear = linear @ np.linalg.inv(change)
    return linear, offset_px - linear @ step_px[:2]


def _pixel_from_pose(window: Window, pose: Pose) -> Array:
    """Column and row in the window of a pose's place."""
    middle = (np.array(window.grey.shape[::-1]) - 1) / 2
    shift = np.array([pose.east_m - window.east_m, window.north_m - pose.north_m])
    return np.asarray(middle + shift / window.gsd_m, np.float64)


def _alignment(
    window: Window, template: Template, jacobian: Jacobian, linear: Array, offset_px: Array,
    correlation: float,
) -> Alignment:  # fmt: skip
    middle = (np.array(window.grey.shape[::-1]) - 1) / 2
    east_px, south_px = offset_px - middle
    log_scale = math.log(max(abs(float(np.linalg.det(linear))), 1e-6)) / 2
    pose = Pose(
        east_m=window.east_m + float(east_px) * window.gsd_m,
        north_m=window.north_m - float(south_px) * window.gsd_m,
        turn_deg=template.turn_deg + math.degrees(math.atan2(linear[1, 0], linear[0, 0])),
        log_scale=template.log_scale + log_scale,
    )
    rim = jacobian.rim_px
    units = np.array([window.gsd_m, -window.gsd_m, math.degrees(1 / rim), 1 / rim])
    unexplained = (
        max(1 - correlation**2, MIN_DECORRELATION) / max(correlation, MIN_CORRELATION) ** 2
    )
    cov = CORRELATED_PX * unexplained * jacobian.inverse * np.outer(units, units)
    return Alignment(pose, correlation, cov)
