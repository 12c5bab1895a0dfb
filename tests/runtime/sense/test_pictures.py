"""Squares of pictures, each as it stands in its file."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio import Affine

from skyfix.runtime.errors import BrokenImageError, InputError
from skyfix.runtime.sense.pictures import evenly, picture_files, read_square, scaled_square


def test_a_square_is_the_middle_of_its_picture_red_first(tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 16:48] = (10, 20, 200)  # OpenCV writes blue first
    image[:, 32:48] = (10, 20, 100)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    square = read_square(tmp_path / "a.png")
    assert square.shape == (32, 32, 3)
    assert (square[:, :16] == (200, 20, 10)).all()
    assert (square[:, 16:] == (100, 20, 10)).all()


def test_a_tall_picture_loses_its_top_and_bottom(tmp_path: Path) -> None:
    image = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None], 20, axis=1).repeat(3, axis=2)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert read_square(tmp_path / "a.png")[:, 0, 0].tolist() == list(range(20, 40))


def test_a_scaled_square_is_the_mean_of_what_each_pixel_covers() -> None:
    square = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    wanted = square.reshape(4, 3, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(scaled_square(square, 4) - wanted).max() <= 0.5 + 1e-6


def test_pictures_are_found_by_their_endings_and_in_folders_below(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.JPG", "a.tif", "notes.txt", "below/c.webp"):
        (tmp_path / name).touch()
    names = [path.name for path in picture_files(tmp_path)]
    assert names == ["a.tif", "b.JPG", "c.webp"]


def test_folders_without_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        picture_files(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no pictures"):
        picture_files(tmp_path)


def test_half_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BrokenImageError, match=r"a\.jpg cannot be decoded"):
        read_square(tmp_path / "a.jpg")


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 9) == [0, 1, 2]


def test_the_tags_of_a_geotiff_are_no_warning_on_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "land.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=16, height=16, count=3, dtype="uint8", crs="EPSG:2056",
        transform=Affine(0.5, 0, 2_683_000, 0, -0.5, 1_248_000),
    ) as file:  # fmt: skip
        file.write(np.full((3, 16, 16), 90, np.uint8))
    loud = "import cv2, sys; cv2.imread(sys.argv[1])"  # what OpenCV does by itself
    quiet = (
        "from skyfix.runtime.sense.pictures import read_square; import pathlib, sys; "
        "read_square(pathlib.Path(sys.argv[1]))"
    )
    for code, warned in ((loud, True), (quiet, False)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert ("TIFF" in done.stderr) == warned, done.stderr
