"""The demo's picture: map, true track, fixes and their 95 % ellipses, drawn in metres."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.canvas import (
    DARK,
    SUPERSAMPLING,
    WHITE,
    Array,
    Canvas,
    Color,
    Image,
    round_length_m,
    scaled,
)
from ..runtime.maps.raster import Raster
from ..runtime.score import CHI2_95

WIDTH_PX, HEIGHT_PX = 1600, 1100
MARGIN_M = 45.0  # of map around everything that is drawn
LOCATOR_PX = 250  # width of the small whole map
BACKGROUND_SHARE = 0.82  # brightness of the map, so that what is drawn over it stands out
AREA_SHARE, RING_SHARE = 0.16, 0.35  # opacity of what the ellipses cover, and of their lines

NO_FIX: Color = (255, 92, 92)
TRACKING: Color = (255, 196, 40)
DEGRADED: Color = (255, 120, 30)
ELLIPSE: Color = (90, 225, 255)


@dataclass(frozen=True)
class Track:
    """A flight in metres of the map's frame."""

    true_en_m: Array  # (n, 2)
    fix_en_m: Array  # (n, 2), NaN where no position was published
    cov_en_m2: Array  # (n, 2, 2), NaN likewise
    tracking: NDArray[np.bool_]  # (n,) False where a fix has a caveat


@dataclass(frozen=True)
class View:
    """The part of the map that the picture shows."""

    west_m: float
    north_m: float
    px_per_m: float  # pixels of the finished picture

    def pixels(self, points_en_m: Array) -> Array:
        """Column and row (n, 2) in the finished picture of ground points (n, 2)."""
        offset: Array = (points_en_m - [self.west_m, self.north_m]) * [1, -1] * self.px_per_m
        return offset


def draw_track(raster: Raster, track: Track, title: str) -> Image:
    """The picture, (HEIGHT_PX, WIDTH_PX, 3) RGB."""
    view = view_from_track(track)
    canvas = Canvas(_ground(raster, view))
    _draw_ellipses(canvas, view, track)
    _draw_true_track(canvas, view, track)
    _draw_fixes(canvas, view, track)
    _draw_locator(canvas, raster, view)
    _draw_legend(canvas)
    _draw_scale(canvas, view)
    canvas.panel(0, 0, WIDTH_PX, 44)
    canvas.text(title, 20, 29, 15)
    return canvas.finished()


def ellipse_points(center_en_m: Array, cov_en_m2: Array, count: int = 48) -> Array:
    """Points (count, 2) around the area that holds 95 % of the probability."""
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False)
    variance, axes = np.linalg.eigh(cov_en_m2)
    radii = np.sqrt(np.maximum(variance, 0) * CHI2_95)
    around: Array = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii @ axes.T
    return center_en_m + around


def view_from_track(track: Track) -> View:
    """The smallest view of the picture's shape that shows the track and every fix."""
    points = np.concatenate([track.true_en_m, track.fix_en_m])
    low, high = np.nanmin(points, axis=0) - MARGIN_M, np.nanmax(points, axis=0) + MARGIN_M
    px_per_m = float(min(WIDTH_PX / (high[0] - low[0]), HEIGHT_PX / (high[1] - low[1])))
    middle = (low + high) / 2
    return View(
        west_m=float(middle[0]) - WIDTH_PX / px_per_m / 2,
        north_m=float(middle[1]) + HEIGHT_PX / px_per_m / 2,
        px_per_m=px_per_m,
    )


def _ground(raster: Raster, view: View) -> Image:
    """The map under the view, darkened a little; dark where it ends."""
    size_px = (HEIGHT_PX * SUPERSAMPLING, WIDTH_PX * SUPERSAMPLING)
    gsd_m = 1 / view.px_per_m / SUPERSAMPLING
    window = raster.read(view.west_m, view.north_m, size_px, gsd_m)
    image: Image = (window.image * np.float32(BACKGROUND_SHARE)).astype(np.uint8)
    image[~window.valid] = DARK
    return image


def _draw_ellipses(canvas: Canvas, view: View, track: Track) -> None:
    """A line around each, and one tint over all that those without a caveat cover."""
    shown = np.isfinite(track.cov_en_m2).all(axis=(1, 2)) & np.isfinite(track.fix_en_m).all(axis=1)
    rings = {
        index: view.pixels(ellipse_points(track.fix_en_m[index], track.cov_en_m2[index]))
        for index in np.flatnonzero(shown).tolist()
    }
    with canvas.faint(AREA_SHARE):
        for index, ring in rings.items():
            if track.tracking[index]:  # one that spans the map would tint it all
                canvas.area(ring, ELLIPSE)
    with canvas.faint(RING_SHARE):
        for index, ring in rings.items():
            canvas.outline(ring, ELLIPSE if track.tracking[index] else DEGRADED, 1)


def _draw_true_track(canvas: Canvas, view: View, track: Track) -> None:
    """A white line on a dark one, its start, and red dots where nothing was published."""
    points = view.pixels(track.true_en_m)
    canvas.line(points, DARK, 6)
    canvas.line(points, WHITE, 3)
    for point in points[~np.isfinite(track.fix_en_m).all(axis=1)]:
        canvas.dot(point, 3.5, NO_FIX)
    _draw_start(canvas, points[0])


def _draw_fixes(canvas: Canvas, view: View, track: Track) -> None:
    """A line from the truth to each fix, so that an error has its frame."""
    shown = np.isfinite(track.fix_en_m).all(axis=1)
    fixes, truth = view.pixels(track.fix_en_m[shown]), view.pixels(track.true_en_m[shown])
    for pair in np.stack([truth, fixes], axis=1):
        canvas.line(pair, TRACKING, 1.2)
    for fix, tracking in zip(fixes, track.tracking[shown], strict=True):
        canvas.dot(fix, 4, TRACKING if tracking else DEGRADED)


def _draw_start(canvas: Canvas, start_px: Array) -> None:
    canvas.dot(start_px, 9, WHITE)
    canvas.dot(start_px, 5, NO_FIX)


def _draw_locator(canvas: Canvas, raster: Raster, view: View) -> None:
    """The whole map in a corner, with a frame around what the picture shows."""
    west, south, east, north = raster.bounds_m
    px_per_m = LOCATOR_PX / (east - west)
    height_px = (north - south) * px_per_m
    left, top = WIDTH_PX - LOCATOR_PX - 20, 64
    canvas.panel(left - 6, top - 6, LOCATOR_PX + 12, height_px + 38)
    rows, columns = scaled(height_px), scaled(LOCATOR_PX)
    small = cv2.resize(raster.image, (columns, rows), interpolation=cv2.INTER_AREA)
    where = (
        slice(scaled(top), scaled(top) + rows),
        slice(scaled(left), scaled(left) + columns),
    )
    canvas.image[where] = small
    size_m = np.array([WIDTH_PX, HEIGHT_PX]) / view.px_per_m
    corner_m, corner_px = np.array([view.west_m, view.north_m]), np.array([left, top])
    corners = corner_m + size_m * [[0, 0], [1, 0], [1, -1], [0, -1]]
    inside = np.clip(View(west, north, px_per_m).pixels(corners), 0, [LOCATOR_PX, height_px])
    canvas.outline(inside + corner_px, WHITE, 2)
    label = f"map {east - west:.0f} x {north - south:.0f} m"
    canvas.text(label, left + 4, top + height_px + 22, 11)


def _draw_legend(canvas: Canvas) -> None:
    """One sample of everything, with its name."""
    left, top, step = 20, HEIGHT_PX - 20 - 6 * 30, 30
    canvas.panel(left, top - 12, 300, 6 * step + 12)
    x = left + 34.0
    bases = [top + step * (row + 0.5) - 3 for row in range(6)]
    samples = [np.array([[x - 20, y], [x + 20, y]]) for y in bases]
    names = ("true track", "start", "no position yet", "fix", "fix with a caveat", "95 % ellipse")
    canvas.line(samples[0], DARK, 6)
    canvas.line(samples[0], WHITE, 3)
    _draw_start(canvas, samples[1].mean(axis=0))
    for sample, color in zip(samples[2:5], (NO_FIX, TRACKING, DEGRADED), strict=True):
        canvas.dot(sample.mean(axis=0), 4, color)
    ring = ellipse_points(samples[5].mean(axis=0), np.diag([50.0, 16.0]))
    with canvas.faint(AREA_SHARE * 2):
        canvas.area(ring, ELLIPSE)
    canvas.outline(ring, ELLIPSE, 1)
    for name, base in zip(names, bases, strict=True):
        canvas.text(name, left + 70, base + 6, 12)


def _draw_scale(canvas: Canvas, view: View) -> None:
    """A bar of a round length, and an arrow to the north above its end."""
    length_m = round_length_m(WIDTH_PX / 5 / view.px_per_m)
    length_px = length_m * view.px_per_m
    right, base = WIDTH_PX - 40.0, HEIGHT_PX - 40.0
    end, head = np.array([right, base]), np.array([right - 13, base - 28])
    canvas.panel(right - length_px - 20, base - 100, length_px + 40, 120)
    canvas.line(end - [[length_px, 7], [length_px, 0], [0, 0], [0, 7]], WHITE, 2.5)
    canvas.text(f"{length_m:g} m", right - length_px, base - 16, 12)
    canvas.area(head + np.array([[0, -50], [13, 0], [0, -11], [-13, 0]]), WHITE)
    canvas.text("N", right - 19, base - 80, 12)
