"""The map as correlation takes it: grey windows of the pack's overview around a place."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK_PX = 64  # averaged at once; a window touches few of them
LEAST_SEEN = 0.5  # of an averaged pixel: what is valid of it speaks for it
MAX_BLOCKS = 4096  # kept of a scale: 34 MB, all of 800 km2 at the sweep's scale of 160 m tiles

Grey = NDArray[np.float32]
Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # grey, valid
# west_m, north_m of the outer corner, (rows, columns) -> the pixels there
Overview = Callable[[float, float, tuple[int, int]], Pixels]


@dataclass(frozen=True)
class Window:
    """A square of the map."""

    grey: Grey  # (S, S), at the mean where there is no map
    seen: float  # share of it that is map
    east_m: float  # of its centre
    north_m: float
    gsd_m: float


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
        seen = float(np.count_nonzero(valid)) / valid.size
        if 0 < seen < 1:  # what is no map shall weigh nothing in a correlation
            grey[~valid] = grey[valid].mean()
        half_m = side_px / 2 * self.gsd_m
        return Window(grey, seen, west_m + half_m, top_m - half_m, self.gsd_m)

    def averaged(self, factor: int) -> "Chart":
        """The same at `factor` times the scale."""
        if factor == 1:
            return self
        read = Averaged(self, factor).read
        return Chart(read, self.west_m, self.north_m, self.gsd_m * factor)


class Averaged:
    """A chart's pixels averaged by a whole factor, in blocks that are kept once looked at.

    Searches look at hundreds of places a frame, at the same blocks again and again.
    """

    def __init__(self, chart: Chart, factor: int) -> None:
        self._chart, self._factor = chart, factor
        self._blocks: dict[tuple[int, int], Pixels] = {}

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int]) -> Pixels:
        """Grey and valid (rows, columns) from a corner on whole pixels of this scale."""
        gsd_m = self._chart.gsd_m * self._factor
        row0 = round((self._chart.north_m - north_m) / gsd_m)
        column0 = round((west_m - self._chart.west_m) / gsd_m)
        rows, columns = size_px
        grey, valid = np.empty(size_px, np.uint8), np.empty(size_px, bool)
        for i in range(row0 // BLOCK_PX, (row0 + rows - 1) // BLOCK_PX + 1):
            top, here_rows = _overlap(i, row0, rows)
            for j in range(column0 // BLOCK_PX, (column0 + columns - 1) // BLOCK_PX + 1):
                left, here_columns = _overlap(j, column0, columns)
                block_grey, block_valid = self._block(i, j)
                grey[top, left] = block_grey[here_rows, here_columns]
                valid[top, left] = block_valid[here_rows, here_columns]
        return grey, valid

    def _block(self, i: int, j: int) -> Pixels:
        """The mean of the valid pixels; valid itself where half of what it averages is."""
        if (i, j) not in self._blocks:
            chart, side = self._chart, BLOCK_PX * self._factor
            corner = (
                chart.west_m + j * side * chart.gsd_m, chart.north_m - i * side * chart.gsd_m,
            )  # fmt: skip
            grey, valid = chart.read(*corner, (side, side))
            share = valid.astype(np.float32)
            total, seen = (
                cv2.resize(pixels, (BLOCK_PX, BLOCK_PX), interpolation=cv2.INTER_AREA)
                for pixels in (grey * share, share)
            )
            small = np.rint(total / np.maximum(seen, 1e-6)).astype(np.uint8)
            if len(self._blocks) >= MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]  # the oldest
            self._blocks[i, j] = small, seen >= LEAST_SEEN
        return self._blocks[i, j]


def _overlap(block: int, start: int, count: int) -> tuple[slice, slice]:
    """What a window from `start` shares with a block: in the window, in the block."""
    first, last = max(start, block * BLOCK_PX), min(start + count, (block + 1) * BLOCK_PX)
    return (
        slice(first - start, last - start),
        slice(first - block * BLOCK_PX, last - block * BLOCK_PX),
    )
