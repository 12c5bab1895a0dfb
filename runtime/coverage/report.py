"""What the mission check says: numbers for programs, a table for people."""

import math
from collections import Counter
from itertools import groupby

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.table import Table

from ..maps.pack import TilePack
from .check import Flying, Kind, Outlook

SCHEMA = 1
WORST = 5  # places that are named
WORST_APART_SHARE = 0.12  # of the extent of all places, between two of them


class PlaceReport(msgspec.Struct, frozen=True):
    """One place; null where it lies outside."""

    lat_deg: float
    lon_deg: float
    kind: Kind
    chance: float | None  # that a single lost frame stands out here, at the true place
    contrast_grey: float | None
    edge_m: float
    first_fix_s: float | None  # median from a lost start here, null where there is none
    alike_lat_deg: float | None  # the place that is most often taken for it
    alike_lon_deg: float | None
    alike_distance_m: float | None
    alike_weight: float | None


class FirstFix(msgspec.Struct, frozen=True):
    """Time from a lost start anywhere on the route or map; null where none came in time."""

    median_s: float | None
    p90_s: float | None
    none_percent: float  # of starts without a fix in that time
    false_percent: float  # of starts whose first fix is another place


class CoverageReport(msgspec.Struct, frozen=True):
    """The whole answer."""

    schema: int
    pack_id: str
    model_id: str
    speed_mps: float
    interval_s: float
    route_m: float | None  # null where the whole map was asked for
    localisable_percent: float
    kinds_percent: dict[str, float]
    longest_gap_m: float | None  # stretch of the route without a localisable place
    longest_gap_s: float | None
    first_fix: FirstFix
    worst: list[PlaceReport]
    places: list[PlaceReport]


def report_from_outlook(
    pack: TilePack, found: Outlook, flying: Flying, route_m: float | None
) -> CoverageReport:
    """The outlook in numbers."""
    count = len(found.kind)
    number = Counter(found.kind)
    gap_m = None if route_m is None else longest_gap_m(found.kind, route_m)
    places = _places(pack, found)
    return CoverageReport(
        schema=SCHEMA,
        pack_id=pack.pack_id,
        model_id=pack.manifest.model_id,
        speed_mps=flying.speed_mps,
        interval_s=flying.interval_s,
        route_m=None if route_m is None else round(route_m, 1),
        localisable_percent=_percent(number[Kind.LOCALISABLE], count),
        kinds_percent={kind.value: _percent(number[kind], count) for kind in Kind},
        longest_gap_m=None if gap_m is None else round(gap_m, 1),
        longest_gap_s=None if gap_m is None else round(gap_m / flying.speed_mps, 1),
        first_fix=_first_fix(found, found.places.inside | (route_m is not None)),
        worst=[places[index] for index in worst_places(found)],
        places=places,
    )


def longest_gap_m(kinds: list[Kind], route_m: float) -> float:
    """The longest stretch of a route, evenly sampled, without a localisable place."""
    runs = [
        len(list(run)) for kind, run in groupby(k is Kind.LOCALISABLE for k in kinds) if not kind
    ]
    return min(max(runs, default=0) * route_m / max(len(kinds) - 1, 1), route_m)


def worst_places(found: Outlook) -> list[int]:
    """The places inside that are no place to be lost at, worst first and apart from each other."""
    en_m = found.places.en_m
    apart_m = WORST_APART_SHARE * float(np.hypot(*np.ptp(en_m, axis=0)))
    chosen: list[int] = []
    for index in np.argsort(found.chance, kind="stable").tolist():
        if found.kind[index] in {Kind.LOCALISABLE, Kind.OUTSIDE} or len(chosen) == WORST:
            continue
        if all(math.dist(en_m[index], en_m[other]) > apart_m for other in chosen):
            chosen.append(index)
    return chosen


def table_from_report(report: CoverageReport) -> Table:
    """The summary for a terminal."""
    table = Table(box=None, show_header=False)
    share, first = report.kinds_percent, report.first_fix
    where = "map" if report.route_m is None else f"route, {report.route_m:.0f} m"
    table.add_row("localisable", f"{share['localisable']:.0f} % of the {where}")
    for kind, meaning in (
        ("ambiguous", "looks like other places"),
        ("bare", "too little to see"),
        ("outside", "off the map or at its very edge"),
    ):
        table.add_row(kind, f"{share[kind]:.0f} %, {meaning}")
    if report.longest_gap_m is not None:
        gap = f"{report.longest_gap_m:.0f} m, {report.longest_gap_s:.0f} s"
        table.add_row("longest stretch without", gap)
    table.add_row("first fix from a lost start", f"median {_seconds(first.median_s)}")
    table.add_row("", f"90 % within {_seconds(first.p90_s)}")
    table.add_row("", f"none in {first.none_percent:.0f} % of starts")
    table.add_row("", f"at another place in {first.false_percent:.1f} %")
    return table


def worst_table(report: CoverageReport) -> Table:
    """The worst places, numbered as in the picture."""
    table = Table(box=SIMPLE, title="worst places", title_justify="left")
    for name in ("", "lat, lon", "kind", "chance", "looks like", "away"):
        table.add_column(name, no_wrap=True)
    for number, place in enumerate(report.worst, start=1):
        table.add_row(
            str(number), f"{place.lat_deg:.5f}, {place.lon_deg:.5f}", place.kind.value,
            f"{100 * (place.chance or 0):.0f} %",
            f"{place.alike_lat_deg:.5f}, {place.alike_lon_deg:.5f}",
            f"{place.alike_distance_m:.0f} m",
        )  # fmt: skip
    return table


def _places(pack: TilePack, found: Outlook) -> list[PlaceReport]:
    east, north = found.places.en_m.T
    lat, lon = pack.frame.wgs84_from_en(east, north)
    grid = pack.grid
    alike_row, alike_column = found.alike.astype(np.float64).T
    alike_east = grid.east_m + alike_column * grid.step_m
    alike_north = grid.north_m - alike_row * grid.step_m
    alike_lat, alike_lon = pack.frame.wgs84_from_en(alike_east, alike_north)
    away_m = np.hypot(alike_east - east, alike_north - north)
    has_alike = found.places.inside & (found.alike[:, 0] >= 0)
    alike = [np.where(has_alike, v, np.nan) for v in (alike_lat, alike_lon, away_m)]
    first_s = _quantile(found.first_fix_s, 0.5)
    return [
        PlaceReport(
            lat_deg=round(float(lat[index]), 7),
            lon_deg=round(float(lon[index]), 7),
            kind=kind,
            chance=_known(found.chance[index], 3),
            contrast_grey=_known(found.contrast[index], 1),
            edge_m=round(float(found.places.edge_m[index]), 1),
            first_fix_s=_known(first_s[index], 2),
            alike_lat_deg=_known(alike[0][index], 7),
            alike_lon_deg=_known(alike[1][index], 7),
            alike_distance_m=_known(alike[2][index], 1),
            alike_weight=_known(found.alike_weight[index], 3),
        )
        for index, kind in enumerate(found.kind)
    ]


def _first_fix(found: Outlook, starts: NDArray[np.bool_]) -> FirstFix:
    """Over the starting places (P,) that count; a route may start off the map and come to it."""
    times, right = found.first_fix_s[starts].ravel(), found.first_fix_right[starts].ravel()
    if not times.size:
        return FirstFix(None, None, 100.0, 0.0)
    ended = np.isfinite(times)
    return FirstFix(
        median_s=_known(_quantile(times, 0.5), 2),
        p90_s=_known(_quantile(times, 0.9), 2),
        none_percent=_percent(int((~ended).sum()), times.size),
        false_percent=_percent(int((ended & ~right).sum()), times.size),
    )


def _quantile(times: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """The smallest time within which this share of the last axis ends, infinite ones included."""
    ordered = np.sort(times, axis=-1)
    quantile: NDArray[np.float32] = ordered[..., math.ceil(share * times.shape[-1]) - 1]
    return quantile


def _known(value: float | np.floating | NDArray[np.float32], digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _percent(count: int, of: int) -> float:
    return round(100 * count / max(of, 1), 2)


def _seconds(value: float | None) -> str:
    return "not in the time searched" if value is None else f"{value:.1f} s"
