"""flight.csv: good rows, bad rows, and files that are refused."""

import math
from pathlib import Path

import pytest

from skyfix.runtime.errors import TelemetryError
from skyfix.runtime.sense.telemetry import TelemetryRow, read_telemetry
from skyfix.runtime.types import Telemetry

HEADER = "frame,time_s,yaw_deg,pitch_deg,roll_deg,height_agl_m"


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    return tmp_path / "flight.csv"


def told(row: TelemetryRow) -> Telemetry:
    assert row.telemetry is not None
    return row.telemetry


def test_values_stand_in_their_columns_and_times_count_from_the_first_frame(
    csv_path: Path,
) -> None:
    csv_path.write_text(
        "truth_lat_deg,height_agl_m,roll_deg,pitch_deg,yaw_deg,time_s,frame\n"
        "24.1,120.5,3,-88,-40.1,100.25,a.jpg\n"
        "24.2,121.5,4,-89,400,101.5,b.jpg\n"
    )
    first, second = read_telemetry(csv_path)
    assert (first.frame, second.frame) == ("a.jpg", "b.jpg")
    assert first.telemetry == Telemetry(0, -40.1, -88.0, 3.0, 120.5)
    assert second.telemetry == Telemetry(1_250_000_000, 400.0, -89.0, 4.0, 121.5)


def test_a_velocity_is_read_where_there_is_one(csv_path: Path) -> None:
    csv_path.write_text(
        f"{HEADER},vel_north_mps,vel_east_mps\na,0,1,-90,0,50,4.5,-2\nb,1,1,-90,0,50,north,\n"
    )
    told_a, told_b = (told(row) for row in read_telemetry(csv_path))
    assert (told_a.vel_east_mps, told_a.vel_north_mps) == (-2.0, 4.5)
    assert math.isnan(told_b.vel_east_mps)
    assert math.isnan(told_b.vel_north_mps)
    assert told_b.height_agl_m == 50


@pytest.mark.parametrize("text", ["", "nan", "inf", "north", " ", "1e999"])
def test_a_value_that_is_no_number_is_nan_in_its_row_alone(csv_path: Path, text: str) -> None:
    csv_path.write_text(f"{HEADER}\na,0,{text},-90,0,50\nb,1,10,-90,0,50\n")
    bad, good = read_telemetry(csv_path)
    assert math.isnan(told(bad).yaw_deg)
    assert told(bad).height_agl_m == 50
    assert told(good).yaw_deg == 10


def test_a_row_that_is_cut_off_is_nan_where_it_ends(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER}\na,0,10,-90,0,50\nb,1,10\n")
    _, cut = read_telemetry(csv_path)
    assert told(cut).yaw_deg == 10
    assert math.isnan(told(cut).pitch_deg)
    assert math.isnan(told(cut).height_agl_m)


def test_a_row_without_a_time_is_unusable_and_does_not_go_back_in_time(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER}\na,0,1,-90,0,50\nb,2,1,-90,0,50\nc,,1,-90,0,50\n")
    *_, bad = read_telemetry(csv_path)
    assert bad.time_ns == told(bad).time_ns == 2_000_000_000
    assert math.isnan(told(bad).yaw_deg)


@pytest.mark.parametrize("text", ["1e300", "-1e10", "inf"])
def test_a_time_beyond_all_clocks_is_as_good_as_none(csv_path: Path, text: str) -> None:
    csv_path.write_text(f"{HEADER}\na,7,1,-90,0,50\nb,{text},1,-90,0,50\nc,9,1,-90,0,50\n")
    _, bad, good = read_telemetry(csv_path)
    assert math.isnan(told(bad).yaw_deg)
    assert (bad.time_ns, good.time_ns) == (0, 2_000_000_000)


def test_times_may_be_those_of_a_clock(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER}\na,1763700000,1,-90,0,50\nb,1763700002.5,1,-90,0,50\n")
    assert [row.time_ns for row in read_telemetry(csv_path)] == [0, 2_500_000_000]


@pytest.mark.parametrize("values", [",,,", " , ,,", ""])
def test_a_row_with_nothing_but_its_time_has_no_telemetry(csv_path: Path, values: str) -> None:
    csv_path.write_text(f"{HEADER}\na,0,1,-90,0,50\nb,2,{values}\nc,3,,,,50\n")
    _, empty, partly = read_telemetry(csv_path)
    assert (empty.frame, empty.time_ns, empty.telemetry) == ("b", 2_000_000_000, None)
    assert told(partly).height_agl_m == 50


def test_a_byte_order_mark_does_no_harm(csv_path: Path) -> None:
    csv_path.write_bytes(f"\ufeff{HEADER}\r\na,0,1,-90,0,50\r\n".encode())
    assert read_telemetry(csv_path)[0].frame == "a"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lacks the columns frame"),
        (HEADER + "\n", "no rows"),
        ("frame,time_s,yaw_deg,pitch_deg,roll_deg\na,0,1,-90,0\n", "lacks the column height_agl_m"),
        (HEADER + "\na,0,1,-90,0,50\na,1,1,-90,0,50\n", "row 2 names frame a a second time"),
        (HEADER + "\n,0,1,-90,0,50\n", "row 1 names no frame"),
    ],
)
def test_a_file_that_is_no_flight_is_refused(csv_path: Path, text: str, sentence: str) -> None:
    csv_path.write_text(text)
    with pytest.raises(TelemetryError, match=sentence):
        read_telemetry(csv_path)


def test_a_binary_file_is_refused(csv_path: Path) -> None:
    csv_path.write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(TelemetryError, match="no CSV file"):
        read_telemetry(csv_path)


def test_a_missing_file_is_refused(csv_path: Path) -> None:
    with pytest.raises(TelemetryError, match="cannot be read"):
        read_telemetry(csv_path)


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "count"),
    [("fengyuan/flight_A.csv", 31), ("fengyuan/flight_B.csv", 11), ("nust/flight.csv", 46)],
)
def test_the_real_flights_are_whole(shared_data: Path, file: str, count: int) -> None:
    rows = read_telemetry(shared_data / file)
    assert len(rows) == count
    times = [row.time_ns for row in rows]
    assert times == sorted(set(times))
    assert times[0] == 0
    assert all(math.isfinite(told(row).yaw_deg) for row in rows)


def test_deviations_are_read_and_usual_where_nothing_is_stated(csv_path: Path) -> None:
    csv_path.write_text(
        f"{HEADER},yaw_std_deg,height_std\na,0,1,-90,0,50,12.5,0.1\nb,1,1,-90,0,50,,\n"
    )
    stated, usual = (told(row) for row in read_telemetry(csv_path))
    assert (stated.yaw_std_deg, stated.height_std) == (12.5, 0.1)
    assert (usual.yaw_std_deg, usual.height_std) == (Telemetry.yaw_std_deg, Telemetry.height_std)


def test_an_unknown_heading_needs_no_yaw(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER},yaw_std_deg\na,0,,-90,0,50,unknown\nb,1,,-90,0,50,12\n")
    unknown, missing = (told(row) for row in read_telemetry(csv_path))
    assert not unknown.heading_is_known
    assert unknown.yaw_deg == 0.0
    assert math.isnan(missing.yaw_deg)


def test_a_deviation_that_is_no_number_is_no_usual_one(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER},yaw_std_deg\na,0,1,-90,0,50,good\n")
    assert math.isnan(told(read_telemetry(csv_path)[0]).yaw_std_deg)


def test_a_deviation_of_90_degrees_and_more_needs_no_yaw_either(csv_path: Path) -> None:
    csv_path.write_text(f"{HEADER},yaw_std_deg\na,0,,-90,0,50,120\n")
    assert told(read_telemetry(csv_path)[0]).yaw_deg == 0.0
