"""The flight that the budgets are measured on, made from a seed: no data are needed.

665 x 630 m of drawn map as a GeoTIFF, and frames of 2000 x 1125 pixels from 120 m above it.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.runtime.sense.simulator import SimulatedFrame, Simulator, route_from_waypoints
from skyfix.runtime.sense.telemetry import COLUMNS

SEED = 3
WIDTH_M, HEIGHT_M, GSD_M = 665.0, 630.0, 0.3  # the size of fengyuan's map
METRES_A_DEGREE = 111_320.0  # of latitude; the map only has to lie somewhere
ORIGIN = LocalFrame(24.26, 120.72)
CAMERA = Camera(  # the DJI Mini 2 of fengyuan
    2000, 1125, np.array([[1386.8, 0, 999.5], [0, 1386.8, 562.0], [0, 0, 1]]), np.zeros(0)
)
FLIGHT_HEIGHT_M, SPEED_MPS, INTERVAL_S = 120.0, 10.0, 1.0
WAYPOINTS_EN_M = np.array([[-220, -200], [-220, 200], [0, 200.0]])  # 62 frames
JPEG_QUALITY = 92


@dataclass(frozen=True)
class BudgetFlight:
    """Files as `skyfix map build` and `skyfix replay` take them."""

    map_file: Path
    frames: Path
    telemetry: Path
    first_row: Path  # the telemetry of the first frame alone
    camera: Path


def drawn_flight(folder: Path) -> BudgetFlight:
    """Draw the map, fly over it and write everything down."""
    raster = town_and_country(SEED, WIDTH_M, HEIGHT_M, GSD_M, ORIGIN)
    flight = BudgetFlight(
        folder / "map.tif", folder / "frames", folder / "flight.csv",
        folder / "first.csv", folder / "camera.yaml",
    )  # fmt: skip
    _write_map(raster, flight.map_file)
    _write_camera(flight.camera)
    route = route_from_waypoints(WAYPOINTS_EN_M, FLIGHT_HEIGHT_M, SPEED_MPS, INTERVAL_S)
    flight.frames.mkdir()
    lines = [",".join(COLUMNS)]
    for seen in Simulator(raster, CAMERA, seed=SEED).fly(route):
        name = f"{seen.frame.frame_id}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        cv2.imwrite(str(flight.frames / name), seen.frame.image, quality)
        lines.append(_telemetry_line(name, seen))
    flight.telemetry.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flight.first_row.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    return flight


def _telemetry_line(name: str, seen: SimulatedFrame) -> str:
    told = seen.telemetry
    values = (told.yaw_deg, told.pitch_deg, told.roll_deg, told.height_agl_m)
    return ",".join([name, f"{told.time_ns * 1e-9:.3f}", *(f"{value:.3f}" for value in values)])


def _write_map(raster: Raster, path: Path) -> None:
    """A GeoTIFF in degrees, as online imagery comes."""
    rows, columns = raster.valid.shape
    lat_step = raster.gsd_m / METRES_A_DEGREE
    lon_step = lat_step / np.cos(np.radians(ORIGIN.lat_deg))
    corner = (ORIGIN.lon_deg - columns / 2 * lon_step, ORIGIN.lat_deg + rows / 2 * lat_step)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=rows, width=columns, dtype="uint8",
        crs="EPSG:4326", tiled=True, compress="deflate",
        transform=rasterio.Affine(lon_step, 0, corner[0], 0, -lat_step, corner[1]),
    ) as file:  # fmt: skip
        file.write(raster.image.transpose(2, 0, 1))


def _write_camera(path: Path) -> None:
    numbers = ", ".join(f"{value:g}" for value in CAMERA.matrix.ravel())
    path.write_text(
        f"image_width: {CAMERA.width_px}\nimage_height: {CAMERA.height_px}\n"
        f"camera_matrix: [{numbers}]\n",
        encoding="utf-8",
    )
