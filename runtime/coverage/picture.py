"""The mission check as a picture: the dimmed map under the chances, the route, its worst places.

Chances are coloured from dark red (never found) over yellow to blue (always), which also those
tell apart who see no red or green; where there is no tile the map stays grey and dark.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..canvas import (
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
from ..geo import Grid
from ..maps.pack import TilePack
from .check import Outlook
from .mission import Mission
from .report import CoverageReport, PlaceReport

MAP_PX = 1100  # longer side of the map
SHORTEST_PX = 700  # of the map's other side, so that the panel has room
PANEL_PX = 430  # to the right of it
GROUND_SHARE = 0.62  # brightness of the map
TINT = 0.4  # opacity of the chances over it
OUTSIDE_SHARE = 0.35  # brightness where there is no tile
ROUTE_PX = 5.0
CHANCES: tuple[tuple[float, Color], ...] = (
    (0.0, (165, 0, 38)), (0.25, (244, 109, 67)), (0.5, (254, 224, 139)),
    (0.75, (116, 173, 209)), (1.0, (49, 84, 190)),
)  # fmt: skip
UNKNOWN: Color = (90, 92, 98)
WORST: Color = (255, 255, 255)


@dataclass(frozen=True)
class View:
    """The part of the map that the picture shows."""

    west_m: float
    north_m: float
    px_per_m: float
    width_px: int
    height_px: int

    def pixels(self, points_en_m: Array) -> Array:
        """Column and row (n, 2) in the finished picture of ground points (n, 2)."""
        offset: Array = (points_en_m - [self.west_m, self.north_m]) * [1, -1] * self.px_per_m
        return offset


def draw_mission(pack: TilePack, mission: Mission) -> Image:
    """The picture, (H, W, 3) RGB."""
    view = view_of_grid(mission.sweep_grid)
    canvas = Canvas.blank(view.width_px + PANEL_PX, view.height_px, DARK)
    where = (slice(0, scaled(view.height_px)), slice(0, scaled(view.width_px)))
    canvas.image[where] = _ground(pack, view, mission)
    if mission.along is not None and mission.line_en_m is not None:
        _draw_route(canvas, view, mission.along)
    _draw_worst(canvas, view, pack, mission.report.worst)
    _draw_scale(canvas, view)
    _draw_panel(canvas, view, mission.report)
    return canvas.finished()


def view_of_grid(grid: Grid) -> View:
    """All cells of the sweep, each as a square of its step, on at least SHORTEST_PX both ways."""
    width_m, height_m = grid.columns * grid.step_m, grid.rows * grid.step_m
    px_per_m = MAP_PX / max(width_m, height_m)
    width_px = max(SHORTEST_PX, round(width_m * px_per_m))
    height_px = max(SHORTEST_PX, round(height_m * px_per_m))
    middle_east_m = grid.east_m + (grid.columns - 1) / 2 * grid.step_m
    middle_north_m = grid.north_m - (grid.rows - 1) / 2 * grid.step_m
    return View(
        middle_east_m - width_px / px_per_m / 2,
        middle_north_m + height_px / px_per_m / 2,
        px_per_m, width_px, height_px,
    )  # fmt: skip


def color_of_chance(chance: float) -> Color:
    """Between the colours of CHANCES; UNKNOWN for NaN."""
    if math.isnan(chance):
        return UNKNOWN
    at, colors = zip(*CHANCES, strict=True)
    red, green, blue = (
        round(float(np.interp(chance, at, channel))) for channel in zip(*colors, strict=True)
    )
    return red, green, blue


def _ground(pack: TilePack, view: View, mission: Mission) -> Image:
    """The overview under the tint of the chances."""
    shape = (scaled(view.height_px), scaled(view.width_px))
    grey, on_map = _overview(pack, view, shape)
    picture = np.repeat(grey[..., None].astype(np.float32), 3, axis=2) * GROUND_SHARE
    if mission.sweep is not None:
        tint, inside = _tint(mission.sweep, mission.sweep_grid, view, shape)
        known = inside[..., None]
        picture = np.where(
            known, picture * (1 - TINT) + tint * TINT, picture * (OUTSIDE_SHARE / GROUND_SHARE)
        )
    picture[~on_map] = DARK
    return picture.astype(np.uint8)


def _overview(
    pack: TilePack, view: View, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Grey of the view, its contrast stretched to what the map holds, and where there is map."""
    gsd_m = pack.manifest.overview_gsd_m
    wanted_m = 1 / view.px_per_m / SUPERSAMPLING
    size_px = (round(shape[0] * wanted_m / gsd_m), round(shape[1] * wanted_m / gsd_m))
    grey, valid = pack.overview(view.west_m, view.north_m, size_px)
    low, high = np.percentile(grey[valid], [1, 99]) if valid.any() else (0.0, 255.0)
    stretched = np.clip((grey.astype(np.float32) - low) * (255 / max(high - low, 1)), 0, 255)
    shrink = size_px[0] > shape[0]
    wide = cv2.resize(
        stretched, shape[::-1], interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )
    there = cv2.resize(valid.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return wide.astype(np.uint8), there.astype(bool)


def _tint(
    sweep: Outlook, grid: Grid, view: View, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Colours of the chances between the places of the sweep, and where they are known."""
    chance = sweep.chance.reshape(grid.rows, grid.columns)
    known = np.isfinite(chance)
    weight = known.astype(np.float32)
    step_px = grid.step_m * view.px_per_m * SUPERSAMPLING
    first = (view.pixels(np.array([[grid.east_m, grid.north_m]])) * SUPERSAMPLING - 0.5).ravel()
    place = np.array([[step_px, 0, first[0]], [0, step_px, first[1]]])

    def spread(values: NDArray[np.float32], how: int) -> NDArray[np.float32]:
        return cv2.warpAffine(
            values, place, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32, copy=False)

    share = spread(weight, cv2.INTER_LINEAR)
    smooth = spread(np.nan_to_num(chance), cv2.INTER_LINEAR) / np.maximum(share, 1e-3)
    at, colors = zip(*CHANCES, strict=True)
    tint = np.stack(
        [np.interp(smooth, at, channel) for channel in zip(*colors, strict=True)], axis=-1
    ).astype(np.float32)
    return tint, spread(weight, cv2.INTER_NEAREST) > 0


def _draw_route(canvas: Canvas, view: View, along: Outlook) -> None:
    """Each step in the colour of its chance, on a dark line; a ring at the start."""
    points = view.pixels(along.places.en_m)
    canvas.line(points, DARK, ROUTE_PX + 5)
    canvas.line(points, WHITE, ROUTE_PX + 2)
    middles = (points[:-1] + points[1:]) / 2
    ends = np.concatenate([points[:1], middles, points[-1:]])
    for index, chance in enumerate(along.chance.tolist()):
        step = np.stack([ends[index], points[index], ends[index + 1]])
        canvas.line(step, color_of_chance(chance), ROUTE_PX)
    canvas.dot(points[0], 9, WHITE)
    canvas.dot(points[0], 5, DARK)


def _draw_worst(canvas: Canvas, view: View, pack: TilePack, worst: list[PlaceReport]) -> None:
    """A numbered ring at each, and a thin line to the place that it is taken for."""
    size = np.array([view.width_px, view.height_px])
    for place in worst:
        here = view.pixels(_en_m(pack, place.lat_deg, place.lon_deg))[0]
        if place.alike_lat_deg is not None and place.alike_lon_deg is not None:
            there = view.pixels(_en_m(pack, place.alike_lat_deg, place.alike_lon_deg))[0]
            if ((there > 0) & (there < size)).all():
                canvas.line(np.stack([here, there]), DARK, 3)
                canvas.line(np.stack([here, there]), WORST, 1.2)
                canvas.dot(there, 3.5, WORST)
    for number, place in enumerate(worst, start=1):  # over all lines
        here = view.pixels(_en_m(pack, place.lat_deg, place.lon_deg))[0]
        canvas.dot(here, 12, WORST)
        canvas.dot(here, 10, (140, 20, 30))
        canvas.text(str(number), float(here[0]) - 4.5, float(here[1]) + 5.5, 11)


def _en_m(pack: TilePack, lat_deg: float, lon_deg: float) -> Array:
    east, north = pack.frame.en_from_wgs84(lat_deg, lon_deg)
    return np.array([[float(east), float(north)]])


def _draw_scale(canvas: Canvas, view: View) -> None:
    """A bar of a round length; north is up."""
    length_m = round_length_m(view.width_px / 4 / view.px_per_m)
    length_px = length_m * view.px_per_m
    left, base = 26.0, view.height_px - 28.0
    canvas.panel(left - 12, base - 34, length_px + 24, 50)
    bar = np.array([[0, -7], [0, 0], [length_px, 0], [length_px, -7]])
    canvas.line(bar + np.array([left, base]), WHITE, 2.5)
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    canvas.text(label, left, base - 15, 12)


def _draw_panel(canvas: Canvas, view: View, report: CoverageReport) -> None:
    """Title, answer in words, colours, worst places."""
    left, base = view.width_px + 26.0, 48.0
    canvas.text("Mission check", left, base, 19)
    for text in _answer(report):
        base += 30
        canvas.text(text, left, base, 12)
    base += 52
    canvas.text("chance that a lost drone's single", left, base, 12)
    canvas.text("frame stands out at its true place", left, base + 24, 12)
    _draw_colors(canvas, left, base + 42)
    base += 150
    if report.worst:
        canvas.text("worst places, and what they look like", left, base, 12)
    for number, place in enumerate(report.worst, start=1):
        base += 32
        canvas.dot(np.array([left + 10, base - 5]), 11, (140, 20, 30))
        canvas.text(str(number), left + 5.5, base + 0.5, 11)
        away = "" if place.alike_distance_m is None else f", as {place.alike_distance_m:.0f} m off"
        canvas.text(
            f"{100 * (place.chance or 0):.0f} %, {place.kind.value}{away}", left + 34, base, 12
        )


def _answer(report: CoverageReport) -> list[str]:
    share, first = report.kinds_percent, report.first_fix
    where = "map" if report.route_m is None else f"route of {report.route_m:.0f} m"
    lines = [f"{report.localisable_percent:.0f} % of the {where} localisable"]
    lines += [f"{share[kind]:.0f} % {kind}" for kind in ("ambiguous", "bare", "outside")]
    if report.longest_gap_m is not None:
        lines.append(f"longest gap {report.longest_gap_m:.0f} m, {report.longest_gap_s:.0f} s")
    ends = [
        "none" if seconds is None else f"{seconds:.0f} s"
        for seconds in (first.median_s, first.p90_s)
    ]
    lines.append(f"first fix, lost: median {ends[0]}, 90 % {ends[1]}")
    lines.append(f"{report.speed_mps:g} m/s, a frame every {report.interval_s:g} s")
    return lines


def _draw_colors(canvas: Canvas, left_px: float, top_px: float) -> None:
    """The bar of chances, its ends named, and the grey of no tile."""
    width, height = PANEL_PX - 60.0, 18.0
    steps = 100
    for step in range(steps):
        x = left_px + width * step / steps
        corners = np.array(
            [[x, top_px], [x + width / steps + 0.6, top_px],
             [x + width / steps + 0.6, top_px + height], [x, top_px + height]]
        )  # fmt: skip
        canvas.area(corners, color_of_chance((step + 0.5) / steps))
    for share, shift in ((0.0, 0.0), (0.5, -16.0), (1.0, -46.0)):
        canvas.text(f"{100 * share:.0f} %", left_px + width * share + shift, top_px + 40, 12)
    canvas.dot(np.array([left_px + 6, top_px + 61]), 5, UNKNOWN)
    canvas.text("off the map, or too near to its edge", left_px + 22, top_px + 66, 12)
