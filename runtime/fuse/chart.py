"""The map as correlation takes it: its structure in windows around a place."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .structure import NONE, neighbourhood_px, outline_px, structure

AVERAGED_PX, STRUCTURED_PX = 64, 320  # made at once; a window touches few of them
LEAST_SEEN = 0.5  # of an averaged pixel: what is valid of it speaks for it
KEPT_PX = 40_000_000  # of one chart's blocks: all of 100 km2 at 80 pixels across tiles of 160 m

Places = NDArray[np.float64]  # metres, of K places
# Levels of grey, (H, W), or of structure, (H, W, 3), and which are valid.
Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]
# west_m, north_m of the outer corner, (rows, columns) -> the pixels there
Overview = Callable[[float, float, tuple[int, int]], Pixels]


@dataclass(frozen=True)
class Window:
    """A square of the map."""

    levels: NDArray[np.int8]  # (S, S, 3) structure around zero, 0 where there is no map
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
        """The square of a structured chart whose centre is nearest to a place.

        On whole pixels, so nothing is blurred.
        """
        column = round((east_m - self.west_m) / self.gsd_m - side_px / 2)
        row = round((self.north_m - north_m) / self.gsd_m - side_px / 2)
        west_m, top_m = self.west_m + column * self.gsd_m, self.north_m - row * self.gsd_m
        pixels, valid = self.read(west_m, top_m, (side_px, side_px))
        levels = (pixels ^ np.uint8(NONE)).view(np.int8)  # less NONE
        levels[~valid] = 0  # what is no map shall weigh nothing in a correlation
        half_m = side_px / 2 * self.gsd_m
        return Window(levels, west_m + half_m, top_m - half_m, self.gsd_m)

    def levels_around(self, east_m: Places, north_m: Places, side_px: int) -> NDArray[np.int8]:
        """Levels of the squares around K places, (K, S, S, 3), from one reading."""
        column = np.rint((east_m - self.west_m) / self.gsd_m - side_px / 2).astype(np.intp)
        row = np.rint((self.north_m - north_m) / self.gsd_m - side_px / 2).astype(np.intp)
        left, top = int(column.min()), int(row.min())
        size_px = (int(row.max()) - top + side_px, int(column.max()) - left + side_px)
        west_m, north_edge_m = self.west_m + left * self.gsd_m, self.north_m - top * self.gsd_m
        pixels, valid = self.read(west_m, north_edge_m, size_px)
        levels = (pixels ^ np.uint8(NONE)).view(np.int8)
        levels[~valid] = 0
        squares = sliding_window_view(levels, (side_px, side_px), axis=(0, 1))
        return np.ascontiguousarray(np.moveaxis(squares[row - top, column - left], 1, 3))

    def averaged(self, factor: int) -> "Chart":
        """The same at `factor` times the scale."""
        if factor == 1:
            return self
        gsd_m = self.gsd_m * factor
        make = partial(averaged_block, self, factor)
        read = Blocks(self.west_m, self.north_m, gsd_m, AVERAGED_PX, make).read
        return Chart(read, self.west_m, self.north_m, gsd_m)

    def structured(self, tile_m: float) -> "Chart":
        """Its structure (structure.py), for tiles of a width."""
        make = partial(structured_block, self, tile_m / self.gsd_m)
        read = Blocks(self.west_m, self.north_m, self.gsd_m, STRUCTURED_PX, make).read
        return replace(self, read=read)


class Blocks:
    """Pixels that are made in square blocks, which are kept once looked at.

    Searches look at hundreds of places a frame, at the same blocks again and again.
    """

    def __init__(
        self, west_m: float, north_m: float, gsd_m: float, side_px: int,
        make: Callable[[int, int], Pixels],
    ) -> None:  # fmt: skip
        self._west_m, self._north_m, self._gsd_m = west_m, north_m, gsd_m
        self._side_px, self._make = side_px, make
        self._most = KEPT_PX // side_px**2
        self._blocks: dict[tuple[int, int], Pixels] = {}

    def read(self, west_m: float, north_m: float, size_px: tuple[int, int]) -> Pixels:
        """Pixels and valid (rows, columns) from a corner on whole pixels."""
        row0 = round((self._north_m - north_m) / self._gsd_m)
        column0 = round((west_m - self._west_m) / self._gsd_m)
        rows, columns = size_px
        side = self._side_px
        channels = self._block(row0 // side, column0 // side)[0].shape[2:]
        pixels, valid = np.empty((*size_px, *channels), np.uint8), np.empty(size_px, bool)
        for i in range(row0 // side, (row0 + rows - 1) // side + 1):
            top, here_rows = _overlap(i, side, row0, rows)
            for j in range(column0 // side, (column0 + columns - 1) // side + 1):
                left, here_columns = _overlap(j, side, column0, columns)
                block, block_valid = self._block(i, j)
                pixels[top, left] = block[here_rows, here_columns]
                valid[top, left] = block_valid[here_rows, here_columns]
        return pixels, valid

    def _block(self, i: int, j: int) -> Pixels:
        block = self._blocks.pop((i, j), None)
        if block is None:
            pixels, valid = self._make(i, j)
            if valid.all():  # takes no memory
                valid = np.broadcast_to(np.True_, valid.shape)
            if len(self._blocks) >= self._most:
                del self._blocks[next(iter(self._blocks))]  # longest not looked at
            block = pixels, valid
        self._blocks[i, j] = block
        return block


def averaged_block(chart: Chart, factor: int, i: int, j: int) -> Pixels:
    """The mean of the valid pixels; valid itself where half of what it averages is."""
    side = AVERAGED_PX * factor
    pixels, valid = _read(chart, i * side, j * side, side)
    share = valid.astype(np.float32).reshape(*valid.shape, *[1] * (pixels.ndim - 2))
    total, seen = (
        cv2.resize(each, (AVERAGED_PX, AVERAGED_PX), interpolation=cv2.INTER_AREA)
        for each in (pixels * share, share)
    )
    seen = seen.reshape(*seen.shape, *[1] * (pixels.ndim - 2))
    small = np.rint(total / np.maximum(seen, 1e-6)).astype(np.uint8)
    return small, seen.reshape(AVERAGED_PX, AVERAGED_PX) >= LEAST_SEEN


def structured_block(chart: Chart, tile_px: float, i: int, j: int) -> Pixels:
    """The structure of a block, whose neighbourhoods reach into those around it.

    Where the map ends there is no border: pixels whose outlines look beyond it are not valid.
    """
    margin = neighbourhood_px(tile_px)
    row, column = (index * STRUCTURED_PX - margin for index in (i, j))
    grey, valid = _read(chart, row, column, STRUCTURED_PX + 2 * margin)
    if not valid.all():
        grey = np.where(valid, grey, round(grey[valid].mean()) if valid.any() else 0)
        looked_at = np.ones((2 * outline_px(tile_px) + 1,) * 2, np.uint8)
        valid = cv2.erode(valid.astype(np.uint8), looked_at) > 0
    inner = slice(margin, margin + STRUCTURED_PX)
    return structure(grey.astype(np.uint8), tile_px)[inner, inner], valid[inner, inner]


def _read(chart: Chart, row: int, column: int, side_px: int) -> Pixels:
    """A square of the chart from one of its pixels."""
    west_m, north_m = chart.west_m + column * chart.gsd_m, chart.north_m - row * chart.gsd_m
    return chart.read(west_m, north_m, (side_px, side_px))


def _overlap(block: int, side_px: int, start: int, count: int) -> tuple[slice, slice]:
    """What a window from `start` shares with a block: in the window, in the block."""
    first, last = max(start, block * side_px), min(start + count, (block + 1) * side_px)
    return (
        slice(first - start, last - start),
        slice(first - block * side_px, last - block * side_px),
    )
