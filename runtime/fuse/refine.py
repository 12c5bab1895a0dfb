"""Masked normalised cross-correlation of a patch against the pack's overview.

With template T, its mask m (n pixels) and the image I under it,

    ncc = sum m (T - mean T) I / sqrt( sum m (T - mean T)^2 * (sum m I^2 - (sum m I)^2 / n) )

so three plain correlations give it for all shifts at once: of I with the centred template, of I
and of I^2 with the mask. J. P. Lewis, "Fast Normalized Cross-Correlation", 1995, with the mask
of D. Padfield, "Masked Object Registration in the Fourier Domain", IEEE TIP 2012, on one side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Patch

MIN_STD_GREY = 1.5  # flatter ground correlates with noise only
STD_PER_WIDTH = 0.3  # of the position, in widths of the peak (benchmarks/calibrate_belief.py)
MIN_CURVATURE = 1e-3  # correlation per pixel squared; flatter peaks count as this flat
MIN_DECORRELATION = 0.05  # a perfect peak is still a peak of pixels

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Template:
    """A patch prepared for correlation at one scale."""

    centred: Grey  # (P, P) grey minus its mean, 0 where not valid
    mask: Grey  # (P, P) 1 where valid
    energy: float  # sum of squares of `centred`
    gsd_m: float


@dataclass(frozen=True)
class Peak:
    """The best shift in a window."""

    east_m: float  # of the template's centre, from the window's centre
    north_m: float
    correlation: float  # -1..1
    cov_en_m2: NDArray[np.float64]  # (2, 2) of the position, from the peak's curvature


def template_from_patch(patch: Patch, gsd_m: float) -> Template | None:
    """The patch in grey at another scale, or None where it shows no structure."""
    size_px = max(8, round(patch.valid.shape[0] * patch.gsd_m / gsd_m))
    grey = cv2.cvtColor(patch.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    weight = patch.valid.astype(np.float32)
    if size_px != grey.shape[0]:
        # averaging grey * weight and weight keeps the black outside from leaking in
        shape = (size_px, size_px)
        grey = cv2.resize(grey * weight, shape, interpolation=cv2.INTER_AREA).astype(np.float32)
        weight = cv2.resize(weight, shape, interpolation=cv2.INTER_AREA).astype(np.float32)
        grey /= np.maximum(weight, 1e-3)
    mask = (weight > 0.99).astype(np.float32)
    count = float(mask.sum())
    if count < 32:
        return None
    centred = (grey - float((grey * mask).sum()) / count) * mask
    energy = float((centred * centred).sum())
    if energy < count * MIN_STD_GREY**2:
        return None
    return Template(centred, mask, energy, patch.valid.shape[0] * patch.gsd_m / size_px)


def correlate(window: Grey, template: Template) -> Grey:
    """NCC at every full overlap: (H - P + 1, W - P + 1) for a window (H, W)."""
    image = window - np.float32(window.mean())  # keeps the sums of squares within float32
    count = float(template.mask.sum())
    product = cv2.matchTemplate(image, template.centred, cv2.TM_CCORR)
    total = cv2.matchTemplate(image, template.mask, cv2.TM_CCORR)
    squares = cv2.matchTemplate(image * image, template.mask, cv2.TM_CCORR)
    variance = np.maximum(squares - total * total / count, count * MIN_STD_GREY**2)
    ncc: Grey = (product / np.sqrt(variance * template.energy)).astype(np.float32, copy=False)
    return ncc


def peak_from_correlation(ncc: Grey, gsd_m: float) -> Peak:
    """Highest point of a correlation surface, to a fraction of a pixel by one Newton step.

    Its covariance has the shape of the peak: long along a road, round over a crossing.
    """
    row, column = divmod(int(ncc.argmax()), ncc.shape[1])
    slope_en, curvature_en = _quadratic(ncc, row, column)
    width_en: NDArray[np.float64] = np.linalg.inv(curvature_en).astype(np.float64)
    # a quadratic through neighbours says nothing about ground beyond them
    east_px, north_px = np.clip(width_en @ slope_en, -1, 1)
    best = float(ncc[row, column])
    return Peak(
        east_m=(column + float(east_px) - (ncc.shape[1] - 1) / 2) * gsd_m,
        north_m=((ncc.shape[0] - 1) / 2 - row + float(north_px)) * gsd_m,
        correlation=best,
        cov_en_m2=max(1 - best, MIN_DECORRELATION) * width_en * (STD_PER_WIDTH * gsd_m) ** 2,
    )


def _quadratic(ncc: Grey, row: int, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope (2,) and minus the second derivatives (2, 2) at a pixel, east and north in pixels."""
    row_slope, row_curvature = _slope_and_curvature(ncc[:, column], row)
    column_slope, column_curvature = _slope_and_curvature(ncc[row], column)
    limit = 0.9 * np.sqrt(row_curvature * column_curvature)  # keeps the ellipse an ellipse
    cross = float(np.clip(_cross_curvature(ncc, row, column), -limit, limit))
    curvature = np.array([[column_curvature, -cross], [-cross, row_curvature]])  # north is -row
    return np.array([column_slope, -row_slope]), curvature


def _slope_and_curvature(values: NDArray[np.float32], index: int) -> tuple[float, float]:
    """Of the parabola through three neighbours, level where it is flat or at the border."""
    if not 0 < index < len(values) - 1:
        return 0.0, MIN_CURVATURE
    left, middle, right = (float(value) for value in values[index - 1 : index + 2])
    curvature = 2 * middle - left - right
    if curvature <= MIN_CURVATURE:
        return 0.0, MIN_CURVATURE
    return (right - left) / 2, curvature


def _cross_curvature(ncc: Grey, row: int, column: int) -> float:
    """Minus the mixed second derivative in rows and columns; 0 at the border."""
    if not (0 < row < ncc.shape[0] - 1 and 0 < column < ncc.shape[1] - 1):
        return 0.0
    around = ncc[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    return float(-(around[2, 2] + around[0, 0] - around[0, 2] - around[2, 0]) / 4)
