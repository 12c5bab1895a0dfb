"""Keystone: the camera's tilt that no log tells, measured in one frame's fit to the map.

    ray of a patch's pixel     d = M p                     in the camera's axes, as claimed
    camera turned by its tilt  p' = K p,  K = C M^-1 R M   C: the image's centre stays where it is
    fit                        I(S p') = rho T(p)          S: x, y, turn, log scale

A camera that is turned about itself lays its picture on the ground in perspective: what it leans
towards lies further out and is larger. Gauss-Newton as in align.py, with two more columns. The
tilt is along the camera's own axes, in which it stays while the aircraft turns.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sense.camera import turned_to_tilt
from ..sense.ortho import Ground
from .align import (
    SETTLED_PX,
    Pose,
    composed,
    covariance_of,
    pixel_from_pose,
    pose_from_pixel,
    unexplained,
    units_of,
)
from .chart import Window
from .gauss_newton import Jacobian, compared, jacobian_of
from .template import Signed, Template

ITERATIONS = 6
STEP = 1e-4  # of the numerical derivative, a tangent
# Camera and map differ in patches more than in pixels: shades, crops, another year's roofs. A patch
# looks like perspective far more than like a shift. With this, fengyuan A's keystones scatter as
# stated.
CORRELATED_PX = 100.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Keystone:
    """The best fit with a tilt."""

    pose: Pose
    tilt: Array  # (2,) tangents to the camera's right and to its top, beyond the ground's
    correlation: float
    cov: Array  # (6, 6) of east_m, north_m, turn_deg, log_scale and the tilt
    pull: Array  # (4, 2) how a tilt that is left out moves a fit of the first four, a tangent


def keystone(
    window: Window, template: Template, ground: Ground, start: Pose, iterations: int = ITERATIONS
) -> Keystone:
    """Fit a template that was cut from `ground` for `start`, which is close to the truth."""
    side = template.mask.shape[0]
    rays = rays_from_pixels(ground, template)
    flows = _Flows(rays, (side - 1) / 2)
    jacobian = jacobian_of([template], flows).of(0)
    levels = window.levels.astype(np.float32)
    linear, offset_px = np.eye(2), pixel_from_pose(window, start)
    tilt = np.zeros(2)
    best, kept = -2.0, (linear, offset_px, tilt)
    for _ in range(iterations + 1):
        seen = _sampled(levels, linear, offset_px, tilted(rays, tilt), side)
        correlation, step_px = compared(jacobian, seen)
        if correlation <= best:  # the last step led nowhere
            break
        best, kept = float(correlation), (linear, offset_px, tilt)
        linear, offset_px = composed(linear, offset_px, step_px[:4], jacobian.rim_px)
        tilt = tilt - step_px[4:] * flows.tangent_of_px
        if np.abs(step_px).max() < SETTLED_PX:
            break
    linear, offset_px, tilt = kept
    pose = pose_from_pixel(window, template, linear, offset_px)
    units = np.full(2, flows.tangent_of_px)
    noise = CORRELATED_PX * unexplained(best)
    cov = covariance_of(jacobian.inverse, jacobian.rim_px, window.gsd_m, noise, units)
    return Keystone(pose, tilt, best, cov, _pull(jacobian, window.gsd_m, flows.tangent_of_px))


def _pull(jacobian: Jacobian, gsd_m: float, tangent_of_px: float) -> Array:
    """Least squares without the last two columns: what they explain falls to the first four."""
    normal = np.linalg.inv(jacobian.inverse)
    in_px = np.linalg.solve(normal[:4, :4], normal[:4, 4:])
    pull: Array = units_of(jacobian.rim_px, gsd_m)[:, None] * in_px / tangent_of_px
    return pull


def rays_from_pixels(ground: Ground, template: Template) -> Array:
    """Rays in the claimed camera's axes of a template's pixels from its centre, (3, 3)."""
    side = template.mask.shape[0]
    frame_from_patch, _ = ground.frame_from_patch(
        side, template.gsd_m, template.turn_deg, float(np.exp(template.log_scale))
    )
    middle = np.eye(3)
    middle[:2, 2] = (side - 1) / 2
    rays: Array = np.linalg.inv(ground.camera.matrix) @ frame_from_patch @ middle
    return rays


def tilted(rays: Array, tilt: Array) -> Array:
    """Where a tilted camera's pixels lie, for those of the claimed one; from the centre, (3, 3)."""
    homography: Array = np.linalg.inv(rays) @ turned_to_tilt(*tilt) @ rays
    east, north, scale = homography[:, 2]
    centred = np.eye(3)
    centred[:2, 2] = -east / scale, -north / scale
    recentred: Array = centred @ homography / scale
    return recentred


class _Flows:
    """How the tilt moves a template's pixels; its unit is about a pixel at the rim."""

    def __init__(self, rays: Array, rim_px: float) -> None:
        change = [(tilted(rays, step) - tilted(rays, -step)) / (2 * STEP)
                  for step in STEP * np.eye(2)]  # fmt: skip
        bend = max(float(np.linalg.norm(each[2, :2])) for each in change)
        self.tangent_of_px = 1 / (bend * rim_px**2)
        self._change, self._rim_px = change, rim_px

    def __call__(self, x: Signed, y: Signed) -> list[tuple[Signed, Signed]]:
        """Pixels by which those at x, y (in rims) move, for one unit of each tangent."""
        points = np.stack([x * self._rim_px, y * self._rim_px, np.ones_like(x)])
        flows = []
        for change in self._change:
            along, across, far = (change * self.tangent_of_px).astype(np.float32) @ points
            flows.append((along - points[0] * far, across - points[1] * far))
        return flows


def _sampled(levels: Signed, linear: Array, offset_px: Array, bent: Array, side: int) -> Signed:
    """The map under the template's pixels, (N,)."""
    similarity, corner = np.eye(3), np.eye(3)
    similarity[:2, :2], similarity[:2, 2] = linear, offset_px
    corner[:2, 2] = -(side - 1) / 2
    picture = cv2.warpPerspective(
        levels, similarity @ bent @ corner, (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return picture.astype(np.float32, copy=False).ravel()
