"""Telemetry and camera out of photos: made ones with planted values, and real ones."""

import logging
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from skyfix.runtime.errors import SourceError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.camera import camera_from_yaml
from skyfix.runtime.sense.exif import dji_tags, focal_px_from_35mm, read_exif
from skyfix.runtime.sense.telemetry import TelemetryRow, read_telemetry
from skyfix.runtime.types import Telemetry

GIMBAL = {
    "GimbalYawDegree": "-132.00",
    "GimbalPitchDegree": "-89.90",
    "GimbalRollDegree": "+1.50",
    "FlightYawDegree": "+10.00",
    "RelativeAltitude": "+40.10",
}


def packet(tags: dict[str, str], *, elements: bool = False) -> bytes:
    inside = "".join(f"<drone-dji:{key}>{text}</drone-dji:{key}>" for key, text in tags.items())
    attributes = " ".join(f'drone-dji:{key}="{text}"' for key, text in tags.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" '
        f"{'' if elements else attributes}>{inside if elements else ''}</rdf:Description>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def write_photo(
    path: Path,
    tags: dict[str, str] | None,
    time: str | None = "2024:10:30 10:05:15",
    focal_35mm: int | None = 24,
) -> None:
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    if time is not None:
        inner[0x9003] = time
    if focal_35mm is not None:
        inner[0xA405] = focal_35mm
    inner[0xA002] = 400  # taken at this width, stored at half
    image = Image.fromarray(np.zeros((150, 200, 3), np.uint8))
    image.save(path, exif=exif, xmp=b"" if tags is None else packet(tags))


def told(row: TelemetryRow) -> Telemetry:
    assert row.telemetry is not None
    return row.telemetry


def test_the_gimbals_attitude_and_the_height_are_read(tmp_path: Path) -> None:
    write_photo(tmp_path / "b.JPG", GIMBAL, time="2024:10:30 10:06:00")
    write_photo(tmp_path / "a.jpg", GIMBAL, time="2024:10:30 10:05:15")
    first, second = read_exif(tmp_path).rows
    assert (first.frame, second.frame) == ("a.jpg", "b.JPG")
    assert second.time_ns == 45_000_000_000
    assert (told(first).yaw_deg, told(first).pitch_deg) == (-132.0, -89.9)
    assert (told(first).roll_deg, told(first).height_agl_m) == (1.5, 40.1)


def test_tags_written_as_elements_are_read_too() -> None:
    assert dji_tags(packet(GIMBAL, elements=True)) == dji_tags(packet(GIMBAL)) == GIMBAL


def test_a_packet_that_is_no_xml_or_uses_entities_holds_nothing() -> None:
    broken = packet(GIMBAL).replace(b"</rdf:RDF>", b"")
    declared = b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + packet({**GIMBAL, "GimbalYawDegree": "&a;"})
    bomb = declared.replace(b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>', b"")
    assert dji_tags(broken) == dji_tags(bomb) == dji_tags(b"") == {}


def test_a_gimbal_of_all_zeros_was_not_recorded_and_is_taken_as_straight_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zeros = dict.fromkeys(("GimbalYawDegree", "GimbalPitchDegree", "GimbalRollDegree"), "+0.00")
    write_photo(tmp_path / "a.jpg", {**GIMBAL, **zeros, "FlightYawDegree": "+152.10"})
    with caplog.at_level(logging.WARNING):
        (row,) = read_exif(tmp_path).rows
    assert (told(row).yaw_deg, told(row).pitch_deg) == (152.1, -90.0)
    assert "1 of 1 photos do not record the gimbal" in caplog.text


@pytest.mark.parametrize("text", [None, "", "NaN", "down"])
def test_a_pitch_that_is_missing_or_nonsense_is_nan(tmp_path: Path, text: str | None) -> None:
    tags = {key: value for key, value in GIMBAL.items() if key != "GimbalPitchDegree"}
    write_photo(tmp_path / "a.jpg", tags if text is None else {**tags, "GimbalPitchDegree": text})
    (row,) = read_exif(tmp_path).rows
    assert math.isnan(told(row).pitch_deg)
    assert told(row).yaw_deg == -132.0


def test_a_gimbal_a_tenth_beyond_straight_down_points_straight_down(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", {**GIMBAL, "GimbalPitchDegree": "-90.10"})
    assert told(read_exif(tmp_path).rows[0]).pitch_deg == -90.0


def test_photos_without_xmp_without_time_or_without_pixels_are_rows_of_nan(
    tmp_path: Path,
) -> None:
    write_photo(tmp_path / "a.jpg", GIMBAL, time="2024:10:30 10:05:15")
    write_photo(tmp_path / "b.jpg", None, time="2024:10:30 10:05:20")
    write_photo(tmp_path / "c.jpg", GIMBAL, time=None)
    (tmp_path / "d.jpg").write_bytes(b"no photo")
    write_photo(tmp_path / "e.jpg", GIMBAL, time="2024:10:30 10:05:30")
    rows = read_exif(tmp_path).rows
    assert [row.frame for row in rows] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    usable = [math.isfinite(told(row).height_agl_m) for row in rows]
    assert usable == [True, False, False, False, True]
    assert [row.time_ns // 10**9 for row in rows] == [0, 5, 5, 5, 15]


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SourceError, match="no JPEG photos"):
        read_exif(tmp_path)
    with pytest.raises(SourceError, match="no folder"):
        read_exif(tmp_path / "gone")


def test_a_calibrated_focal_length_counts_for_the_width_the_photo_was_taken_at(
    tmp_path: Path,
) -> None:
    write_photo(tmp_path / "a.jpg", {**GIMBAL, "CalibratedFocalLength": "366.6"})
    camera = read_exif(tmp_path).camera
    assert camera is not None
    assert camera.matrix[0, 0] == pytest.approx(183.3)  # stored at half that width
    assert (camera.matrix[0, 2], camera.matrix[1, 2]) == (99.5, 74.5)


def test_photos_that_state_no_focal_length_give_no_camera(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", GIMBAL, focal_35mm=None)
    assert read_exif(tmp_path).camera is None


@pytest.mark.parametrize(
    ("size_px", "diagonal_px"),
    [((4000, 3000), 5000), ((3000, 4000), 5000), ((4000, 2250), 5000), ((3000, 2000), 3605.55)],
)
def test_the_35_mm_equivalent_compares_the_diagonals_of_whole_sensors(
    size_px: tuple[int, int], diagonal_px: float
) -> None:
    """43.27 mm, the diagonal of film, see exactly as far as the sensor's diagonal."""
    assert focal_px_from_35mm(43.2666, *size_px) == pytest.approx(diagonal_px, rel=1e-4)


@pytest.mark.real
def test_fengyuans_photos_say_what_its_camera_file_says(shared_data: Path) -> None:
    camera = read_exif(shared_data / "fengyuan" / "frames").camera
    stated = camera_from_yaml(shared_data / "fengyuan" / "camera.yaml")
    assert camera is not None
    assert (camera.width_px, camera.height_px) == (stated.width_px, stated.height_px)
    np.testing.assert_allclose(camera.matrix, stated.matrix, atol=0.1)


@pytest.mark.real
@pytest.mark.parametrize("flight", ["flight_A.csv", "flight_B.csv"])
def test_fengyuans_photos_say_what_its_flights_say(shared_data: Path, flight: str) -> None:
    photos = {row.frame: row for row in read_exif(shared_data / "fengyuan" / "frames").rows}
    rows = read_telemetry(shared_data / "fengyuan" / flight)
    first_ns = photos[rows[0].frame].time_ns
    for row in rows:
        photo, stated = told(photos[row.frame]), told(row)
        assert photo.yaw_deg == pytest.approx(stated.yaw_deg, abs=0.2)
        assert photo.height_agl_m == pytest.approx(stated.height_agl_m, abs=0.2)
        assert (photo.pitch_deg, photo.roll_deg) == (stated.pitch_deg, stated.roll_deg)
        assert photo.time_ns - first_ns == stated.time_ns


def position_of(path: Path) -> tuple[float, float]:
    """Latitude and longitude of a photo's GPS tags."""
    with Image.open(path) as image:
        gps = image.getexif().get_ifd(0x8825)
    lat, lon = (float(d) + float(m) / 60 + float(s) / 3600 for d, m, s in (gps[2], gps[4]))
    return lat * (-1 if gps[1] == "S" else 1), lon * (-1 if gps[3] == "W" else 1)


def pixels_moved(first: Path, second: Path) -> tuple[float, float]:
    """Where the second photo's centre lies in the first, from the first's centre, in pixels."""
    orb = cv2.ORB.create(4000)
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (first, second)]
    small = [cv2.resize(image, None, fx=0.4, fy=0.4) for image in images if image is not None]
    (keys1, rows1), (keys2, rows2) = (orb.detectAndCompute(image, None) for image in small)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(rows2, rows1)
    source = np.array([keys2[match.queryIdx].pt for match in matches], np.float32)
    target = np.array([keys1[match.trainIdx].pt for match in matches], np.float32)
    affine, _ = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    center = np.array([small[0].shape[1], small[0].shape[0]]) / 2
    right, down = (affine[:, :2] @ center + affine[:, 2] - center) / 0.4
    return float(right), float(down)


@pytest.mark.real
def test_brightons_yaw_height_and_focal_length_carry_one_photo_onto_the_next(
    shared_data: Path,
) -> None:
    """The movement that two photos show must be the one that their GPS tags state."""
    folder = shared_data / "brighton_beach" / "images"
    flight = read_exif(folder)
    assert len(flight.rows) == 18
    assert flight.camera is not None
    first, second = flight.rows[2:4]
    right, down = pixels_moved(folder / first.frame, folder / second.frame)
    scale_m = told(first).height_agl_m / flight.camera.matrix[0, 0]
    yaw = math.radians(told(first).yaw_deg)
    east_m = scale_m * (right * math.cos(yaw) - down * math.sin(yaw))
    north_m = scale_m * (-right * math.sin(yaw) - down * math.cos(yaw))
    origin, moved = position_of(folder / first.frame), position_of(folder / second.frame)
    stated = LocalFrame(*origin).en_from_wgs84(*moved)
    assert math.hypot(*stated) > 10
    assert math.dist((east_m, north_m), (float(stated[0]), float(stated[1]))) < 4  # GPS: 2-3 m
