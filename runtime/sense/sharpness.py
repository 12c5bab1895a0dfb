"""Is there detail in a frame as fine as the patch could show?

    sharpness = rms gradient / rms gradient after a blur of two patch pixels

Sharp frames of any ground have 1.7 and more (fengyuan flight A, the first half of nust, simulated
flights); blurred by 2 % of their width 1.6 and less, by 4 % 1.3 and less.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Reason
from .ortho import Ground

BLUR_PX = 2.0
MIN_SHARPNESS = 1.5
RIM_PX = 11  # what the blur mixes with the outside


def is_blurred(ground: Ground, size_px: int, gsd_m: float) -> bool:
    """Whether a grey ground lacks detail; where nothing can be measured, it does not."""
    cut = ground.cut(size_px, gsd_m)
    if isinstance(cut, Reason):
        return False
    inner = cv2.erode(
        cut[1].view(np.uint8), np.ones((RIM_PX, RIM_PX), np.uint8),
        borderType=cv2.BORDER_CONSTANT, borderValue=0,
    )  # fmt: skip
    if not inner.any():
        return False
    return sharpness(cut[0], inner.astype(bool)) < MIN_SHARPNESS


def sharpness(grey: NDArray[np.uint8], inner: NDArray[np.bool_]) -> float:
    """Of the pixels (H, W) that are `inner`; 0 for a picture without any detail."""
    fine = grey.astype(np.float32)
    coarse = cv2.GaussianBlur(fine, (0, 0), BLUR_PX)
    strength = [
        float(np.sqrt(sum((cv2.Sobel(picture, cv2.CV_32F, *axis)[inner] ** 2).mean()
                          for axis in ((1, 0), (0, 1)))))
        for picture in (fine, coarse)
    ]  # fmt: skip
    return strength[0] / max(strength[1], 1e-6)
