"""Telemetry and camera from the EXIF and XMP of a folder of DJI photos.

    yaw, pitch, roll  drone-dji:Gimbal*Degree        time    EXIF DateTimeOriginal
    height            drone-dji:RelativeAltitude     camera  CalibratedFocalLength or 35 mm focal

RelativeAltitude counts from the take-off point: over level ground it is the height above ground.
A photo that lacks a value has NaN there, which becomes the status of that frame.
"""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import SourceError
from .camera import Camera
from .telemetry import Attitude, TelemetryRow, number_from_text, rows_from_attitudes

PHOTO_SUFFIXES = {".jpg", ".jpeg"}  # DJI stores EXIF and XMP in no other format that we decode
DJI_NAMESPACE = "{http://www.dji.com/drone-dji/1.0/}"
XMP_REACH_BYTES = 1 << 20  # the packet lies in the first segments, of at most 64 KiB each
EXIF_IFD, DATE_TIME_ORIGINAL, SUBSECONDS = 0x8769, 0x9003, 0x9291  # Exif 2.32, table 8
FOCAL_35MM, ORIGINAL_WIDTH = 0xA405, 0xA002
DIAGONAL_35MM = math.hypot(36, 24)  # mm, of 35 mm film
WIDE_ASPECT = 1.6  # wider pictures are cut out of a 4:3 sensor; 3:2 and 4:3 are whole sensors
GIMBAL_OVERSHOOT_DEG = 1.0  # noise of a gimbal at its lower stop; assumed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Photo:
    """What one file says about itself; NaN where it does not."""

    attitude: Attitude
    gimbal_recorded: bool
    width_px: int = 0
    height_px: int = 0
    focal_px: float = math.nan


@dataclass(frozen=True)
class ExifFlight:
    """A folder of photos as a flight."""

    rows: tuple[TelemetryRow, ...]  # by time
    camera: Camera | None  # None where no photo states its focal length


def read_exif(folder: Path) -> ExifFlight:
    """Rows and camera of all JPEG photos in a folder; raises SourceError if there is none."""
    files = sorted(path for path in _files(folder) if path.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise SourceError(f"{folder} holds no JPEG photos to read telemetry from")
    photos = [read_photo(path) for path in files]
    unrecorded = sum(not photo.gimbal_recorded for photo in photos)
    if unrecorded:
        log.warning(
            "%d of %d photos do not record the gimbal: taken as looking straight down, "
            "with the heading of the drone", unrecorded, len(photos),
        )  # fmt: skip
    return ExifFlight(
        rows_from_attitudes(_by_time([photo.attitude for photo in photos])), _camera(photos)
    )


def read_photo(path: Path) -> Photo:
    """Attitude, size and focal length of one photo, whatever it lacks."""
    nothing = Photo(Attitude(path.name, *[math.nan] * 5), gimbal_recorded=True)
    try:
        with path.open("rb") as file:
            dji = dji_tags(file.read(XMP_REACH_BYTES))
        with Image.open(path) as image:
            width_px, height_px = image.size
            exif = image.getexif().get_ifd(EXIF_IFD)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):  # Pillow's for bad EXIF
        return nothing
    attitude, gimbal_recorded = _attitude(path.name, _seconds(exif), dji)
    return Photo(
        attitude, gimbal_recorded, width_px, height_px, _focal_px(width_px, height_px, exif, dji)
    )


def dji_tags(data: bytes) -> dict[str, str]:
    """Names and texts in DJI's namespace of the XMP packet, whether attributes or elements."""
    packet = re.search(rb"<x:xmpmeta.*?</x:xmpmeta>", data, re.DOTALL)
    if packet is None:
        return {}
    try:
        root = ET.fromstring(packet[0])  # noqa: S314  it begins at its root element: no DTD
    except ET.ParseError:
        return {}
    tags: dict[str, str] = {}
    for element in root.iter():
        named = {**element.attrib, element.tag: element.text or ""}
        tags.update(
            {key.removeprefix(DJI_NAMESPACE): text for key, text in named.items()
             if key.startswith(DJI_NAMESPACE)}
        )  # fmt: skip
    return tags


def focal_px_from_35mm(focal_35mm: float, width_px: int, height_px: int) -> float:
    """Focal length in pixels from the 35 mm equivalent, which compares diagonals of sensors.

    Pictures of 16:9 are cut out of a 4:3 sensor of the same width, whose diagonal counts: 24 mm
    and 2000 px give 1386.8 px, as fengyuan's camera file has it.
    """
    long_px, short_px = max(width_px, height_px), min(width_px, height_px)
    sensor_short_px = long_px * 3 / 4 if long_px > WIDE_ASPECT * short_px else short_px
    return focal_35mm / DIAGONAL_35MM * math.hypot(long_px, sensor_short_px)


def _files(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder}: no folder of photos ({error.strerror})") from error


def _attitude(name: str, time_s: float, dji: dict[str, str]) -> tuple[Attitude, bool]:
    """Attitude of a photo, and whether its gimbal was recorded.

    Some drones (Mini 2) write 0, 0, 0 for the gimbal. Its yaw is absolute, so that would be a
    view of the horizon due north from a drone with any heading: it means "not recorded".
    """
    yaw, pitch, roll, flight_yaw, height_m = (
        number_from_text(dji.get(tag))
        for tag in (
            "GimbalYawDegree", "GimbalPitchDegree", "GimbalRollDegree",
            "FlightYawDegree", "RelativeAltitude",
        )
    )  # fmt: skip
    if yaw == pitch == roll == 0:
        return Attitude(name, time_s, flight_yaw, -90.0, 0.0, height_m), False
    if -90 - GIMBAL_OVERSHOOT_DEG < pitch < -90:
        pitch = -90.0
    return Attitude(name, time_s, yaw, pitch, roll, height_m), True


def _seconds(exif: dict[int, object]) -> float:
    """Time of exposure in seconds since 1970 by the camera's clock, NaN where not stated."""
    try:
        # the zone is not stated; only differences are used
        moment = datetime.strptime(f"{exif.get(DATE_TIME_ORIGINAL)} +0000", "%Y:%m:%d %H:%M:%S %z")
    except ValueError:
        return math.nan
    subseconds = str(exif.get(SUBSECONDS, "")).strip("\0 ")
    fraction = float(f"0.{subseconds}") if subseconds.isdecimal() else 0.0
    return moment.timestamp() + fraction


def _focal_px(width_px: int, height_px: int, exif: dict[int, object], dji: dict[str, str]) -> float:
    """Focal length in pixels of the photo as stored, calibrated where DJI did so."""
    calibrated_px = number_from_text(dji.get("CalibratedFocalLength"))
    original_px = number_from_text(str(exif.get(ORIGINAL_WIDTH)))
    if calibrated_px > 0:  # of the photo as taken; it may have been resized since
        return calibrated_px * (width_px / original_px if original_px > 0 else 1.0)
    focal_35mm = number_from_text(str(exif.get(FOCAL_35MM)))
    return focal_px_from_35mm(focal_35mm, width_px, height_px) if focal_35mm > 0 else math.nan


def _camera(photos: Sequence[Photo]) -> Camera | None:
    """The camera of the first photo that states its focal length."""
    for photo in photos:
        if math.isfinite(photo.focal_px):
            focal, center_x, center_y = (
                photo.focal_px, (photo.width_px - 1) / 2, (photo.height_px - 1) / 2,
            )  # fmt: skip
            matrix = np.array([[focal, 0, center_x], [0, focal, center_y], [0, 0, 1]], float)
            return Camera(photo.width_px, photo.height_px, matrix, np.zeros(0))
    return None


def _by_time(attitudes: Sequence[Attitude]) -> list[Attitude]:
    """Photos in the order of their exposure; one without a time stays behind its neighbour."""
    keyed: list[tuple[float, int, Attitude]] = []
    latest_s = -math.inf
    for index, attitude in enumerate(attitudes):
        latest_s = attitude.time_s if math.isfinite(attitude.time_s) else latest_s
        keyed.append((latest_s, index, attitude))
    return [attitude for _, _, attitude in sorted(keyed, key=lambda item: item[:2])]
