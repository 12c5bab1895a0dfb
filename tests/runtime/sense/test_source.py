"""Frames out of folders and videos, and what becomes of those that cannot be read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from skyfix.runtime.errors import SourceError
from skyfix.runtime.sense.source import decode_image, open_source
from skyfix.runtime.sense.telemetry import TelemetryRow, read_telemetry
from skyfix.runtime.types import Frame, LostFrame, Reason, Telemetry

SIZE = (120, 160)  # rows, columns


def rows_of(*frames: str) -> list[TelemetryRow]:
    return [
        TelemetryRow(frame, index * 100, Telemetry(index * 100, 0.0, -90.0, 0.0, 50.0))
        for index, frame in enumerate(frames)
    ]


def frames_of(uri: Path | str, *frames: str) -> list[Frame | LostFrame]:
    with open_source(str(uri), rows_of(*frames)) as source:
        return list(source)


def write_grey(path: Path, level: int) -> None:
    assert cv2.imwrite(str(path), np.full((*SIZE, 3), level, np.uint8))


def level_of(frame: Frame | LostFrame) -> float:
    assert isinstance(frame, Frame)
    return float(frame.image.mean())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(3):
        write_grey(tmp_path / f"{index}.jpg", 60 * index)
    return tmp_path


@pytest.fixture(params=["mp4v:.mp4", "MJPG:.avi"])
def video(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Ten frames whose grey level is twenty times their number."""
    codec, suffix = str(request.param).split(":")
    return write_video(tmp_path / f"flight{suffix}", codec)


def write_video(path: Path, codec: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, SIZE[::-1])
    for number in range(10):
        writer.write(np.full((*SIZE, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_a_folder_gives_the_named_images_in_the_order_of_the_rows(folder: Path) -> None:
    frames = frames_of(folder, "2.jpg", "0.jpg")
    assert [frame.frame_id for frame in frames] == ["2.jpg", "0.jpg"]
    assert [frame.time_ns for frame in frames] == [0, 100]
    assert [level_of(frame) for frame in frames] == pytest.approx([120, 0], abs=2)


def test_a_file_address_is_a_path(folder: Path) -> None:
    spaced = folder / "my frames"
    spaced.mkdir()
    write_grey(spaced / "a.jpg", 100)
    (frame,) = frames_of(f"file://{folder}/my%20frames", "a.jpg")
    assert level_of(frame) == pytest.approx(100, abs=2)


def test_a_missing_image_is_lost_and_the_next_is_read(folder: Path) -> None:
    lost, found = frames_of(folder, "gone.jpg", "1.jpg")
    assert lost == LostFrame("gone.jpg", 0, Reason.FRAME_UNREADABLE)
    assert level_of(found) == pytest.approx(60, abs=2)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n"])
def test_a_file_that_is_no_image_is_lost_and_the_next_is_read(folder: Path, content: bytes) -> None:
    (folder / "bad.jpg").write_bytes(content)
    lost, found = frames_of(folder, "bad.jpg", "1.jpg")
    assert isinstance(lost, LostFrame)
    assert lost.reason is Reason.FRAME_UNREADABLE
    assert isinstance(found, Frame)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_a_truncated_jpeg_is_lost_even_with_a_whole_thumbnail(
    kept: float, options: list[int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    small = cv2.imencode(".jpg", noise[:20, :20])[1].tobytes()
    whole = cv2.imencode(".jpg", noise, options)[1].tobytes()
    segment = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small  # APP1, as EXIF has it
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert decode_image(with_thumbnail) is not None
    assert decode_image(with_thumbnail[: int(len(with_thumbnail) * kept)]) is None


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm() -> None:
    whole = cv2.imencode(".jpg", np.full((*SIZE, 3), 90, np.uint8))[1].tobytes()
    assert decode_image(whole + bytes(1000)) is not None


def test_pixels_stay_as_stored_whatever_the_orientation_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right to show"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    (frame,) = frames_of(tmp_path, "turned.jpg")
    assert isinstance(frame, Frame)
    assert frame.image.shape == (*SIZE, 3)


def test_a_folder_with_none_of_the_frames_is_refused_at_the_start(folder: Path) -> None:
    with pytest.raises(SourceError, match="none of the 2 frames"):
        frames_of(folder, "a.jpg", "b.jpg")


def test_a_missing_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder or video"):
        frames_of(tmp_path / "gone", "0")


def test_an_address_on_the_network_is_refused_at_the_start() -> None:
    with pytest.raises(SourceError, match="only folders and video files"):
        frames_of("rtsp://camera/stream", "0")


def test_a_video_gives_the_frames_of_the_named_numbers(video: Path) -> None:
    frames = frames_of(video, "0", "3", "4", "9")
    assert [level_of(frame) for frame in frames] == pytest.approx([0, 60, 80, 180], abs=4)
    assert [frame.time_ns for frame in frames] == [0, 100, 200, 300]


def test_a_video_that_ends_early_loses_each_remaining_frame(video: Path) -> None:
    frames = frames_of(video, "8", "9", "10", "500")
    assert [type(frame) for frame in frames] == [Frame, Frame, LostFrame, LostFrame]
    assert [frame.frame_id for frame in frames[2:]] == ["10", "500"]


def test_a_video_cut_in_the_middle_gives_what_is_left(tmp_path: Path) -> None:
    video = write_video(tmp_path / "flight.avi", "MJPG")
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    frames = frames_of(video, *map(str, range(10)))
    assert isinstance(frames[0], Frame)
    assert isinstance(frames[-1], LostFrame)


def test_a_file_that_is_no_video_is_refused_at_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flight.mp4"
    path.write_bytes(b"no video" * 500)
    with pytest.raises(SourceError, match="no video that OpenCV can open"):
        frames_of(path, "0")
    assert capfd.readouterr().err == ""


def test_a_video_needs_frame_numbers(video: Path) -> None:
    with pytest.raises(SourceError, match="no frame number"):
        frames_of(video, "DJI_001.jpg")


def test_a_video_needs_increasing_frame_numbers(video: Path) -> None:
    with pytest.raises(SourceError, match="must increase"):
        frames_of(video, "5", "3")


@pytest.mark.real
def test_every_frame_of_the_nust_flight_is_read(shared_data: Path) -> None:
    rows = read_telemetry(shared_data / "nust" / "flight.csv")
    with open_source(str(shared_data / "nust" / "video.mp4"), rows) as source:
        frames = list(source)
    assert len(frames) == len(rows) == 46
    assert all(isinstance(frame, Frame) and frame.image.shape == (480, 852, 3) for frame in frames)


@pytest.mark.real
def test_every_photo_of_the_fengyuan_flights_is_read(shared_data: Path) -> None:
    rows = read_telemetry(shared_data / "fengyuan" / "flight_B.csv")
    with open_source(str(shared_data / "fengyuan" / "frames"), rows) as source:
        frames = list(source)
    assert [frame.frame_id for frame in frames] == [row.frame for row in rows]
    assert all(
        isinstance(frame, Frame) and frame.image.shape == (1125, 2000, 3) for frame in frames
    )
