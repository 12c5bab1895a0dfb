"""The map as correlation takes it: grey windows of the pack's overview around a place."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
# west_m, north_m of the outer corner, (rows, columns) -> grey pixels, valid
Overview = Callable[[float, float, tuple[int, int]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Window:
    """A square of the map."""

    grey: Grey  # (S, S), at the mean where there is no map
    seen: float  # share of it that is map
    east_m: float  # of its centre
    north_m: float
    gsd_m: float

    def reduced(self, factor: int) -> "Window":
        """The same at `factor` times the scale, averaged; the side must be a multiple of it."""
        if factor == 1:
            return self
        side = self.grey.shape[0] // factor
        grey = cv2.resize(self.grey, (side, side), interpolation=cv2.INTER_AREA)
        return Window(
            grey.astype(np.float32, copy=False), self.seen, self.east_m, self.north_m,
            self.gsd_m * factor,
        )  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A pack's overview: how to read it, and where its pixels lie."""

    read: Overview
    west_m: float  # outer edge of any column
    north_m: float  # outer edge of any row
    gsd_m: float

    def around(self, east_m: float, north_m: float, side_px: int) -> Window:
        """The square whose centre is nearest to a place; on whole pixels, so nothing is blurred."""
        column = round((east_m - self.west_m) / self.gsd_m - side_px / 2)
        row = round((self.north_m - north_m) / self.gsd_m - side_px / 2)
        west_m, top_m = self.west_m + column * self.gsd_m, self.north_m - row * self.gsd_m
        pixels, valid = self.read(west_m, top_m, (side_px, side_px))
        grey = pixels.astype(np.float32)
        seen = float(valid.mean())
        if 0 < seen < 1:  # what is no map shall weigh nothing in a correlation
            grey[~valid] = grey[valid].mean()
        half_m = side_px / 2 * self.gsd_m
        return Window(grey, seen, west_m + half_m, top_m - half_m, self.gsd_m)
