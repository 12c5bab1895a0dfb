"""`skyfix map coverage` as it is typed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfix.runtime.cli import main
from skyfix.runtime.coverage.cli import EXIT_TOO_LITTLE
from skyfix.runtime.coverage.picture import CHANCES, UNKNOWN, color_of_chance, view_of_grid
from skyfix.runtime.geo import Grid, LocalFrame

FRAME = LocalFrame(47.0, 8.0)


@pytest.fixture
def route(tmp_path: Path) -> Path:
    """From plain ground in the south-west into the bare block in the north-east."""
    lat, lon = FRAME.wgs84_from_en(np.array([-170.0, 170.0]), np.array([-170.0, 170.0]))
    rows = "".join(f"{a:.8f},{b:.8f}\n" for a, b in zip(lat, lon, strict=True))
    path = tmp_path / "route.csv"
    path.write_text("lat,lon\n" + rows, encoding="utf-8")
    return path


@pytest.fixture
def exit_code(tiny_model_folder: Path) -> Callable[..., int]:
    """Of the verb with the model that has made the packs."""

    def run(*words: object) -> int:
        with pytest.raises(SystemExit) as stopped:
            main(["map", "coverage", "--model", str(tiny_model_folder), *map(str, words)])
        return int(stopped.value.code or 0)

    return run


def test_a_route_is_answered_in_words_numbers_and_a_picture(
    planted_pack: Path, route: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    exit_code: Callable[..., int],
) -> None:  # fmt: skip
    numbers, picture = tmp_path / "report.json", tmp_path / "map.png"
    code = exit_code(planted_pack, "--route", route, "--json", numbers, "--picture", picture)
    assert code == 0
    assert "localisable" in capsys.readouterr().out
    report = json.loads(numbers.read_text(encoding="utf-8"))
    assert report["schema"] == 1
    assert report["route_m"] == pytest.approx(340 * np.sqrt(2), abs=1)
    assert report["places"][0]["kind"] == "localisable"
    assert report["places"][-1]["kind"] == "bare"
    assert 40 < report["localisable_percent"] < 90
    assert report["longest_gap_m"] == pytest.approx(report["longest_gap_s"] * 10, abs=1)
    image = cv2.imread(str(picture))
    assert image is not None
    assert min(image.shape[:2]) >= 700
    assert not list(tmp_path.glob("*.part"))


def test_json_on_the_terminal_is_all_that_stands_there(
    planted_pack: Path, route: Path, capsys: pytest.CaptureFixture[str],
    exit_code: Callable[..., int],
) -> None:  # fmt: skip
    assert exit_code(planted_pack, "--route", route, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["interval_s"] == 1.0


@pytest.mark.parametrize(("percent", "code"), [(1, 0), (99, EXIT_TOO_LITTLE)])
def test_a_script_learns_by_the_exit_code_whether_it_is_enough(
    planted_pack: Path, route: Path, percent: float, code: int, exit_code: Callable[..., int]
) -> None:
    assert exit_code(planted_pack, "--route", route, "--require", percent) == code


def test_an_altered_byte_of_the_pack_is_found(
    planted_pack: Path, route: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    exit_code: Callable[..., int],
) -> None:  # fmt: skip
    copy = shutil.copytree(planted_pack, tmp_path / "copy")
    overview = next(copy.glob("*/overview.u8"))
    changed = bytearray(overview.read_bytes())
    changed[1000] ^= 1
    overview.write_bytes(changed)
    assert exit_code(copy, "--route", route) == 3
    assert "was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [("--speed", 0), ("--interval", -1), ("--speed", "nan"), ("--picture", "map.jpg"),
     ("--require", 101), ("--route", "nowhere.csv"), ("--json", "no/such/folder/x.json")],
)  # fmt: skip
def test_a_mistake_in_the_call_is_two(
    planted_pack: Path, options: tuple[str, object], exit_code: Callable[..., int]
) -> None:
    assert exit_code(planted_pack, *options) == 2


def test_a_pack_of_another_model_is_refused(
    planted_pack: Path, capsys: pytest.CaptureFixture[str], exit_code: Callable[..., int]
) -> None:
    """Its likelihood would be that of other descriptors; nano has not made the pack."""
    assert exit_code(planted_pack, "--model", "nano") == 3
    assert "Name that model with --model" in capsys.readouterr().err


def test_colours_run_from_the_first_to_the_last_and_grey_is_unknown() -> None:
    for chance, color in CHANCES:
        assert color_of_chance(chance) == color
    assert color_of_chance(float("nan")) == UNKNOWN


def test_a_view_shows_all_cells_of_the_sweep() -> None:
    grid = Grid(east_m=-450.0, north_m=150.0, step_m=100.0, rows=4, columns=10)
    view = view_of_grid(grid)
    corners = view.pixels(np.array([[-500.0, 200.0], [500.0, -200.0]]))
    assert view.width_px == 1100
    assert view.height_px == 700
    np.testing.assert_allclose(corners, [[0, 130], [1100, 570]], atol=1e-6)
