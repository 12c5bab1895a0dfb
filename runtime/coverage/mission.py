"""A mission on a pack: its route in even steps, the map around it, and the outlook of both."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..fuse.likelihood import Likelihood
from ..geo import Grid
from ..maps.pack import TilePack
from .check import Flying, Outlook, outlook, places_on
from .report import CoverageReport, report_from_outlook
from .rivals import Progress
from .route import read_route, route_in_frame

ROUTE_PLACES = 300  # at most; more are no finer than the map's own grid on most routes
SWEEP_PLACES = 400  # about, over the map
SURROUND = 0.35  # of the route's extent, shown on each side of it

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mission:
    """What was asked and what is to be expected."""

    report: CoverageReport
    line_en_m: Array | None  # (n, 2) the route's own points; None where all of the map was asked
    along: Outlook | None  # of places along it
    sweep_grid: Grid  # of the places over the map
    sweep: Outlook | None  # of them; None where neither the answer nor a picture needs it


def mission_from_route(
    pack: TilePack, route: Path | None, flying: Flying, likelihood: Likelihood, picture: bool,
    progress: Progress,
) -> Mission:  # fmt: skip
    """Check a route, or all of the map where there is none."""
    if route is None:
        grid = sweep_grid(pack.bounds_m, pack.grid.step_m)
        sweep = _swept(pack, grid, flying, likelihood, progress)
        return Mission(report_from_outlook(pack, sweep, flying, None), None, None, grid, sweep)
    line_en_m = route_in_frame(read_route(route), pack.frame, pack.bounds_m, str(route))
    points_en_m, length_m = evenly(line_en_m, pack.grid.step_m)
    places = places_on(pack, points_en_m)
    along = outlook(pack, places, flying, likelihood, length_m, progress)
    report = report_from_outlook(pack, along, flying, length_m)
    grid = sweep_grid(_around(line_en_m, pack.bounds_m), pack.grid.step_m)
    around = _swept(pack, grid, flying, likelihood, progress) if picture else None
    return Mission(report, line_en_m, along, grid, around)


def evenly(line_en_m: Array, step_m: float) -> tuple[Array, float]:
    """Points (P, 2) along a line (n, 2), ends included, `step_m` apart or more; its length."""
    legs_m = np.hypot(*np.diff(line_en_m, axis=0).T)
    ends_m = np.concatenate([[0.0], np.cumsum(legs_m)])
    length_m = float(ends_m[-1])
    count = int(np.clip(math.ceil(length_m / step_m) + 1, 2, ROUTE_PLACES))
    along_m = np.linspace(0, length_m, count)
    points = np.stack([np.interp(along_m, ends_m, axis) for axis in line_en_m.T], axis=1)
    return points, length_m


def sweep_grid(bounds_m: tuple[float, float, float, float], step_m: float) -> Grid:
    """About SWEEP_PLACES places over an area, not finer than the map's grid."""
    west, south, east, north = bounds_m
    coarse_m = max(step_m, math.sqrt((east - west) * (north - south) / SWEEP_PLACES))
    rows = max(1, int((north - south) / coarse_m))
    columns = max(1, int((east - west) / coarse_m))
    return Grid(
        west + (east - west - (columns - 1) * coarse_m) / 2,
        north - (north - south - (rows - 1) * coarse_m) / 2,
        coarse_m, rows, columns,
    )  # fmt: skip


def _swept(
    pack: TilePack, grid: Grid, flying: Flying, likelihood: Likelihood, progress: Progress
) -> Outlook:
    points = np.stack(grid.en_from_index(np.arange(grid.size)), axis=1)
    return outlook(pack, places_on(pack, points), flying, likelihood, None, progress)


def _around(
    line_en_m: Array, bounds_m: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The route and what lies around it, as far as the map goes."""
    low, high = line_en_m.min(axis=0), line_en_m.max(axis=0)
    margin_m = SURROUND * float((high - low).max())
    west, south = np.maximum(low - margin_m, bounds_m[:2]).tolist()
    east, north = np.minimum(high + margin_m, bounds_m[2:]).tolist()
    return west, south, east, north
