"""What is looked for on the map: a frame's ground at one heading, height and scale."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sense.ortho import Ground
from ..types import Reason

MIN_STD_GREY = 1.5  # flatter ground correlates with noise only
MIN_PIXELS = 32

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Template:
    """A patch prepared for correlation."""

    centred: Grey  # (P, P) levels minus their mean, 0 where not valid
    mask: Grey  # (P, P) 1 where valid
    energy: float  # sum of squares of `centred`
    gsd_m: float
    turn_deg: float  # heading beyond the telemetry's
    log_scale: float  # of the height over the telemetry's


def template_from_ground(
    ground: Ground, size_px: int, gsd_m: float, turn_deg: float = 0.0, log_scale: float = 0.0
) -> Template | None:
    """The patch, (size_px, size_px), or None where it shows nothing.

    `ground` is grey or structure, about as coarse as `gsd_m` (Ground.coarser), or the warp aliases.
    """
    cut = ground.cut(size_px, gsd_m, turn_deg, float(np.exp(log_scale)))
    if isinstance(cut, Reason):
        return None
    mask = cut[1].astype(np.float32)
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0)  # where it has gradients
    if np.count_nonzero(inner) < MIN_PIXELS:
        return None
    count = float(mask.sum())
    grey = cut[0].astype(np.float32)
    centred = (grey - float((grey * mask).sum()) / count) * mask
    energy = float((centred * centred).sum())
    if energy < count * MIN_STD_GREY**2:
        return None
    return Template(centred, mask, energy, gsd_m, turn_deg, log_scale)
