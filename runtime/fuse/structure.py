"""What of a picture lasts: local contrast and outlines, as one picture that correlation compares.

    contrast   (grey - mean) / (std + floor)           mean and std of the neighbourhood
    outline    slope / (slope + mean slope + floor)    slope: how steep the grey is, whichever way
    structure  contrast + OUTLINE_GAIN * outline

A field is dark in one year and bright in the next, and so is a roof under another sun; where they
end stays. Outlines alone find the place across years and lose to grey in the same one, contrast the
reverse; their sum is about as good as the better in both. benchmarks/structure.py: of places of
2016 in a map of 2012, 5 m/px, one frame alone, grey has 18 % first and structure 62 %.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sense.ortho import Ground

# Of a tile's width. The neighbourhood was tried from 0.2 to 1.7, the gain from 2 to 6.
NEIGHBOURHOOD_TILES = 0.44
SMOOTHED_TILES = 0.011  # deviation: noise has slopes too
CONTRAST_FLOOR = 4.0  # grey levels: below, structure is taken for noise
SLOPE_FLOOR = 64.0  # grey levels a tile's width, likewise
CONTRAST_LIMIT = 2.5  # a glint is no more than this
OUTLINE_GAIN = 4.0
MIDDLE, GAIN = 100.0, 26.0  # of the picture's levels: nothing is cut off

Grey = NDArray[np.uint8]


def structure(grey: Grey, tile_px: float) -> Grey:
    """The structure of a picture (H, W), of whose pixels a tile's width has `tile_px`."""
    sigma = SMOOTHED_TILES * tile_px
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), max(sigma, 0.1))
    side = neighbourhood_px(tile_px)
    mean, square = (cv2.blur(picture, (side, side)) for picture in (values, values * values))
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    contrast = np.clip((values - mean) / (spread + CONTRAST_FLOOR), -CONTRAST_LIMIT, CONTRAST_LIMIT)
    east, south = (cv2.Sobel(values, cv2.CV_32F, *axis, scale=tile_px / 8)
                   for axis in ((1, 0), (0, 1)))  # fmt: skip
    slope = cv2.magnitude(east, south)
    outline = slope / (slope + cv2.blur(slope, (side, side)) + SLOPE_FLOOR)
    levels = np.rint(MIDDLE + GAIN * (contrast + OUTLINE_GAIN * outline - OUTLINE_GAIN / 4))
    return np.clip(levels, 0, 255).astype(np.uint8)


def neighbourhood_px(tile_px: float) -> int:
    """Width of the neighbourhood, odd."""
    return 2 * round(NEIGHBOURHOOD_TILES * tile_px / 2) + 1


def structured(ground: Ground, tile_m: float) -> Ground:
    """A grey frame on the ground as its structure."""
    px_m = ground.view.gsd_m * ground.pixel_from_small[0, 0]
    return replace(ground, small=structure(ground.small, tile_m / px_m))
