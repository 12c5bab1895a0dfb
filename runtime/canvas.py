"""A picture that is drawn in smooth lines, letters and panels, and written whole or not at all.

All sizes on the canvas are in pixels of the finished picture; it is drawn SUPERSAMPLING times
larger and averaged down, which smooths lines and letters alike.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .files import write_beside

SUPERSAMPLING = 2
SUBPIXEL_BITS = 4  # fixed-point digits of OpenCV's drawing functions
PANEL_SHARE = 0.72  # opacity of the dark panels under text
FONT = cv2.FONT_HERSHEY_DUPLEX
CAPITAL_UNITS = 21  # height of the font's capitals

Color = tuple[int, int, int]  # RGB
DARK: Color = (18, 22, 30)
WHITE: Color = (255, 255, 255)

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


class Canvas:
    """An RGB image with smooth lines; coordinates in pixels of the finished picture."""

    def __init__(self, image: Image) -> None:
        """Draw over an image of SUPERSAMPLING times the finished size."""
        self.image = image

    @classmethod
    def blank(cls, width_px: float, height_px: float, color: Color) -> "Canvas":
        """One of a finished size, of one colour."""
        return cls(np.full((scaled(height_px), scaled(width_px), 3), color, np.uint8))

    def finished(self) -> Image:
        """The picture, averaged down to its size."""
        size = (self.image.shape[1] // SUPERSAMPLING, self.image.shape[0] // SUPERSAMPLING)
        small = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False)

    def line(self, points_px: Array, color: Color, width_px: float) -> None:
        """A polyline through points (n, 2)."""
        cv2.polylines(
            self.image, [_fixed(points_px)], isClosed=False, color=color,
            thickness=scaled(width_px), lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS,
        )  # fmt: skip

    def outline(self, points_px: Array, color: Color, width_px: float) -> None:
        """A closed polyline through points (n, 2)."""
        self.line(np.concatenate([points_px, points_px[:1]]), color, width_px)

    def area(self, points_px: Array, color: Color) -> None:
        """A filled polygon (n, 2)."""
        cv2.fillPoly(self.image, [_fixed(points_px)], color, cv2.LINE_AA, SUBPIXEL_BITS)

    @contextmanager
    def faint(self, share: float) -> Iterator[None]:
        """Everything drawn in the block, together, with this opacity."""
        before = self.image.copy()
        yield
        cv2.addWeighted(self.image, share, before, 1 - share, 0, dst=self.image)

    def box(
        self, left_px: float, top_px: float, right_px: float, bottom_px: float, color: Color
    ) -> None:
        """A filled rectangle with sharp edges."""
        corners = (scaled(left_px), scaled(top_px)), (scaled(right_px), scaled(bottom_px))
        cv2.rectangle(self.image, *corners, color, -1)

    def dots(self, points_px: Array, radius_px: float, color: Color) -> None:
        """Discs at points (n, 2)."""
        size = round(radius_px * SUPERSAMPLING * 2**SUBPIXEL_BITS)
        for center in _fixed(points_px).tolist():
            cv2.circle(self.image, center, size, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    def dot(self, center_px: Array, radius_px: float, color: Color) -> None:
        """A disc with a dark rim."""
        self.dots(center_px, radius_px + 1, DARK)
        self.dots(center_px, radius_px, color)

    def text(
        self, text: str, x_px: float, base_px: float, height_px: float, color: Color = WHITE,
        anchor: float = 0.0,
    ) -> None:  # fmt: skip
        """Letters on a base line; `height_px` of a capital.

        They begin at x where `anchor` is 0, are centred there at 0.5, and end there at 1.
        """
        scale, thickness = height_px * SUPERSAMPLING / CAPITAL_UNITS, scaled(0.7)
        (width, _), _ = cv2.getTextSize(text, FONT, scale, thickness)
        where = (round(x_px * SUPERSAMPLING - anchor * width), scaled(base_px))
        cv2.putText(self.image, text, where, FONT, scale, color, thickness, cv2.LINE_AA)

    def panel(self, left_px: float, top_px: float, width_px: float, height_px: float) -> None:
        """Darken a rectangle for text to stand on."""
        rows = slice(scaled(top_px), scaled(top_px + height_px))
        columns = slice(scaled(left_px), scaled(left_px + width_px))
        part = self.image[rows, columns].astype(np.float32)
        shade = np.array(DARK, np.float32) * PANEL_SHARE
        self.image[rows, columns] = (part * (1 - PANEL_SHARE) + shade).astype(np.uint8)


def write_picture(path: Path, image: Image) -> None:
    """Write a PNG, whole or not at all; raises InputError where the disk refuses."""
    _, code = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_beside(path, code.tobytes())


def round_length_m(limit_m: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50, ... that is within a limit."""
    decade = 10.0 ** math.floor(math.log10(limit_m))  # the next one where the logarithm rounds up
    return max(step * decade for step in (0.5, 1, 2, 5) if step * decade <= limit_m)


def _fixed(points_px: Array) -> NDArray[np.int32]:
    """Points in OpenCV's fixed-point numbers of the large image."""
    center = (np.atleast_2d(points_px) * SUPERSAMPLING - 0.5) * 2**SUBPIXEL_BITS
    fixed: NDArray[np.int32] = np.round(center).astype(np.int32)
    return fixed


def scaled(length_px: float) -> int:
    """Whole pixels of the large image."""
    return max(1, round(length_px * SUPERSAMPLING))
