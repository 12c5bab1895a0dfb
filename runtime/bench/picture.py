"""The picture of a benchmark: how every stage's times are spread, and how they went over the run.

    above   one row a stage: density over a logarithmic axis, ticks at p50, p95, p99 and max
    below   every frame's end-to-end time from begin to end, its running median, and the heat

Sizes are in pixels of the finished picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..canvas import Array, Canvas, Color, Image
from .record import END_TO_END, Record
from .report import label_of
from .samples import present

WIDTH_PX, HEIGHT_PX = 1600, 1100
LEFT_PX, RIGHT_PX, TOP_PX = 190, 1270, 112  # of both panels; numbers stand to the right
NUMBER_PX = 74  # between the columns of numbers
SPREAD_PX = 560  # height of the upper panel
COURSE_TOP_PX, COURSE_PX = 775, 240
BINS = 160
SMOOTH_BINS = 1.6
RUNNING = 25  # frames of the running median

PAPER: Color = (250, 250, 247)
INK: Color = (34, 38, 46)
FAINT: Color = (214, 216, 214)
GREY: Color = (120, 124, 130)
STAGE: Color = (72, 132, 190)
INSIDE: Color = (132, 176, 214)
APART: Color = (172, 176, 182)
WHOLE: Color = (214, 104, 40)
HEAT: Color = (196, 58, 74)


@dataclass(frozen=True)
class Row:
    """One stage."""

    label: str
    samples_ms: Array
    color: Color


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis of milliseconds."""

    low_ms: float
    high_ms: float

    @staticmethod
    def over(samples_ms: Array) -> "Scale":
        """Round values of 1, 2, 5 times a power of ten around all samples."""
        steps = [base * 10.0**power for power in range(-5, 7) for base in (1, 2, 5)]
        low = max(step for step in steps if step <= max(float(samples_ms.min()), steps[0]))
        return Scale(low, min(step for step in steps if step > float(samples_ms.max())))

    def x_px(self, value_ms: float | Array) -> Array:
        """Column of a time."""
        share = np.log(np.asarray(value_ms) / self.low_ms) / math.log(self.high_ms / self.low_ms)
        column: Array = LEFT_PX + share * (RIGHT_PX - LEFT_PX)
        return column

    @property
    def ticks_ms(self) -> list[float]:
        """Where the axis has a line."""
        return [
            base * 10.0**power
            for power in range(-5, 7)
            for base in (1, 2, 5)
            if self.low_ms <= base * 10.0**power <= self.high_ms * 1.001
        ]


def draw_record(record: Record) -> Image:
    """The picture, (HEIGHT_PX, WIDTH_PX, 3) RGB."""
    canvas, rows = Canvas.blank(WIDTH_PX, HEIGHT_PX, PAPER), rows_of(record)
    _draw_title(canvas, record)
    _draw_spread(canvas, rows)
    _draw_course(canvas, record)
    return canvas.finished()


def rows_of(record: Record) -> list[Row]:
    """Stages as they follow each other, the engine's parts under theirs, and the whole."""
    rows: list[Row] = []
    for name, samples in record.path_ms.items():
        rows.append(Row(label_of(name), present(samples), STAGE))
        if name == "encode":
            rows += [
                Row(f"  {part}", present(times), INSIDE) for part, times in record.engine_ms.items()
            ]
    rows.append(Row(END_TO_END, present(record.end_to_end_ms), WHOLE))
    rows += [Row(f"({name})", present(times), APART) for name, times in record.apart_ms.items()]
    return [row for row in rows if row.samples_ms.size and row.samples_ms.max() > 0]


def density(samples_ms: Array, scale: Scale) -> tuple[Array, Array]:
    """Centres in ms (BINS,) and smoothed shares of the samples, the largest 1, (BINS,)."""
    edges = np.geomspace(scale.low_ms, scale.high_ms, BINS + 1)
    counts, _ = np.histogram(np.clip(samples_ms, edges[0], edges[-1]), edges)
    reach = math.ceil(3 * SMOOTH_BINS)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTH_BINS) ** 2)
    smooth = np.convolve(counts, kernel, mode="same")
    return np.sqrt(edges[:-1] * edges[1:]), smooth / smooth.max()


def running_median(values: Sequence[float]) -> Array:
    """Median of RUNNING values around each, fewer at the ends."""
    half = RUNNING // 2
    return np.array(
        [np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    )


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not under `least`."""
    decade = 10.0 ** math.floor(math.log10(least))
    return float(next(step * decade for step in (1, 2, 5, 10) if step * decade >= least))


def _draw_title(canvas: Canvas, record: Record) -> None:
    subject, machine, work = record.subject, record.machine, record.workload
    p50, p99 = np.percentile(record.end_to_end_ms, (50, 99))
    canvas.text(f"skyfix bench: {subject.model} by {subject.engine}", 30, 44, 19, INK)
    canvas.text(f"end to end p50 {p50:.1f} ms, p99 {p99:.1f} ms", WIDTH_PX - 30, 44, 19, WHOLE, 1.0)
    where = " / ".join(part for part in (machine.board or machine.cpu, machine.gpu) if part)
    line = (
        f"{where}, {subject.threads} threads; {len(record.end_to_end_ms)} frames of "
        f"{work.width_px} x {work.height_px} px, {work.tiles or 'no'} tiles"
    )
    canvas.text(line, 30, 76, 12, GREY)


def _draw_spread(canvas: Canvas, rows: list[Row]) -> None:
    """All rows on one axis."""
    scale = Scale.over(np.concatenate([row.samples_ms for row in rows]))
    for tick_ms in scale.ticks_ms:
        x = float(scale.x_px(tick_ms))
        canvas.line(np.array([[x, TOP_PX], [x, TOP_PX + SPREAD_PX]]), FAINT, 0.6)
        canvas.text(f"{tick_ms:g}", x, TOP_PX + SPREAD_PX + 24, 11, GREY, 0.5)
    canvas.text("ms", RIGHT_PX + 32, TOP_PX + SPREAD_PX + 24, 11, GREY)
    for index, head in enumerate(("p50", "p95", "p99", "max")):
        canvas.text(head, RIGHT_PX + NUMBER_PX * (index + 1), TOP_PX - 6, 10, GREY, 1.0)
    pitch = SPREAD_PX / len(rows)
    for index, row in enumerate(rows):
        _draw_row(canvas, row, scale, TOP_PX + (index + 1) * pitch - 4, pitch - 12)


def _draw_row(canvas: Canvas, row: Row, scale: Scale, base_px: float, height_px: float) -> None:
    """A hill of frames, ticks at its percentiles, and their numbers."""
    centers, shares = density(row.samples_ms, scale)
    x = scale.x_px(centers)
    there = np.flatnonzero(shares > 1e-3)
    span = slice(int(there[0]), int(there[-1]) + 1)
    hill = np.stack([x[span], base_px - shares[span] * height_px], axis=1)
    feet = np.array([[hill[-1, 0], base_px], [hill[0, 0], base_px]])
    canvas.line(np.array([[LEFT_PX, base_px], [RIGHT_PX, base_px]]), FAINT, 0.8)
    canvas.area(np.concatenate([hill, feet]), row.color)
    canvas.text(row.label, LEFT_PX - 14, base_px - 2, 12, INK, 1.0)
    percents = np.percentile(row.samples_ms, (50, 95, 99, 100))
    for index, value in enumerate(percents.tolist()):
        column = float(scale.x_px(max(value, scale.low_ms)))
        tall = height_px * (0.9, 0.6, 0.45, 0.3)[index]
        canvas.line(np.array([[column, base_px + 3], [column, base_px - tall]]), INK, 1.4)
        canvas.text(_short(value), RIGHT_PX + NUMBER_PX * (index + 1), base_px - 2, 10.5, INK, 1.0)


def _draw_course(canvas: Canvas, record: Record) -> None:
    """Every frame from begin to end."""
    times, values = np.array(record.started_s), np.array(record.end_to_end_ms)
    high = float(np.percentile(values, 99) * 1.25)
    bottom, end_s = COURSE_TOP_PX + COURSE_PX, max(float(times[-1]), 1e-6)

    def pixels(when_s: Array, share: Array) -> Array:
        x = LEFT_PX + when_s / end_s * (RIGHT_PX - LEFT_PX)
        return np.stack([x, bottom - np.clip(share, 0, 1) * COURSE_PX], axis=1)

    step = round_step(high / 4)
    for value in np.arange(0, high, step):
        y = bottom - value / high * COURSE_PX
        canvas.line(np.array([[LEFT_PX, y], [RIGHT_PX, y]]), FAINT, 0.6)
        canvas.text(f"{value:g}", LEFT_PX - 14, y + 5, 11, GREY, 1.0)
    canvas.text("end to end, ms, in the order of the frames", LEFT_PX, COURSE_TOP_PX - 14, 12, GREY)
    canvas.dots(pixels(times, values / high), 2.2, (236, 178, 140))
    canvas.line(pixels(times, running_median(record.end_to_end_ms) / high), WHOLE, 2.4)
    for when_s in np.arange(0, end_s * 1.001, round_step(end_s / 8)):
        x = LEFT_PX + when_s / end_s * (RIGHT_PX - LEFT_PX)
        canvas.text(f"{when_s:g} s", x, bottom + 24, 11, GREY, 0.5)
    _draw_heat(canvas, record, pixels)
    for index, verdict in enumerate((record.summary.verdicts if record.summary else [])[:2]):
        canvas.text(f"beware: {verdict}"[:150], 30, bottom + 48 + 18 * index, 11, HEAT)


def _draw_heat(canvas: Canvas, record: Record, pixels: Callable[[Array, Array], Array]) -> None:
    """The hottest sensor over the same time, on a scale of its own at the right."""
    pairs = [
        (when_s, heat)
        for when_s, heat in zip(record.trace.times_s, record.trace.hottest_c, strict=True)
        if heat is not None and when_s <= record.started_s[-1]
    ]
    if not pairs:
        canvas.text("no temperature readable here", RIGHT_PX, COURSE_TOP_PX - 14, 12, GREY, 1.0)
        return
    when_s, heat_c = np.array(pairs).T
    low, high = math.floor(heat_c.min() - 1), math.ceil(heat_c.max() + 1)
    canvas.line(pixels(when_s, (heat_c - low) / (high - low)), HEAT, 2)
    canvas.text("hottest sensor, C", RIGHT_PX, COURSE_TOP_PX - 14, 12, HEAT, 1.0)
    canvas.text(f"{high}", RIGHT_PX + 12, COURSE_TOP_PX + 5, 11, HEAT)
    canvas.text(f"{low}", RIGHT_PX + 12, COURSE_TOP_PX + COURSE_PX + 5, 11, HEAT)


def _short(value_ms: float) -> str:
    """Three digits."""
    return f"{value_ms:.3g}" if value_ms < 1000 else f"{value_ms:.0f}"
