"""Many swept places at once, moved, turned and scaled to where they fit better.

The steps of align.py, a few of them at the sweep's scale and for all places in one array: a search
climbs from up to 192. What would climb onto other ground, or into a worse fit, stays where it was.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Hypothesis
from .align import (
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
from .gauss_newton import Jacobian, compared, jacobian_of
from .scales import Scale
from .template import Cuts

ITERATIONS = 3
MARGIN_PX = 6  # of map around a template: it shifts, turns and grows
MAX_CLIMB_PX = 3.0  # beyond, it has slid to other ground

Array = NDArray[np.float64]
Pixels = NDArray[np.float32]


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
    jacobian = jacobian_of(templates)
    levels = np.stack([window.levels for window in windows]).astype(np.float32)
    fits = _climb(levels, jacobian.of(which), scale.side_px, np.array(starts))
    found = list(places)
    for k, window, start, index, (linear, offset_px, correlation) in zip(
        climbing, windows, starts, which, fits, strict=True
    ):
        near = math.hypot(*(offset_px - start)) <= MAX_CLIMB_PX
        if near and correlation > places[k].correlation:
            pose = pose_from_pixel(window, templates[index], linear, offset_px)
            inverse, rim_px = jacobian.inverse[index], jacobian.rim_px
            cov = covariance_of(inverse, rim_px, scale.gsd_m, noise_of(correlation))
            found[k] = posed(places[k], Alignment(pose, correlation, cov))
    return found


def _climb(
    windows: Pixels, jacobian: Jacobian, side_px: int, starts: Array
) -> list[tuple[Array, Array, float]]:
    """From K starts in windows (K, S, S, C): linear map, centre and correlation at the end."""
    linear, offset_px = np.tile(np.eye(2), (len(starts), 1, 1)), starts
    best = np.full(len(starts), -2.0)
    kept_linear, kept_px = linear, offset_px
    going = np.ones(len(starts), bool)
    for _ in range(ITERATIONS + 1):
        seen = _sampled(windows, linear, offset_px, side_px)
        correlation, step_px = compared(jacobian, seen)
        going = going & (correlation > best)  # the last step led somewhere
        best = np.where(going, correlation, best)
        kept_linear = np.where(going[:, None, None], linear, kept_linear)
        kept_px = np.where(going[:, None], offset_px, kept_px)
        linear, offset_px = composed(linear, offset_px, step_px, jacobian.rim_px)
        going = going & (np.abs(step_px).max(axis=1) >= SETTLED_PX)
        if not going.any():
            break
    return list(zip(kept_linear, kept_px, best.tolist(), strict=True))


def _sampled(windows: Pixels, linear: Array, offset_px: Array, side_px: int) -> Pixels:
    """The map under the templates' pixels, (K, N); beyond a window, its border."""
    count, side = windows.shape[:2]
    line = np.arange(side_px) - (side_px - 1) / 2
    points = np.stack([each.ravel() for each in np.meshgrid(line, line)]).astype(np.float32)
    column, row = np.moveaxis(linear.astype(np.float32) @ points + offset_px[:, :, None], 1, 0)
    column, row = (np.clip(at, 0, side - 1).astype(np.float32) for at in (column, row))
    row += np.arange(count, dtype=np.float32)[:, None] * side
    stacked = windows.reshape(count * side, side, -1)
    sampled = cv2.remap(stacked, column, row, cv2.INTER_LINEAR).reshape(count, -1)
    return sampled.astype(np.float32, copy=False)
