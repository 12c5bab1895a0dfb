"""Frames from a folder of images or from a video file, in the order of the telemetry.

A frame that cannot be read is a `LostFrame`, never an exception: the flight goes on. What cannot
be opened at all is a `SourceError` before the first frame.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..types import Frame, LostFrame, Reason
from .telemetry import TelemetryRow

# Pixels as stored: the camera file and the telemetry describe the sensor, not the display.
READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"  # ITU-T T.81 table B.1
FFMPEG_QUIET = "-8"  # AV_LOG_QUIET of libavutil

Frames = Iterator[Frame | LostFrame]


def open_source(uri: str, wanted: Sequence[TelemetryRow]) -> AbstractContextManager[Frames]:
    """An open source that yields the frame of every wanted row, in order.

    Args:
        uri: a folder of images or a video file, as a path or as file://.
        wanted: rows whose `frame` is a file name in the folder, or a frame number of the video.
    """
    path = path_from_uri(uri)
    quiet_opencv()
    if path.is_dir():
        return _folder(path, wanted)
    if path.is_file():
        return _video(path, wanted)
    raise SourceError(f"{path}: no such folder or video file. Check --frames.")


def path_from_uri(uri: str) -> Path:
    """The path that a plain path or a file:// address names."""
    if uri.startswith("file://"):
        return Path(unquote(uri.removeprefix("file://")))
    if "://" in uri:
        raise SourceError(f"{uri}: only folders and video files can be read, give a path")
    return Path(uri)


def decode_image(data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) BGR pixels as stored, None for anything but a whole image."""
    if not data or (data.startswith(JPEG_START) and not _is_whole_jpeg(data)):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), READ_FLAGS)
    except cv2.error:  # a header that promises an impossible size
        return None
    return None if image is None else image.astype(np.uint8, copy=False)


def quiet_opencv() -> None:
    """Keep codecs from writing to stderr: what cannot be decoded is reported anyway."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the last scan is followed by the end-of-image marker.

    OpenCV 4 fills what is missing of a truncated file with grey. The marker bytes cannot occur
    inside a scan, and those of an embedded thumbnail come before it.
    """
    return data.find(JPEG_END, data.rfind(JPEG_SCAN)) >= 0


@contextmanager
def _folder(folder: Path, wanted: Sequence[TelemetryRow]) -> Iterator[Frames]:
    if wanted and not any((folder / row.frame).is_file() for row in wanted):
        raise SourceError(
            f"{folder} holds none of the {len(wanted)} frames of the telemetry "
            f"(the first is {wanted[0].frame}). Check --frames and --telemetry."
        )
    yield (_frame(row, _read_image(folder / row.frame)) for row in wanted)


def _read_image(path: Path) -> NDArray[np.uint8] | None:
    try:
        return decode_image(path.read_bytes())
    except OSError:
        return None


@contextmanager
def _video(path: Path, wanted: Sequence[TelemetryRow]) -> Iterator[Frames]:
    numbers = _frame_numbers(path, wanted)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise SourceError(
                f"{path}: no video that OpenCV can open. Is the file whole, and its codec known?"
            )
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        yield _video_frames(capture, wanted, numbers)
    finally:
        capture.release()


def _frame_numbers(path: Path, wanted: Sequence[TelemetryRow]) -> list[int]:
    """Frame numbers of the rows, which must increase as a video is read forwards only."""
    numbers: list[int] = []
    for row in wanted:
        if not (row.frame.isascii() and row.frame.isdigit()):
            raise SourceError(
                f"{path} is a video, and the telemetry's frame '{row.frame}' is no frame number"
            )
        numbers.append(int(row.frame))
        if len(numbers) > 1 and numbers[-1] <= numbers[-2]:
            raise SourceError(
                f"{path}: the telemetry's frame numbers must increase, "
                f"{numbers[-1]} comes after {numbers[-2]}. Sort its rows."
            )
    return numbers


def _video_frames(
    capture: cv2.VideoCapture, wanted: Sequence[TelemetryRow], numbers: Sequence[int]
) -> Frames:
    """Grab every frame, decode the wanted ones; those beyond the end are lost."""
    grabbed = -1  # number of the newest grabbed frame
    for row, number in zip(wanted, numbers, strict=True):
        while grabbed < number and capture.grab():
            grabbed += 1
        image = capture.retrieve()[1] if grabbed == number else None
        yield _frame(row, None if image is None else image.astype(np.uint8, copy=False))


def _frame(row: TelemetryRow, image: NDArray[np.uint8] | None) -> Frame | LostFrame:
    if image is None:
        return LostFrame(row.frame, row.time_ns, Reason.FRAME_UNREADABLE)
    return Frame(row.frame, row.time_ns, image)
