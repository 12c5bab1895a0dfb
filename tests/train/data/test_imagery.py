from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfix.runtime.errors import RasterError
from skyfix.train.data.imagery import rasters_from_folder


def write(path: Path, color: int, side: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((side, side, 3), color, np.uint8))


def test_tiles_are_put_together_by_their_xyz_names(tmp_path: Path) -> None:
    for x, y, color in ((10, 20, 50), (11, 20, 100), (11, 21, 150)):
        write(tmp_path / f"OAM-{x}-{y}-19.png", color)
    (raster,) = rasters_from_folder(tmp_path)
    assert raster.image.shape == (32, 32, 3)
    assert raster.image[0, 0, 0] == 50  # west, north: y counts to the south
    assert raster.image[0, 31, 0] == 100
    assert raster.image[31, 31, 0] == 150
    assert not raster.valid[31, 0]
    assert raster.valid.mean() == 0.75


def test_every_zoom_is_a_raster_and_other_pictures_stand_alone(tmp_path: Path) -> None:
    write(tmp_path / "OAM-10-20-19.png", 50)
    write(tmp_path / "OAM-20-40-20.png", 50)
    write(tmp_path / "deep" / "plain.png", 90, side=24)
    shapes = sorted(raster.valid.shape for raster in rasters_from_folder(tmp_path))
    assert shapes == [(16, 16), (16, 16), (24, 24)]


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    bgr = np.zeros((16, 16, 3), np.uint8)
    bgr[..., 2] = 200
    cv2.imwrite(str(tmp_path / "red.png"), bgr)
    (raster,) = rasters_from_folder(tmp_path)
    assert raster.image[0, 0].tolist() == [200, 0, 0]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(RasterError, match="no colour pictures"):
        rasters_from_folder(tmp_path)


@pytest.mark.real
def test_the_training_folders_hold_ground(shared_data: Path) -> None:
    rasters = rasters_from_folder(shared_data / "train" / "fair_oam_banepa")
    assert len(rasters) == 1
    assert 0.5 < rasters[0].valid.mean() < 0.9
