from pathlib import Path
from types import ModuleType

import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.data.denseuav import load
from skyfix.train.data.images import read_image


@pytest.fixture
def root(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_denseuav(tmp_path, train=3, test=2)
    return tmp_path


def test_a_drone_image_is_paired_with_both_dates_of_its_height(root: Path) -> None:
    train = load(root).train
    assert train is not None
    drone, satellite = train.views["drone"], train.views["satellite"]
    assert (len(drone), len(satellite), len(train.pairs)) == (9, 18, 18)
    names = sorted(
        (drone.paths[a].stem, satellite.paths[b].stem)
        for a, b in train.pairs
        if drone.labels[a] == satellite.labels[b] == 1
    )
    assert names == [
        ("H100", "H100"), ("H100", "H100_old"), ("H80", "H80"),
        ("H80", "H80_old"), ("H90", "H90"), ("H90", "H90_old"),
    ]  # fmt: skip


def test_positions_are_latitude_and_longitude_of_the_place(root: Path) -> None:
    down, up = load(root).tests
    assert (down.name, up.name) == ("drone->satellite", "satellite->drone")
    assert down.protocol == "positions"
    line = next(
        row.split() for row in (root / "Dense_GPS_test.txt").read_text().splitlines()
        if "/000004/" in row
    )  # fmt: skip
    expected = [float(line[2].removeprefix("N")), float(line[1].removeprefix("E"))]
    for images in (down.query, down.gallery, up.query, up.gallery):
        assert images.metric == "degrees"
        assert images.positions is not None
        assert images.positions[images.labels == 4][-1].tolist() == expected


def test_the_gallery_holds_training_places_too(root: Path) -> None:
    down, _ = load(root).tests
    assert set(down.query.labels.tolist()) == {3, 4}
    assert set(down.gallery.labels.tolist()) == {0, 1, 2, 3, 4}
    assert len(down.gallery) == 5 * 6


def test_satellite_tif_files_are_read(root: Path) -> None:
    down, _ = load(root).tests
    tif = down.gallery.paths[0]
    assert tif.suffix == ".tif"
    assert read_image(tif, (32, 32)).shape == (32, 32, 3)


def test_the_lists_of_training_and_test_stand_for_the_whole_one(root: Path) -> None:
    before = load(root).tests[0].gallery.positions
    (root / "Dense_GPS_ALL.txt").unlink()
    after = load(root).tests[0].gallery.positions
    assert before is not None
    assert after is not None
    assert after.tolist() == before.tolist()


def test_without_lists_distances_are_not_scored_and_that_is_told(root: Path) -> None:
    for path in root.glob("Dense_GPS_*.txt"):
        path.unlink()
    data = load(root)
    assert data.tests[0].protocol == "classes"
    assert data.tests[0].query.positions is None
    assert "distances cannot be scored" in data.missing[0]


def test_a_place_without_position_is_refused_by_its_number(root: Path) -> None:
    path = root / "Dense_GPS_ALL.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "/000001/" not in line))
    with pytest.raises(InputError, match=r"lack 1 of 3 places, the first is 000001"):
        load(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/drone/000000/H80.JPG N30.1 E120.1 80", r"line 1: column 3 is 'E120.1', not N"),
        ("train/drone/000000/H80.JPG E120.1 Nnorth 80", r"line 1: column 3 is no number"),
        ("train/drone/000000/H80.JPG E120.1", r"line 1: 2 columns where 3 or 4 belong"),
        ("H80.JPG E120.1 N30.1 80", r"line 1: no place in the path"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(root: Path, line: str, message: str) -> None:
    path = root / "Dense_GPS_ALL.txt"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(InputError, match=message):
        load(root)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ROOT is the folder that holds train/"):
        load(tmp_path)
