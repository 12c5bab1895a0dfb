"""Scores against closed forms: planted errors, and errors drawn from the stated covariance."""

import csv
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.publish.messages import Covariance, FixMessage, encode
from skyfix.runtime.score import (
    CHI2_68,
    CHI2_95,
    mahalanobis_squared,
    read_fixes,
    score_flight,
    score_positions,
    table_from_scores,
)
from skyfix.runtime.truth import read_truth
from skyfix.runtime.types import Reason, Status

ORIGIN = LocalFrame(24.25, 120.75)
Array = NDArray[np.float64]


def fix_at(
    frame: str,
    drone_en_m: tuple[float, float] | None,
    center_en_m: tuple[float, float] | None = None,
    std_m: float = 5.0,
) -> FixMessage:
    covariance: Covariance = ((std_m**2, 0.0), (0.0, std_m**2))

    def degrees(point: tuple[float, float] | None) -> tuple[float | None, float | None]:
        if point is None:
            return None, None
        lat, lon = ORIGIN.wgs84_from_en(*point)
        return float(lat), float(lon)

    lat_deg, lon_deg = degrees(drone_en_m)
    center_lat_deg, center_lon_deg = degrees(center_en_m)
    return FixMessage(
        session="s", sequence=0, frame=frame, time_ns=0, utc_ns=None,
        status=Status.TRACKING if drone_en_m else Status.SEARCHING,
        reason=None if drone_en_m else Reason.AMBIGUOUS,
        lat_deg=lat_deg, lon_deg=lon_deg,
        cov_en_m2=covariance if drone_en_m else None, std_m=std_m if drone_en_m else None,
        center_lat_deg=center_lat_deg, center_lon_deg=center_lon_deg,
        center_cov_en_m2=covariance if center_en_m else None,
        score=None, margin=None, match_age_ms=None, reset_counter=0,
        latency_ms=1.0, stages_ms={}, model_id="m", pack_id="p",
    )  # fmt: skip


def write_fixes(path: Path, *fixes: FixMessage) -> Path:
    path.write_bytes(b"".join(encode(fix, "json") + b"\n" for fix in fixes))
    return path


def write_truth(path: Path, frames: list[str], *, center: bool = True, std_m: str = "") -> Path:
    """Every frame's drone, and its image centre where wanted, is at the origin."""
    here = [f"{ORIGIN.lat_deg:.9f}", f"{ORIGIN.lon_deg:.9f}"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["frame", "time_s", "truth_lat_deg", "truth_lon_deg",
             "truth_center_lat_deg", "truth_center_lon_deg", "truth_std_m"]
        )  # fmt: skip
        for frame in frames:
            writer.writerow([frame, "0", *here, *(here if center else ["", ""]), std_m])
    return path


def drawn(cov_en_m2: Array, count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).multivariate_normal(np.zeros(2), cov_en_m2, count)


def test_planted_errors_are_counted_and_measured() -> None:
    """Distances 5, 20, 40, 100 m and one frame that is not localised."""
    error = np.array([[3.0, 4.0], [0.0, -20.0], [-24.0, 32.0], [60.0, 80.0], [math.nan, math.nan]])
    cov = np.stack([np.eye(2) * std**2 for std in (2.0, 6.0, 14.0, 30.0, math.nan)])
    score = score_positions(error, cov, np.zeros(5))
    assert score.frames == 5
    assert score.localised_percent == pytest.approx(80)
    assert score.within_10_m_percent == pytest.approx(20)
    assert score.within_25_m_percent == pytest.approx(40)
    assert score.within_50_m_percent == pytest.approx(60)
    assert score.median_m == pytest.approx(30)
    assert score.p95_m == pytest.approx(40 + 0.85 * 60)
    assert score.false_fixes == 2  # 20 m at 6 m, 100 m at 30 m; 40 m at 14 m is within three


@pytest.mark.parametrize(("squared", "inside"), [(CHI2_68, 0.68), (CHI2_95, 0.95)])
def test_the_thresholds_are_those_of_chi_square_with_two_degrees_of_freedom(
    squared: float, inside: float
) -> None:
    assert 1 - math.exp(-squared / 2) == pytest.approx(inside, abs=1e-4)


def test_errors_drawn_from_the_stated_covariance_fill_its_ellipses() -> None:
    cov = np.array([[100.0, 60.0], [60.0, 64.0]])
    count = 4000
    score = score_positions(drawn(cov, count), np.tile(cov, (count, 1, 1)), np.zeros(count))
    for measured, inside in ((score.coverage_68_percent, 0.68), (score.coverage_95_percent, 0.95)):
        spread = math.sqrt(inside * (1 - inside) / count)
        assert measured == pytest.approx(inside * 100, abs=400 * spread)


def test_the_uncertainty_of_the_truth_is_added_to_the_covariance() -> None:
    """Errors of 3-4-5: std 3 stated, std 4 of the truth, drawn with std 5."""
    count = 4000
    error = drawn(np.eye(2) * 25, count)
    cov = np.tile(np.eye(2) * 9, (count, 1, 1))
    honest = score_positions(error, cov, np.full(count, 4.0))
    alone = score_positions(error, cov, np.zeros(count))
    assert honest.coverage_95_percent == pytest.approx(95, abs=1.5)
    assert alone.coverage_95_percent == pytest.approx(100 * (1 - 0.05 ** (9 / 25)), abs=3)


def test_the_distance_in_the_covariance_agrees_with_its_inverse() -> None:
    cov = np.array([[[4.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]])
    error = np.array([[1.0, -2.0], [3.0, 3.0], [1.0, 0.0]])
    squared = mahalanobis_squared(error, cov)
    for index in range(2):
        expected = error[index] @ np.linalg.inv(cov[index]) @ error[index]
        assert squared[index] == pytest.approx(expected)
    assert math.isinf(squared[2])  # no ellipse: nothing lies in it


def test_drone_and_image_centre_are_scored_apart(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"]))
    scores = score_flight([fix_at("a", (0.0, 30.0), (3.0, 4.0))], truth)
    assert scores.drone.all_frames.median_m == pytest.approx(30, abs=0.01)
    assert scores.center.all_frames.median_m == pytest.approx(5, abs=0.01)
    assert (scores.drone.all_frames.false_fixes, scores.center.all_frames.false_fixes) == (1, 0)


def test_frames_without_a_truth_do_not_count(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"], center=False))
    scores = score_flight([fix_at("a", (0.0, 1.0), (0.0, 1.0))], truth)
    assert scores.drone.all_frames.frames == 1
    assert scores.center.all_frames.frames == 0
    assert scores.center.all_frames.localised_percent is None
    assert scores.center.all_frames.median_m is None


def test_a_frame_with_a_truth_and_no_fix_counts_as_not_localised(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a", "b"]))
    score = score_flight([fix_at("b", (0.0, 1.0))], truth).drone.all_frames
    assert (score.frames, score.localised_percent) == (2, 50)


def test_frames_before_the_first_fix_can_be_left_out(tmp_path: Path) -> None:
    """None, then 3 m, then none, then 3 m: two of the last three."""
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a", "b", "c", "d"]))
    near = (0.0, 3.0)
    fixes = [fix_at("a", None), fix_at("b", near), fix_at("c", None), fix_at("d", near)]
    scores = score_flight(fixes, truth).drone
    assert scores.all_frames.within_10_m_percent == pytest.approx(50)
    assert scores.from_first_fix.frames == 3
    assert scores.from_first_fix.within_10_m_percent == pytest.approx(200 / 3)


def test_without_any_fix_there_is_nothing_after_the_first(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"]))
    scores = score_flight([fix_at("a", None)], truth).drone
    assert (scores.all_frames.frames, scores.from_first_fix.frames) == (1, 0)
    assert scores.all_frames.within_50_m_percent == 0


def test_the_stated_std_of_the_truth_is_read(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"], std_m="3.5"))
    assert truth["drone"].std_m.tolist() == [3.5]


def test_a_fix_of_a_frame_that_the_truth_does_not_list_is_refused(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"]))
    with pytest.raises(InputError, match=r"1 fixes have frames .* the first is z"):
        score_flight([fix_at("z", (0.0, 1.0))], truth)


def test_two_fixes_of_one_frame_are_refused(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"]))
    with pytest.raises(InputError, match="twice"):
        score_flight([fix_at("a", None), fix_at("a", None)], truth)


def test_a_line_that_is_no_fix_is_refused_by_its_number(tmp_path: Path) -> None:
    path = write_fixes(tmp_path / "fixes.jsonl", fix_at("a", None))
    path.write_bytes(path.read_bytes() + b'\n{"frame": "b"}\n')
    with pytest.raises(InputError, match="line 3"):
        read_fixes(path)


@pytest.mark.parametrize("text", ["", "frame,time_s\na,0\n", "frame,truth_lat_deg,truth_lon_deg\n"])
def test_a_truth_without_positions_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match="nothing to score against"):
        read_truth(tmp_path / "truth.csv")


@pytest.mark.parametrize("position", ["91,120,,", "24,-181,,", "24,120,-90.5,120", "24,120,24,1e9"])
def test_a_truth_off_the_earth_is_refused_by_its_row(tmp_path: Path, position: str) -> None:
    header = "frame,truth_lat_deg,truth_lon_deg,truth_center_lat_deg,truth_center_lon_deg"
    (tmp_path / "truth.csv").write_text(f"{header}\na,24,120,,\nb,{position}\n")
    with pytest.raises(InputError, match=r"row 2 \(frame b\)"):
        read_truth(tmp_path / "truth.csv")


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_fixes(tmp_path / "gone.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_truth(tmp_path / "gone.csv")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="holds no fixes"):
        read_fixes(tmp_path / "empty.jsonl")


def test_the_table_shows_every_figure_of_the_score(tmp_path: Path) -> None:
    truth = read_truth(write_truth(tmp_path / "truth.csv", ["a"]))
    scores = score_flight([fix_at("a", (0.0, 1.0))], truth)
    table = table_from_scores(scores)
    assert table.row_count == len(msgspec.structs.fields(type(scores.drone.all_frames)))


@pytest.mark.real
def test_the_truth_scores_perfectly_against_itself(shared_data: Path) -> None:
    path = shared_data / "fengyuan" / "flight_B.csv"
    truth = read_truth(path)["drone"]
    fixes = []
    for frame, lat, lon in zip(truth.frames, truth.lat_deg, truth.lon_deg, strict=True):
        east, north = ORIGIN.en_from_wgs84(lat, lon)
        fixes.append(fix_at(frame, (float(east), float(north))))
    score = score_flight(fixes, read_truth(path)).drone.all_frames
    assert (score.frames, score.within_10_m_percent, score.false_fixes) == (11, 100, 0)
    assert score.p95_m == pytest.approx(0, abs=1e-3)
