"""What correlation compares, grey or structure: one frame alone, no prior, no descriptor.

    python benchmarks/structure.py [--data ../shared/data] [--frames 60] [--markdown]

A camera over naip's imagery of one year is sought in the whole map of another by masked correlation
at the sweep's scale, at its exact heading and height. How often is the true place the first?
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from calibrate_belief_sources import YEARS, YEARS_GSD_M
from navigation_flights import CAMERA
from numpy.typing import NDArray
from tables import TextTable, number, show

from skyfix.export.rasters import open_raster
from skyfix.runtime.fuse.scales import COARSE_PX, FINE_PX
from skyfix.runtime.fuse.structure import NONE, structure
from skyfix.runtime.maps.raster import RasterReader
from skyfix.runtime.sense.ortho import Ground, ground_from_frame
from skyfix.runtime.sense.simulator import Conditions, Pose, Simulator

TILE_M, HEIGHT_M = 640.0, 480.0
FACTOR = FINE_PX // COARSE_PX
FINE_M = TILE_M / FINE_PX
RIGHT_M = 100.0  # three pixels of the sweep
SEED = 700

Grey = NDArray[np.uint8]
Picture = NDArray[np.float32]  # (H, W) or (H, W, 3)
Kind = Callable[[Grey], Picture]


@dataclass(frozen=True)
class Sought:
    """A frame's tile in grey at the fine scale, and its centre."""

    grey: Grey
    valid: NDArray[np.bool_]
    center_en_m: tuple[float, float]


def main() -> None:
    """Fly, correlate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="the folder with naip/")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    rows = []
    for map_year, camera_year in YEARS:
        of_map, of_camera = (open_raster(asked.data / "naip" / f"{year}.tif").reader
                             for year in (map_year, camera_year))  # fmt: skip
        frames = flown(of_camera, asked.frames)
        for name, kind, method in (
            ("grey", unchanged, cv2.TM_CCOEFF_NORMED), ("structure", signed, cv2.TM_CCORR_NORMED),
        ):  # fmt: skip
            first = [is_first(of_map, frame, kind, method) for frame in frames]
            rows.append((f"{map_year} from {camera_year}", name, str(len(first)),
                         number(100 * float(np.mean(first)), 1)))  # fmt: skip
    header = ("map and camera", "compared", "frames", "true place first %")
    show(TextTable("naip of another year", header, rows), markdown=asked.markdown)


def unchanged(grey: Grey) -> Picture:
    """Grey as it is."""
    return grey.astype(np.float32)


def signed(grey: Grey) -> Picture:
    """Structure at the fine scale, around zero."""
    around_zero: Picture = structure(grey, float(FINE_PX)).astype(np.float32) - np.float32(NONE)
    return around_zero


def flown(land: RasterReader, count: int) -> list[Sought]:
    """Random places over a land."""
    rng = np.random.default_rng(SEED)
    west, south, east, north = land.bounds_m
    edge_m = 1.5 * HEIGHT_M
    route = [
        Pose(index, rng.uniform(west + edge_m, east - edge_m),
             rng.uniform(south + edge_m, north - edge_m), HEIGHT_M, rng.uniform(-180, 180))
        for index in range(count)
    ]  # fmt: skip
    found = []
    exact = Conditions(yaw_std_deg=0.0, height_std=0.0)
    for sight in Simulator(land, CAMERA, exact, SEED).fly(route):
        ground = ground_from_frame(sight.frame.image, CAMERA, sight.telemetry, YEARS_GSD_M)
        cut = ground.grey().coarser(FINE_M).cut(FINE_PX, FINE_M) if isinstance(
            ground, Ground) else None  # fmt: skip
        if isinstance(cut, tuple):
            found.append(Sought(cut[0], cut[1], sight.center_en_m))
    return found


def is_first(reader: RasterReader, sought: Sought, kind: Kind, method: int) -> bool:
    """Whether the best correlation over the whole map is at the true place."""
    west, south, east, north = reader.bounds_m
    size = (int((north - south) / FINE_M), int((east - west) / FINE_M))
    rgb = reader.read(west, north, size, FINE_M).image
    on_map = averaged(kind(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8)))
    template = averaged(kind(sought.grey))
    mask = (averaged(sought.valid.astype(np.float32)) > 0.99).astype(np.float32)
    mask = mask.reshape(*mask.shape, *[1] * (template.ndim - 2)) * np.ones_like(template)
    template = template - (template * mask).sum(axis=(0, 1)) / mask.sum(axis=(0, 1))
    ncc = cv2.matchTemplate(on_map, template, method, mask=mask)
    row, column = np.unravel_index(int(ncc.argmax()), ncc.shape)
    coarse_m, half = FINE_M * FACTOR, COARSE_PX / 2
    east_m, north_m = west + (column + half) * coarse_m, north - (row + half) * coarse_m
    away = np.hypot(east_m - sought.center_en_m[0], north_m - sought.center_en_m[1])
    return bool(away < RIGHT_M)


def averaged(picture: Picture) -> Picture:
    """At the sweep's scale."""
    size = (picture.shape[1] // FACTOR, picture.shape[0] // FACTOR)
    cropped = picture[: size[1] * FACTOR, : size[0] * FACTOR]
    return cv2.resize(cropped, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


if __name__ == "__main__":
    main()
