"""The calibration's picture: what each layer loses alone in int8, and what the whole graph loses.

All sizes are in pixels of the finished picture.
"""

from collections.abc import Sequence

import numpy as np

from skyfix.runtime.canvas import DARK, Array, Canvas, Color, Image

from .table import LayerCalibration

WIDTH_PX, HEIGHT_PX = 1500, 860
NAMED = 20  # bars with a name; the other layers lose less
HISTOGRAM_BINS = 24
GATE = 0.99  # smallest cosine of an int8 graph that passes

PANEL: Color = (30, 36, 48)
TEXT: Color = (235, 238, 245)
GREY: Color = (140, 150, 168)
INT8: Color = (90, 205, 255)
KEPT: Color = (255, 150, 50)
BAD: Color = (255, 92, 92)


def draw_calibration(title: str, layers: Sequence[LayerCalibration], cosines: Array) -> Image:
    """The picture, (HEIGHT_PX, WIDTH_PX, 3) RGB."""
    canvas = Canvas.blank(WIDTH_PX, HEIGHT_PX, DARK)
    canvas.text(title, 24, 38, 16, TEXT)
    _draw_bars(canvas, layers, 24, 60, 900, HEIGHT_PX - 24)
    _draw_histogram(canvas, cosines, 924, 60, WIDTH_PX - 24, HEIGHT_PX - 24)
    return canvas.finished()


def loss(layer: LayerCalibration) -> float:
    """1 - mean cosine of a layer alone in int8; 0 where it was not measured."""
    return max(0.0, 1 - layer.alone.mean_cosine) if layer.alone else 0.0


def _draw_bars(
    canvas: Canvas, layers: Sequence[LayerCalibration], left: float, top: float,
    right: float, bottom: float,
) -> None:  # fmt: skip
    """The layers that lose most, one line each: name, bar, number."""
    canvas.box(left, top, right, bottom, PANEL)
    shown = sorted(layers, key=loss, reverse=True)[:NAMED]
    canvas.text("one layer alone in int8: 1 - mean cosine to fp32", left + 16, top + 30, 13, TEXT)
    canvas.text(
        f"the {len(shown)} worst of {len(layers)} layers", right - 16, top + 30, 11, GREY,
        anchor=1,
    )  # fmt: skip
    step = (bottom - top - 92) / max(len(shown), 1)
    start, reach = left + 400.0, right - 110.0
    longest = max((loss(layer) for layer in shown), default=0.0) or 1.0
    for row, layer in enumerate(shown):
        base = top + 50 + (row + 0.7) * step
        color = KEPT if layer.kept else INT8
        canvas.text(short(layer.label, 40), start - 12, base, 10.5, color, anchor=1)
        length = max(1.5, (reach - start) * loss(layer) / longest)
        canvas.box(start, base - 0.5 * step, start + length, base + 0.12 * step, color)
        canvas.text(f"{loss(layer):.1e}", start + length + 8, base, 10.5, GREY)
    for x, color, name in ((left + 16, INT8, "int8"), (left + 110, KEPT, "kept in floating point")):
        canvas.box(x, bottom - 28, x + 16, bottom - 14, color)
        canvas.text(name, x + 24, bottom - 16, 11, GREY)


def _draw_histogram(
    canvas: Canvas, cosines: Array, left: float, top: float, right: float, bottom: float
) -> None:
    """How many frames have which cosine of int8 and fp32 descriptor."""
    canvas.box(left, top, right, bottom, PANEL)
    canvas.text("the whole graph in int8: cosine to fp32", left + 16, top + 30, 13, TEXT)
    low, high = float(cosines.min()), 1.0
    low -= 0.05 * (high - low) or 1e-6
    counts, edges = np.histogram(cosines, HISTOGRAM_BINS, (low, high))
    floor, ceiling = bottom - 96.0, top + 70.0
    width = (right - left - 60) / HISTOGRAM_BINS
    for index, count in enumerate(counts):
        x = left + 30 + index * width
        height = (floor - ceiling) * count / counts.max()
        color = BAD if edges[index + 1] <= GATE else INT8
        canvas.box(x + 1.5, floor - height, x + width - 1.5, floor, color)
    canvas.line(np.array([[left + 30, floor], [right - 30, floor]]), GREY, 1.5)
    digits = max(4, int(np.ceil(-np.log10(high - low))) + 2)
    canvas.text(f"{low:.{digits}f}", left + 30, floor + 22, 11, GREY)
    canvas.text(f"{high:.{digits}f}", right - 30, floor + 22, 11, GREY, anchor=1)
    canvas.text(f"most frames in a bar: {counts.max()}", left + 30, ceiling - 12, 11, GREY)
    verdict = f"{len(cosines)} frames: mean {cosines.mean():.5f}, smallest {cosines.min():.5f}"
    canvas.text(verdict, left + 16, bottom - 44, 13, TEXT)
    passed = cosines.min() >= GATE
    canvas.text(
        f"the gate {GATE:g} {'holds' if passed else 'DOES NOT HOLD'}", left + 16, bottom - 18, 12,
        GREY if passed else BAD,
    )  # fmt: skip


def short(label: str, limit: int) -> str:
    """The end of a name, which tells layers apart, within a limit."""
    return label if len(label) <= limit else "..." + label[3 - limit :]
