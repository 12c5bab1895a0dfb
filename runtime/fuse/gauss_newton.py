"""What templates say of the pictures under them: how well they fit, and by what they are off.

With a template's values T, of no mean and unit mean square, their change J by each parameter, and
the picture I under it, over the N values of all inner pixels:

    rho = T I / (N s)              s = std I
    d = H^-1 (J^T (I - mean) / s - rho J^T T) / rho        H = J^T J

H is damped, and rho at least MIN_CORRELATION where it divides.

Means are each channel's own. The picture's is taken away like the template's, or it would only hide
what varies there: over crests that all run one way a true place correlates 0.7, with it 0.4.

T and the channels of the mask are further rows of J: one product with a picture as it is gives all
these sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .structure import CHANNELS
from .template import Signed, Template

MIN_CORRELATION = 0.2  # a step is no longer than at this; below, the surface is no paraboloid
MAX_STEP_PX = 2.0  # at the template's rim, an iteration
DAMPING = 1e-3  # of H's mean diagonal, or of one: ground of stripes says nothing along them
LEAST_STD = 0.5  # levels; chosen, above the 0.3 that rounding alone makes

Array = NDArray[np.float64]
Index = NDArray[np.intp]
# x, y (N,) of pixels, the rim's being one -> for each further parameter, how it moves them there
Flows = Callable[[Signed, Signed], Sequence[tuple[Signed, Signed]]]


@dataclass(frozen=True)
class Jacobian:
    """The side of one template, or of many, in the normal equations of P parameters."""

    rows: Signed  # (..., P + 1 + CHANNELS, N) J, T and the channels; 0 where not inner
    inner: Signed  # (..., N) 1 where a valid pixel has valid neighbours
    count: Array  # (...,) of them, at least 1
    explained: Array  # (..., P, 1 + CHANNELS) of J by T and the channels
    inverse: Array  # (..., P, P) of H, damped
    rim_px: float  # from the centre; parameters are in pixels there

    def of(self, which: int | Index) -> "Jacobian":
        """That of one of many templates, or of some of them in any order."""
        return Jacobian(
            self.rows[which], self.inner[which], self.count[which], self.explained[which],
            self.inverse[which], self.rim_px,
        )  # fmt: skip


def no_flows(_x: Signed, _y: Signed) -> Sequence[tuple[Signed, Signed]]:
    """Nothing but the similarity."""
    return ()


def jacobian_of(templates: Sequence[Template], flows: Flows = no_flows) -> Jacobian:
    """Gradients by central differences, so the outermost pixels of the masks are left out.

    `flows` are further ways in which a template can be deformed, after the similarity's four.
    """
    levels = np.stack([template.levels for template in templates])
    many, side = levels.shape[:2]
    inner = np.stack([_inner(template.mask) for template in templates])
    count = np.maximum(inner.sum(axis=1, dtype=np.float64), 1)
    x, y = _rims(side)
    further = [(-y, x), (x, y), *flows(x, y)]  # after x and y themselves
    changes = 2 + len(further)
    rows = np.zeros((many, changes + 1 + CHANNELS, inner.shape[1]), np.float32)
    by_x, by_y = (rows[:, k].reshape(levels.shape) for k in (0, 1))  # views
    np.subtract(levels[:, :, 2:], levels[:, :, :-2], out=by_x[:, :, 1:-1])
    np.subtract(levels[:, 2:], levels[:, :-2], out=by_y[:, 1:-1])
    rows[:, :2] *= np.float32(0.5) * inner[:, None]
    for k, (along, across) in enumerate(further, 2):
        np.add(rows[:, 0] * along, rows[:, 1] * across, out=rows[:, k])
    for channel in range(CHANNELS):
        rows[:, changes + 1 + channel, channel::CHANNELS] = inner[:, channel::CHANNELS]
    values, channels = rows[:, changes], rows[:, changes + 1 :]
    np.multiply(levels.reshape(many, -1), inner, out=values)
    mean = np.matmul(channels, values[..., None]) * (CHANNELS / count)[:, None, None]
    values -= np.matmul(mean.astype(np.float32).transpose(0, 2, 1), channels)[:, 0]
    size = np.maximum(np.sqrt(np.einsum("tn,tn->t", values, values) / count), LEAST_STD)
    rows[:, : changes + 1] /= size[:, None, None].astype(np.float32)
    products = np.matmul(rows[:, :changes], rows.transpose(0, 2, 1)).astype(np.float64)
    normal, explained = products[..., :changes], products[..., changes:] / count[:, None, None]
    explained[..., 1:] *= CHANNELS  # of count values, so many are each channel's
    mean_diagonal = np.trace(normal, axis1=1, axis2=2) / changes
    damped = normal + np.eye(changes) * DAMPING * np.maximum(mean_diagonal, 1)[:, None, None]
    return Jacobian(rows, inner, count, explained, np.linalg.inv(damped), (side - 1) / 2)


def compared(jacobian: Jacobian, pictures: Signed) -> tuple[Array, Array]:
    """How well pictures (..., N) fit their templates, and by what these are off.

    Returns correlations (...,) and steps (..., P) in pixels at the rim.
    """
    sums = np.matmul(jacobian.rows, pictures[..., None])[..., 0].astype(np.float64)
    changes = sums.shape[-1] - 1 - CHANNELS
    others = sums[..., changes:, None]
    towards = sums[..., :changes] - np.matmul(jacobian.explained, others)[..., 0]
    alike, of_channel = sums[..., changes], sums[..., changes + 1 :]
    within = pictures * jacobian.inner
    square = np.matmul(within[..., None, :], within[..., None])[..., 0, 0]
    count = jacobian.count
    means = (of_channel**2).sum(axis=-1) * CHANNELS / count**2  # of the squares of means
    std = np.sqrt(np.maximum(square / count - means, LEAST_STD**2))
    correlation = alike / (count * std)
    gain = np.maximum(correlation, MIN_CORRELATION) * std
    step_px = np.matmul(jacobian.inverse, towards[..., None])[..., 0] / gain[..., None]
    return correlation, np.clip(step_px, -MAX_STEP_PX, MAX_STEP_PX)


def _inner(mask: Signed) -> Signed:
    """Values (N,) of a mask's inner pixels."""
    eroded = cv2.erode(
        mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.repeat(eroded.ravel(), CHANNELS).astype(np.float32, copy=False)


@lru_cache(maxsize=4)  # scales of one map
def _rims(side_px: int) -> tuple[Signed, Signed]:
    """How far right and down of the centre a square's values lie, (N,), the rim being one."""
    line = np.linspace(-1, 1, side_px, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    return np.repeat(x.ravel(), CHANNELS), np.repeat(y.ravel(), CHANNELS)
