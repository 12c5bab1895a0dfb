"""A map image that knows its metres: north-up pixels in a local east/north frame."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geo import LocalFrame


@dataclass(frozen=True)
class Raster:
    """A north-up image in the tangent plane of `frame`."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    valid: NDArray[np.bool_]  # (H, W)
    frame: LocalFrame
    west_m: float  # outer edge of column 0
    north_m: float  # outer edge of row 0
    gsd_m: float  # metres a pixel

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """West, south, east, north edges."""
        rows, columns = self.valid.shape
        return (
            self.west_m,
            self.north_m - rows * self.gsd_m,
            self.west_m + columns * self.gsd_m,
            self.north_m,
        )

    def read(
        self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float
    ) -> "Raster":
        """The window of (rows, columns) pixels at another scale; not valid where off the image.

        Coarser scales average the pixels that they cover.
        """
        rows, columns = size_px
        factor = max(1, round(gsd_m / self.gsd_m))
        ratio = gsd_m / self.gsd_m
        column0 = (west_m - self.west_m) / self.gsd_m
        row0 = (self.north_m - north_m) / self.gsd_m
        # centre of window pixel (i, j) in pixel-centre coordinates of this image
        affine = np.array(
            [[ratio, 0, column0 + (ratio - 1) / 2], [0, ratio, row0 + (ratio - 1) / 2]]
        )
        image, valid = self.image, self.valid.view(np.uint8)
        if factor > 1:
            top, left = max(0, int(row0)), max(0, int(column0))
            bottom = max(0, int(row0 + rows * ratio) + 1)  # negative would count backwards
            right = max(0, int(column0 + columns * ratio) + 1)
            image, valid = image[top:bottom, left:right], valid[top:bottom, left:right]
            affine[:, 2] -= (left, top)
            if image.size:
                image = cv2.blur(image, (factor, factor)).astype(np.uint8, copy=False)
                affine[:, 2] += 0.5 * (factor % 2 == 0)  # an even box is centred half a pixel up
        if not image.size:
            return Raster(
                np.zeros((rows, columns, 3), np.uint8), np.zeros((rows, columns), bool),
                self.frame, west_m, north_m, gsd_m,
            )  # fmt: skip
        flags = cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(
            image, affine, (columns, rows),
            flags=flags | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        seen = cv2.warpAffine(valid, affine, (columns, rows), flags=flags | cv2.INTER_NEAREST)
        return Raster(
            window.astype(np.uint8, copy=False), seen.astype(bool),
            self.frame, west_m, north_m, gsd_m,
        )  # fmt: skip


class RasterReader(Protocol):
    """Anything that windows of a map can be read from: a Raster, a GeoTIFF, a tile folder."""

    @property
    def frame(self) -> LocalFrame:
        """The local frame of all metres."""
        ...

    @property
    def gsd_m(self) -> float:
        """Finest scale worth reading."""
        ...

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """West, south, east, north edges in the frame."""
        ...

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int], gsd_m: float) -> Raster:
        """The window of (rows, columns) pixels whose outer corner is (west_m, north_m)."""
        ...
