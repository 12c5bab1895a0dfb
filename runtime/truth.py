"""True positions of a recorded flight, for scoring only: no part that flies reads them.

truth_lat_deg, truth_lon_deg                 the drone
truth_center_lat_deg, truth_center_lon_deg   the ground point in the image's centre
truth_std_m                                  of both, per axis
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .sense.telemetry import number_from_text

Array = NDArray[np.float64]
Point = Literal["drone", "center"]


@dataclass(frozen=True)
class Truth:
    """True positions of one kind of point; NaN where unknown."""

    frames: tuple[str, ...]
    lat_deg: Array  # (n,)
    lon_deg: Array  # (n,)
    std_m: Array  # (n,) per axis, 0 where not stated


def read_truth(path: Path) -> dict[Point, Truth]:
    """True positions of drone and image centre; raises InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV file in UTF-8 ({error})") from error
    needed = {"frame", "truth_lat_deg", "truth_lon_deg"}
    missing = sorted(needed - (rows[0].keys() if rows else set()))
    if missing:
        raise InputError(f"{path} has no rows with {', '.join(missing)}: nothing to score against")
    truth: dict[Point, Truth] = {"drone": _truth(rows, ""), "center": _truth(rows, "center_")}
    for point, positions in truth.items():
        _check_range(path, point, positions)
    return truth


def _check_range(path: Path, point: Point, truth: Truth) -> None:
    outside = (abs(truth.lat_deg) > 90) | (abs(truth.lon_deg) > 180)
    if outside.any():
        row = int(outside.argmax())
        raise InputError(
            f"{path}: row {row + 1} (frame {truth.frames[row]}) has the {point} at "
            f"{truth.lat_deg[row]}, {truth.lon_deg[row]}: no latitude, longitude in degrees"
        )


def _truth(rows: Sequence[dict[str, str]], point: str) -> Truth:
    def column(name: str) -> Array:
        return np.array([number_from_text(row.get(name)) for row in rows])

    return Truth(
        frames=tuple((row["frame"] or "").strip() for row in rows),
        lat_deg=column(f"truth_{point}lat_deg"),
        lon_deg=column(f"truth_{point}lon_deg"),
        std_m=np.nan_to_num(column("truth_std_m")),
    )
