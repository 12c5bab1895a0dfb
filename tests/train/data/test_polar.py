import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress

from skyfix.runtime.errors import InputError
from skyfix.train.data.polar import (
    polar_folder,
    polar_from_square,
    size_from_text,
    transform_folder,
)


def scene(side: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(side, side, 3)).astype(np.float32)
    return np.clip(128 + 150 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def naive(image: np.ndarray, height: int, width: int) -> np.ndarray:
    side = len(image)
    out = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            rho = side / 2 * (height - 1 - i) / height
            row = side / 2 + rho * np.cos(2 * np.pi * j / width)
            column = side / 2 - rho * np.sin(2 * np.pi * j / width)
            y, x = int(np.floor(row)), int(np.floor(column))
            for dy in (0, 1):
                for dx in (0, 1):
                    if 0 <= y + dy < side and 0 <= x + dx < side:
                        weight = (1 - abs(row - y - dy)) * (1 - abs(column - x - dx))
                        out[i, j] += weight * image[y + dy, x + dx]
    return out


# 60 rows of a side of 9: the outer circle reaches past the last pixel's centre
@pytest.mark.parametrize(("side", "size_px"), [(40, (13, 31)), (41, (12, 16)), (9, (60, 8))])
def test_it_equals_a_naive_loop(side: int, size_px: tuple[int, int]) -> None:
    image = scene(side)
    out = polar_from_square(image, size_px)
    assert out.dtype == np.uint8
    assert np.abs(out - naive(image, *size_px)).max() <= 0.501


@pytest.mark.parametrize(
    ("column", "row_step", "column_step"), [(0, 1, 0), (16, 0, -1), (32, -1, 0), (48, 0, 1)]
)
def test_columns_look_south_west_north_and_east(
    column: int, row_step: int, column_step: int
) -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    distance = 60
    y, x = 100 + distance * row_step, 100 + distance * column_step
    image[y - 3 : y + 4, x - 3 : x + 4] = 255
    out = polar_from_square(image, (50, 64))[..., 0]
    row, found = np.unravel_index(int(out.argmax()), out.shape)
    assert abs((found - column + 32) % 64 - 32) <= 1
    assert abs(100 * (49 - row) / 50 - distance) <= 4  # the top row is the outer circle


@given(azimuth_deg=st.floats(0, 360), rho=st.floats(20, 80))
def test_a_planted_point_lands_at_its_azimuth_and_distance(azimuth_deg: float, rho: float) -> None:
    y, x = np.mgrid[:200, :200]
    north, east = rho * np.cos(np.radians(azimuth_deg)), rho * np.sin(np.radians(azimuth_deg))
    blob = 255 * np.exp(-((y - (100 - north)) ** 2 + (x - (100 + east)) ** 2) / 50)
    image = np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2)
    out = polar_from_square(image, (100, 360))[..., 0]
    row, column = np.unravel_index(int(out.argmax()), out.shape)
    difference = (column - 180 - azimuth_deg + 180) % 360 - 180  # clockwise, north in the middle
    assert abs(np.radians(difference)) * rho < 3
    assert abs((99 - row) - rho) < 3


def test_an_oblong_image_is_refused() -> None:
    with pytest.raises(InputError, match="square image, not 20 x 30 px"):
        polar_from_square(np.zeros((20, 30, 3), np.uint8), (12, 67))


@pytest.mark.parametrize("text", ["122", "122x", "0x671", "ax7", "1x2x3", "-1x5"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="height x width"):
        size_from_text(text)


def folder_with(root: Path, count: int) -> Path:
    (root / "19").mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(root / "19" / f"{number:07}.jpg"), scene(32, number))
    return root


def test_a_folder_keeps_its_names_as_png_and_its_colours(tmp_path: Path) -> None:
    aerial = folder_with(tmp_path / "bingmap", 2)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(aerial / "red.png"), red)
    (aerial / "19" / "._0000000.jpg").write_bytes(b"Mac OS X")
    summary = transform_folder(aerial, tmp_path / "polarmap", (12, 67), Progress(disable=True))
    assert (summary.written, summary.kept, summary.broken) == (3, 0, ())
    names = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "polarmap").rglob("*.*"))
    assert names == ["polarmap/19/0000000.png", "polarmap/19/0000001.png", "polarmap/red.png"]
    out = cv2.imread(str(tmp_path / "polarmap" / "red.png"))
    assert out is not None
    assert out.shape == (12, 67, 3)
    assert out[6, 30].tolist() == [0, 0, 200]
    decoded = cv2.imread(str(aerial / "19" / "0000001.jpg"))
    written = cv2.imread(str(tmp_path / "polarmap" / "19" / "0000001.png"))
    assert decoded is not None
    assert written is not None
    assert (
        np.abs(written.astype(int) - polar_from_square(decoded.astype(np.uint8), (12, 67))).max()
        <= 3
    )


def test_a_run_goes_on_with_what_is_not_there_yet(tmp_path: Path) -> None:
    aerial = folder_with(tmp_path / "a", 3)
    done = tmp_path / "out" / "19" / "0000001.png"
    done.parent.mkdir(parents=True)
    done.write_bytes(b"kept as it is")
    (tmp_path / "out" / "19" / "0000002.png.part").write_bytes(b"of a killed run")
    summary = transform_folder(aerial, tmp_path / "out", (12, 67), Progress(disable=True))
    assert (summary.written, summary.kept) == (2, 1)
    assert done.read_bytes() == b"kept as it is"
    assert cv2.imread(str(done.with_name("0000002.png"))) is not None
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_broken_image_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    aerial = folder_with(tmp_path / "a", 3)
    whole = (aerial / "19" / "0000001.jpg").read_bytes()
    (aerial / "19" / "0000001.jpg").write_bytes(whole[: len(whole) // 2])
    summary = transform_folder(aerial, tmp_path / "out", (12, 67), Progress(disable=True))
    assert summary.written == 2
    assert summary.kept == 0
    assert [Path(name).name for name in summary.broken] == ["0000001.jpg"]
    assert not (tmp_path / "out" / "19" / "0000001.png").exists()


def test_an_oblong_file_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError, match=r"wide\.png: .*20 x 30"):
        transform_folder(tmp_path, tmp_path / "out", (12, 67), Progress(disable=True))


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        transform_folder(tmp_path / name, tmp_path / "out", (12, 67), Progress(disable=True))


def test_the_verb_prints_its_counts_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polar_folder(folder_with(tmp_path / "a", 2), tmp_path / "out", "12x67", as_json=True)
    out = json.loads(capsys.readouterr().out)
    assert out == {"written": 2, "kept": 0, "broken": [], "out": str(tmp_path / "out")}
