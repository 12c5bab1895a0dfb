"""`skyfix score`: errors of fixes, and whether their covariances tell the truth.

    e = fix - truth (east, north)          d^2 = e^T (C + s^2 I)^-1 e,  s = std of the truth

d^2 of an honest covariance follows chi-square with two degrees of freedom, so 68 % of the fixes
lie within d^2 <= 2.2789 and 95 % within 5.9915. All frames with a truth count: one that is not
localised is not within any distance. The drone's position and the ground point in the image's
centre are scored separately.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from .errors import InputError
from .geo import LocalFrame
from .publish.messages import Covariance, FixMessage, decode_fix
from .truth import Array, Point, Truth, read_truth

CHI2_68, CHI2_95 = 2.2789, 5.9915  # -2 ln(1 - p) for p = 0.68 and 0.95
FALSE_FIX_STDS = 3.0  # an error of more than this many stds is a false fix


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What fixes are worth at one kind of point; null where nothing could be counted."""

    frames: int  # with a truth
    localised_percent: float | None
    within_10_m_percent: float | None
    within_25_m_percent: float | None
    within_50_m_percent: float | None
    median_m: float | None  # of the localised
    p95_m: float | None
    false_fixes: int  # published with a std under a third of the error
    coverage_68_percent: float | None  # of the localised that state a covariance
    coverage_95_percent: float | None


class PointScores(msgspec.Struct, frozen=True):
    """All frames, and those from the first published position on (it included)."""

    all_frames: Score
    from_first_fix: Score


class FlightScores(msgspec.Struct, frozen=True):
    """Both kinds of points of one flight."""

    drone: PointScores
    center: PointScores


def score(
    fixes: Annotated[Path, typer.Argument(help="JSON lines that `skyfix replay` wrote.")],
    truth: Annotated[Path, typer.Option(help="flight.csv with the truth_ columns.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Compare the fixes of a replay with the true positions.

    Example:
        skyfix score fixes.jsonl --truth flight.csv
    """
    scores = score_flight(read_fixes(fixes), read_truth(truth))
    if json_output:
        print(msgspec.json.encode(scores).decode())
    else:
        Console().print(table_from_scores(scores))


def score_flight(fixes: Sequence[FixMessage], truth: Mapping[Point, Truth]) -> FlightScores:
    """Score every fix against the truth of its frame."""
    by_frame = {fix.frame: fix for fix in fixes}
    if len(by_frame) < len(fixes):
        raise InputError("the fixes name a frame twice: they come from more than one replay")
    unknown = sorted(by_frame.keys() - set(truth["drone"].frames))
    if unknown:
        raise InputError(
            f"{len(unknown)} fixes have frames that the truth does not list, the first is "
            f"{unknown[0]}. Do both files belong to the same flight?"
        )
    return FlightScores(
        drone=_score_point(by_frame, truth["drone"], "drone"),
        center=_score_point(by_frame, truth["center"], "center"),
    )


def score_positions(error_en_m: Array, cov_en_m2: Array, truth_std_m: Array) -> Score:
    """Score of frames that all have a truth.

    Args:
        error_en_m: (n, 2) fix less truth, NaN where not localised.
        cov_en_m2: (n, 2, 2) as published, NaN where not stated.
        truth_std_m: (n,) per axis.
    """
    distance_m = np.hypot(error_en_m[:, 0], error_en_m[:, 1])
    localised = np.isfinite(distance_m)
    stated = localised & np.isfinite(cov_en_m2).all(axis=(1, 2))
    std_m = np.sqrt(np.trace(cov_en_m2[stated], axis1=1, axis2=2) / 2)
    spread = cov_en_m2[stated] + truth_std_m[stated, None, None] ** 2 * np.eye(2)
    squared = mahalanobis_squared(error_en_m[stated], spread)
    return Score(
        frames=len(distance_m),
        localised_percent=_percent(localised),
        within_10_m_percent=_percent(distance_m <= 10),
        within_25_m_percent=_percent(distance_m <= 25),
        within_50_m_percent=_percent(distance_m <= 50),
        median_m=float(np.median(distance_m[localised])) if localised.any() else None,
        p95_m=float(np.percentile(distance_m[localised], 95)) if localised.any() else None,
        false_fixes=int((distance_m[stated] > FALSE_FIX_STDS * std_m).sum()),
        coverage_68_percent=_percent(squared <= CHI2_68),
        coverage_95_percent=_percent(squared <= CHI2_95),
    )


def mahalanobis_squared(error_en_m: Array, cov_en_m2: Array) -> Array:
    """d^2 of errors (n, 2) under covariances (n, 2, 2), (n,); infinite under a singular one."""
    (a, b), (_, d) = cov_en_m2.transpose(1, 2, 0)
    east, north = error_en_m.T
    determinant = a * d - b * b
    usable = determinant > 0
    squared = np.full(len(error_en_m), np.inf)
    numerator = d * east**2 - 2 * b * east * north + a * north**2
    np.divide(numerator, determinant, out=squared, where=usable)
    return squared


def read_fixes(path: Path) -> list[FixMessage]:
    """The fixes of a replay; raises InputError with the line that is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    fixes: list[FixMessage] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            fixes.append(_fix_from_line(path, number, line))
    if not fixes:
        raise InputError(f"{path} holds no fixes")
    return fixes


def table_from_scores(scores: FlightScores) -> Table:
    """One column for each kind of point and each set of frames."""
    columns = {
        "drone": scores.drone.all_frames,
        "from first fix": scores.drone.from_first_fix,
        "image centre": scores.center.all_frames,
        "from first fix ": scores.center.from_first_fix,
    }
    table = Table("", box=None)
    for title in columns:
        table.add_column(title, justify="right")
    for label, field, unit in (
        ("frames with truth", "frames", ""),
        ("localised", "localised_percent", " %"),
        ("within 10 m", "within_10_m_percent", " %"),
        ("within 25 m", "within_25_m_percent", " %"),
        ("within 50 m", "within_50_m_percent", " %"),
        ("median error", "median_m", " m"),
        ("95 % of errors below", "p95_m", " m"),
        ("false fixes", "false_fixes", ""),
        ("in the 68 % ellipse", "coverage_68_percent", " %"),
        ("in the 95 % ellipse", "coverage_95_percent", " %"),
    ):
        table.add_row(label, *(_cell(getattr(column, field), unit) for column in columns.values()))
    return table


def _score_point(fixes: Mapping[str, FixMessage], truth: Truth, point: Point) -> PointScores:
    """Both scores of one kind of point; frames without its truth are left out."""
    found = [fixes.get(frame) for frame in truth.frames]
    position, cov_en_m2 = _published(found, point)
    first = next((index for index, lat in enumerate(position[:, 0]) if math.isfinite(lat)), None)
    known = np.isfinite(truth.lat_deg) & np.isfinite(truth.lon_deg)
    later = known & (np.arange(len(known)) >= (len(known) if first is None else first))
    error_en_m = _errors(position, truth, known)
    return PointScores(
        *(
            score_positions(error_en_m[chosen], cov_en_m2[chosen], truth.std_m[chosen])
            for chosen in (known, later)
        )
    )


def _published(fixes: Sequence[FixMessage | None], point: Point) -> tuple[Array, Array]:
    """Latitude and longitude (n, 2) and covariance (n, 2, 2), NaN where not published."""
    position = np.full((len(fixes), 2), np.nan)
    cov_en_m2 = np.full((len(fixes), 2, 2), np.nan)
    for index, fix in enumerate(fixes):
        lat_deg, lon_deg, covariance = _at(fix, point)
        if lat_deg is not None and lon_deg is not None:
            position[index] = lat_deg, lon_deg
            cov_en_m2[index] = np.nan if covariance is None else covariance
    return position, cov_en_m2


def _at(
    fix: FixMessage | None, point: Point
) -> tuple[float | None, float | None, Covariance | None]:
    if fix is None:
        return None, None, None
    if point == "drone":
        return fix.lat_deg, fix.lon_deg, fix.cov_en_m2
    return fix.center_lat_deg, fix.center_lon_deg, fix.center_cov_en_m2


def _errors(position: Array, truth: Truth, known: NDArray[np.bool_]) -> Array:
    """Fix less truth in east and north metres, (n, 2)."""
    if not known.any():
        return np.full_like(position, np.nan)
    frame = LocalFrame(float(truth.lat_deg[known][0]), float(truth.lon_deg[known][0]))
    fix_en_m = np.stack(frame.en_from_wgs84(position[:, 0], position[:, 1]), axis=1)
    truth_en_m = np.stack(frame.en_from_wgs84(truth.lat_deg, truth.lon_deg), axis=1)
    error_en_m: Array = fix_en_m - truth_en_m
    return error_en_m


def _fix_from_line(path: Path, number: int, line: bytes) -> FixMessage:
    try:
        return decode_fix(line)
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from error


def _percent(chosen: NDArray[np.bool_]) -> float | None:
    return float(chosen.mean() * 100) if chosen.size else None


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value}{unit}" if isinstance(value, int) else f"{value:.1f}{unit}"
