"""The replay around the localizer: files in, one line a frame out, whatever happens."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfix.runtime.cli import main
from skyfix.runtime.engines.choose import Choice
from skyfix.runtime.errors import CameraError, InputError
from skyfix.runtime.localizer import Prior
from skyfix.runtime.publish.bus import Publisher, Subscriber
from skyfix.runtime.replay import (
    Recording,
    Tally,
    fixes_file,
    prior_from_text,
    record_fixes,
    recording_from_files,
    sentence,
)
from skyfix.runtime.score import read_fixes
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.telemetry import TelemetryRow
from skyfix.runtime.types import Fix, Frame, LostFrame, Reason, Status, Telemetry

CAMERA = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), np.zeros(0))


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Three images, grey levels 0, 40, 80; the row of a fourth names a file that is not there."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), 40 * index, np.uint8))
    rows = tuple(
        TelemetryRow(f"{index}.png", index * 10**9, Telemetry(index * 10**9, 0.0, -90.0, 0.0, 50.0))
        for index in (0, 1, 7, 2)
    )
    return Recording(str(folder), rows, CAMERA)


def level_as_latitude(frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
    """A step whose answer for each frame is known: its grey level is the latitude."""
    assert telemetry is not None
    assert telemetry.time_ns == frame.time_ns
    sequence = frame.time_ns // 10**9
    if isinstance(frame, LostFrame):
        return Fix(frame.frame_id, frame.time_ns, sequence, Status.DEGRADED, frame.reason, "m", "p")
    return Fix(
        frame.frame_id, frame.time_ns, sequence, Status.TRACKING, None, "m", "p",
        lat_deg=float(frame.image.mean()), lon_deg=1.0, latency_ms=5.0,
    )  # fmt: skip


def test_every_row_becomes_one_line_also_where_the_frame_is_lost(
    recording: Recording, tmp_path: Path
) -> None:
    out, tally = tmp_path / "fixes.jsonl", Tally()
    record_fixes(level_as_latitude, recording, out, tally)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["frame"] for line in lines] == ["0.png", "1.png", "7.png", "2.png"]
    assert [line["lat_deg"] for line in lines] == [0, 40, None, 80]
    assert [line["reason"] for line in lines] == [None, None, "frame_unreadable", None]
    assert list(tmp_path.glob("*.part")) == []
    assert len(read_fixes(out)) == 4


def test_the_summary_counts_statuses_reasons_and_the_latency_of_positions(
    recording: Recording, tmp_path: Path
) -> None:
    tally = Tally()
    record_fixes(level_as_latitude, recording, tmp_path / "fixes.jsonl", tally)
    summary = tally.summary(Path("fixes.jsonl"))
    assert (summary.frames, summary.positions, summary.median_latency_ms) == (4, 3, 5.0)
    assert sentence(summary) == (
        "4 frames: 3 positions (1 degraded, 3 tracking); 1 frame_unreadable; "
        "median latency 5.0 ms; fixes.jsonl"
    )


def test_a_summary_without_positions_has_no_latency() -> None:
    summary = Tally().summary(Path("x"))
    assert summary.median_latency_ms is None
    assert "median latency -" in sentence(summary)


def test_what_is_written_is_published_too(recording: Recording, tmp_path: Path) -> None:
    out = tmp_path / "fixes.jsonl"
    with (
        Publisher("tcp://127.0.0.1:*") as publisher,
        Subscriber(publisher.endpoint, timeout_s=0.5) as subscriber,
    ):
        assert publisher.serve(5.0)
        record_fixes(level_as_latitude, recording, out, Tally(), publisher)
        assert list(subscriber) == read_fixes(out)


def test_ctrl_c_keeps_what_was_localised_under_the_final_name(
    recording: Recording, tmp_path: Path
) -> None:
    def interrupted(frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        if frame.frame_id == "7.png":
            raise KeyboardInterrupt
        return level_as_latitude(frame, telemetry)

    out, tally = tmp_path / "fixes.jsonl", Tally()
    with pytest.raises(KeyboardInterrupt):
        record_fixes(interrupted, recording, out, tally)
    assert [fix.frame for fix in read_fixes(out)] == ["0.png", "1.png"]
    assert tally.positions == 2


def test_an_older_file_stays_until_the_new_one_is_whole(
    recording: Recording, tmp_path: Path
) -> None:
    def broken(*_: object) -> Fix:
        raise ZeroDivisionError

    out = tmp_path / "fixes.jsonl"
    out.write_text("older")
    with pytest.raises(ZeroDivisionError):
        record_fixes(broken, recording, out, Tally())
    assert out.read_text() == "older"


def test_a_folder_that_does_not_exist_is_refused_before_the_first_frame(
    recording: Recording, tmp_path: Path
) -> None:
    def never(*_: object) -> Fix:
        raise AssertionError("a frame was localised")

    with pytest.raises(InputError, match="cannot be written"):
        record_fixes(never, recording, tmp_path / "gone" / "fixes.jsonl", Tally())


def test_a_folder_in_the_place_of_the_file_is_refused_before_the_first_frame(
    recording: Recording, tmp_path: Path
) -> None:
    def never(*_: object) -> Fix:
        raise AssertionError("a frame was localised")

    with pytest.raises(InputError, match="is a folder"):
        record_fixes(never, recording, tmp_path, Tally())


def test_a_file_that_cannot_get_its_name_says_where_the_fixes_are(tmp_path: Path) -> None:
    out = tmp_path / "fixes.jsonl"
    with (
        pytest.raises(InputError, match=r"fixes\.jsonl: cannot be .* in .*\.part"),
        fixes_file(out),
    ):
        out.mkdir()
    assert (tmp_path / "fixes.jsonl.part").exists()


def test_a_row_without_telemetry_gets_its_line_too(recording: Recording, tmp_path: Path) -> None:
    def missing(frame: Frame | LostFrame, telemetry: Telemetry | None) -> Fix:
        if telemetry is not None:
            return level_as_latitude(frame, telemetry)
        return Fix(
            frame.frame_id, frame.time_ns, 1, Status.SEARCHING, Reason.TELEMETRY_MISSING, "m", "p"
        )

    first, second, *_ = recording.rows
    cut = replace(recording, rows=(first, replace(second, telemetry=None)))
    out = tmp_path / "fixes.jsonl"
    record_fixes(missing, cut, out, Tally())
    assert [(fix.time_ns, fix.reason) for fix in read_fixes(out)] == [
        (0, None), (10**9, Reason.TELEMETRY_MISSING)
    ]  # fmt: skip


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from skyfix.runtime.errors import InputError
from skyfix.runtime.replay import fixes_file, write_line

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with fixes_file(Path(sys.argv[1])) as file:
    write_line(file, b"x" * 60)
    try:
        write_line(file, b"x" * 60)
    except InputError as error:
        print(error)
"""


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """In a process of its own: the limit would hold for pytest's own output too."""
    out = tmp_path / "fixes.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out)], check=True, capture_output=True, text=True
    )
    assert "lines so far are kept" in done.stdout
    assert out.read_bytes().startswith(b"x" * 60 + b"\n")


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x", "91,0,5", "0,181,5", "0,0,0", "0,0,inf",
                                  "nan,0,5", "1,2,3,4"])  # fmt: skip
def test_a_prior_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--prior"):
        prior_from_text(text)


def test_a_prior_is_latitude_longitude_and_radius() -> None:
    assert prior_from_text("-33.5, 151.25,200") == Prior(-33.5, 151.25, 200.0)


def test_a_flight_file_needs_a_camera_file(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="--camera is needed"):
        recording_from_files(str(tmp_path), str(tmp_path / "flight.csv"), None)


def test_photos_without_a_focal_length_need_a_camera_file(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(CameraError, match="give --camera"):
        recording_from_files(str(tmp_path), "exif", None)


@pytest.mark.real
def test_photos_and_the_flight_file_made_from_them_are_the_same_recording(
    shared_data: Path,
) -> None:
    folder = shared_data / "fengyuan"
    from_photos = recording_from_files(f"file://{folder}/frames", "exif", None)
    from_file = recording_from_files(
        str(folder / "frames"), str(folder / "flight_A.csv"), folder / "camera.yaml"
    )
    assert from_photos.rows[: len(from_file.rows)] == from_file.rows
    np.testing.assert_allclose(from_photos.camera.matrix, from_file.camera.matrix, atol=0.1)


def test_a_wrong_argument_ends_the_command_with_code_2(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", "--pack", str(tmp_path), "--frames", recording.frames,
             "--telemetry", str(tmp_path / "gone.csv"), "--camera", str(tmp_path / "gone.yaml"),
             "--out", str(tmp_path / "fixes.jsonl")]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "fixes.jsonl").exists()


def test_a_prior_for_frames_that_stand_alone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone")
    words = ["replay", "--pack", gone, "--frames", gone, "--telemetry", gone, "--out", gone]
    with pytest.raises(SystemExit) as left:
        main([*words, "--independent", "--prior", "1,2,300"])
    assert left.value.code == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_the_engine_is_the_one_that_is_named_and_the_summary_says_why(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone")
    words = ["replay", "--pack", gone, "--frames", gone, "--telemetry", gone, "--out", gone]
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    assert "tensorrt-unchecked" in capsys.readouterr().out
    tally = Tally(engine=Choice("onnx", "tensorrt: not installed; onnx can run"))
    record_fixes(level_as_latitude, recording, tmp_path / "fixes.jsonl", tally)
    line = sentence(tally.summary(tmp_path / "fixes.jsonl"))
    assert line.endswith("; engine onnx (tensorrt: not installed; onnx can run)")
