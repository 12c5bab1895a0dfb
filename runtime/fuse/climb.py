"""Many swept places at once, moved, turned and scaled to where they fit better.

The steps of align.py, a few of them at the sweep's scale and for all places in one array: a search
climbs from up to 192. What would climb onto other ground, or into a worse fit,
stays where it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis
from .align import (
    DAMPING,
    MAX_STEP_PX,
    MIN_CORRELATION,
    SETTLED_PX,
    Alignment,
    composed,
    covariance_of,
    noise_of,
    pixel_from_pose,
    pose_from_pixel,
    pose_of,
    posed,
)
from .scales import Scale
from .structure import CHANNELS
from .template import Cuts, Template

ITERATIONS = 3
MARGIN_PX = 6  # of map around a template: it shifts, turns and grows
MAX_CLIMB_PX = 3.0  # beyond, it has slid to other ground

Array = NDArray[np.float64]
Pixels = NDArray[np.float32]
Index = NDArray[np.intp]


def climbed(places: Sequence[Hypothesis], cuts: Cuts, scale: Scale) -> list[Hypothesis]:
    """The places, in their order, at the better fits within reach."""
    attitudes = list(dict.fromkeys((place.turn_deg, place.log_scale) for place in places))
    cut = zip(attitudes, cuts.of(attitudes), strict=True)
    shown = {attitude: template for attitude, template in cut if template is not None}
    climbing = [k for k, place in enumerate(places) if (place.turn_deg, place.log_scale) in shown]
    if not climbing:
        return list(places)
    templates = list(shown.values())
    number = {attitude: index for index, attitude in enumerate(shown)}
    which = np.array([number[places[k].turn_deg, places[k].log_scale] for k in climbing])
    windows = [scale.around(places[k], MARGIN_PX) for k in climbing]
    starts = [
        pixel_from_pose(window, pose_of(places[k]))
        for k, window in zip(climbing, windows, strict=True)
    ]
    slopes = _slopes_of(templates)
    levels = np.stack([window.levels for window in windows]).astype(np.float32)
    fits = _climb(levels, slopes, which, np.array(starts))
    found = list(places)
    for k, window, start, index, (linear, offset_px, correlation) in zip(
        climbing, windows, starts, which, fits, strict=True
    ):
        near = math.hypot(*(offset_px - start)) <= MAX_CLIMB_PX
        if near and correlation > places[k].correlation:
            pose = pose_from_pixel(window, templates[index], linear, offset_px)
            inverse, rim_px = slopes.inverse[index], slopes.rim_px
            cov = covariance_of(inverse, rim_px, scale.gsd_m, noise_of(correlation))
            found[k] = posed(places[k], Alignment(pose, correlation, cov))
    return found


@dataclass(frozen=True)
class _Slopes:
    """T templates' sides of the normal equations, over the C values of all N pixels."""

    inner: Pixels  # (T, N C) 1 where a valid pixel has valid neighbours
    values: Pixels  # (T, N C) of no mean and unit mean square, 0 where not inner
    steepest: Pixels  # (T, 4, N C) change of the values by x, y, turn, log scale, at the rim
    inverse: Array  # (T, 4, 4) of H, damped
    x: Pixels  # (N,) of the pixels, the rim's being one
    y: Pixels
    rim_px: float


def _slopes_of(templates: Sequence[Template]) -> _Slopes:
    """`jacobian_of` for many templates."""
    levels = np.stack([template.levels for template in templates])
    kernel = np.ones((3, 3), np.uint8)
    eroded = np.stack([
        cv2.erode(template.mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        for template in templates
    ])  # fmt: skip
    count, side, _, channels = levels.shape
    slopes = np.zeros((2, *levels.shape), np.float32)
    slopes[0, :, :, 1:-1] = (levels[:, :, 2:] - levels[:, :, :-2]) / 2
    slopes[1, :, 1:-1] = (levels[:, 2:] - levels[:, :-2]) / 2
    inner: Pixels = np.repeat(eroded.reshape(count, -1), channels, axis=1)
    right, down = slopes.reshape(2, count, -1)
    values, size = _normal(levels.reshape(count, -1), inner)
    rim_px = (side - 1) / 2
    across = np.tile((np.arange(side, dtype=np.float32) - rim_px) / rim_px, (side, 1))
    x, y = across.astype(np.float32).ravel(), across.T.astype(np.float32).ravel()
    at_x, at_y = np.repeat(x, channels), np.repeat(y, channels)
    moved = np.stack([right, down, down * at_x - right * at_y, right * at_x + down * at_y], axis=1)
    steepest = (moved / size[:, None] * inner[:, None]).astype(np.float32, copy=False)
    normal = np.matmul(steepest, steepest.transpose(0, 2, 1)).astype(np.float64)
    diagonal = np.trace(normal, axis1=1, axis2=2)
    damped = normal + np.eye(4) * DAMPING * np.maximum(diagonal / 4, 1.0)[:, None, None]
    return _Slopes(inner, values, steepest, np.linalg.inv(damped), x, y, rim_px)


def _climb(
    windows: Pixels, slopes: _Slopes, which: Index, starts: Array
) -> list[tuple[Array, Array, float]]:
    """From K starts in windows (K, S, S, C): linear map, centre and correlation at the end."""
    linear, offset_px = np.tile(np.eye(2), (len(which), 1, 1)), starts
    best = np.full(len(which), -2.0)
    kept_linear, kept_px = linear, offset_px
    going = np.ones(len(which), bool)
    values, steepest, inverse = slopes.values[which], slopes.steepest[which], slopes.inverse[which]
    inner = slopes.inner[which]
    count = np.maximum(inner.sum(axis=1), 1)
    for _ in range(ITERATIONS + 1):
        seen, _ = _normal(_sampled(windows, slopes, linear, offset_px), inner)
        correlation = (values * seen).sum(axis=1, dtype=np.float64) / count
        going = going & (correlation > best)  # the last step led somewhere
        best = np.where(going, correlation, best)
        kept_linear = np.where(going[:, None, None], linear, kept_linear)
        kept_px = np.where(going[:, None], offset_px, kept_px)
        residual = seen - correlation[:, None].astype(np.float32) * values
        towards = np.matmul(steepest, residual[:, :, None]).astype(np.float64)
        gain = np.maximum(correlation, MIN_CORRELATION)[:, None]
        step_px = np.clip((inverse @ towards)[:, :, 0] / gain, -MAX_STEP_PX, MAX_STEP_PX)
        linear, offset_px = composed(linear, offset_px, step_px, slopes.rim_px)
        going = going & (np.abs(step_px).max(axis=1) >= SETTLED_PX)
        if not going.any():
            break
    return list(zip(kept_linear, kept_px, best.tolist(), strict=True))


def _normal(values: Pixels, inner: Pixels) -> tuple[Pixels, Pixels]:
    """Values (K, N C) of no mean and unit mean square where `inner`, 0 beside; size (K, 1)."""
    within = values * inner
    count = np.maximum(inner.sum(axis=1, keepdims=True), 1)
    channels = within.reshape(len(within), -1, CHANNELS)
    mean = channels.sum(axis=1) * np.float32(CHANNELS) / count
    channels -= mean[:, None] * inner.reshape(channels.shape)
    mean_square = (within * within).sum(axis=1, keepdims=True) / count
    size = np.maximum(np.sqrt(mean_square), np.float32(1e-6))
    return within / size, size


def _sampled(windows: Pixels, slopes: _Slopes, linear: Array, offset_px: Array) -> Pixels:
    """The map under the templates' pixels, (K, N C); beyond a window, its border."""
    count, side = windows.shape[:2]
    points = np.stack([slopes.x, slopes.y]) * np.float32(slopes.rim_px)  # (2, N)
    column, row = np.moveaxis(linear.astype(np.float32) @ points + offset_px[:, :, None], 1, 0)
    column, row = (np.clip(at, 0, side - 1).astype(np.float32) for at in (column, row))
    row += np.arange(count, dtype=np.float32)[:, None] * side
    stacked = windows.reshape(count * side, side, -1)
    sampled = cv2.remap(stacked, column, row, cv2.INTER_LINEAR).reshape(count, -1)
    return sampled.astype(np.float32, copy=False)
