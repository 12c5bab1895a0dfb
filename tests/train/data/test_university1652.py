import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.data.university1652 import load


@pytest.fixture
def root(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_university1652(tmp_path, train=4, test=3, drones=3, distractors=2)
    return tmp_path


def test_every_drone_image_is_paired_with_the_satellite_image_of_its_building(root: Path) -> None:
    train = load(root).train
    assert train is not None
    drone, satellite = train.views["drone"], train.views["satellite"]
    assert (train.query, train.reference) == ("drone", "satellite")
    assert train.pairs[:, 0].tolist() == list(range(4 * 3))
    for query, reference in train.pairs:
        assert drone.paths[query].parent.name == satellite.paths[reference].parent.name


def test_labels_are_the_folders_numbers_and_an_empty_google_folder_shifts_none(root: Path) -> None:
    data = load(root)
    assert data.train is not None
    assert data.train.views["google"].labels.tolist() == [1, 3, 4]
    assert set(data.train.views["street"].labels.tolist()) == {1, 2, 3, 4}
    for images in data.train.views.values():
        assert [int(path.parent.name) for path in images.paths] == images.labels.tolist()
    assert data.missing == ()


def test_tests_are_all_directions_between_two_views(root: Path) -> None:
    tests = {test.name: test for test in load(root).tests}
    views = ("drone", "satellite", "street")
    assert set(tests) == {f"{a}->{b}" for a in views for b in views if a != b}
    sought = tests["drone->satellite"]
    assert (len(sought.query), len(sought.gallery), sought.protocol) == (9, 5, "classes")
    assert sought.truth is None
    assert set(sought.query.labels.tolist()) < set(sought.gallery.labels.tolist())
    assert len(tests["satellite->drone"].gallery) == 15


def test_4k_queries_are_a_test_of_their_own(root: Path) -> None:
    shutil.copytree(root / "test/query_drone", root / "test/4K_drone")
    assert "drone->satellite 4K" in {test.name for test in load(root).tests}


def test_masked_queries_stand_in_the_order_of_their_list(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_university1652(tmp_path, train=2, test=5, masked=True)
    tests = {test.name: test for test in load(tmp_path).tests}
    for name, view in (("drone->satellite 160k", "drone"), ("street->satellite masked", "street")):
        test = tests[name]
        order = (tmp_path / f"test/query_{view}_name.txt").read_text().split()
        assert [path.name for path in test.query.paths] == order != sorted(order)
        assert list(test.gallery.paths) == sorted(test.gallery.paths)
        assert (test.query.labels == -1).all()
        assert (test.gallery.labels == -1).all()
        assert test.truth is None


def test_the_masked_archive_may_be_a_root_of_its_own(tmp_path: Path, miniature: ModuleType) -> None:
    miniature.make_university1652(tmp_path / "all", train=1, test=3, masked=True)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("workshop_query_street", "workshop_gallery_satellite", "query_street_name.txt"):
        shutil.move(tmp_path / "all/test" / name, alone / name)
    data = load(alone)
    assert data.train is None
    assert [test.name for test in data.tests] == ["street->satellite masked"]


def test_masked_images_in_the_folders_of_the_open_test_are_no_classes(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_university1652(tmp_path / "all", train=1, test=3, masked=True)
    test = tmp_path / "masked/test"
    test.mkdir(parents=True)
    for old, new in (
        ("workshop_query_street", "query_street"),
        ("workshop_gallery_satellite", "gallery_satellite"),
        ("query_street_name.txt", "query_street_name.txt"),
    ):
        shutil.move(tmp_path / "all/test" / old, test / new)
    assert [test.name for test in load(tmp_path / "masked").tests] == ["street->satellite masked"]


def test_a_masked_query_without_its_image_is_named(tmp_path: Path, miniature: ModuleType) -> None:
    miniature.make_university1652(tmp_path, train=1, test=3, masked=True)
    listed = (tmp_path / "test/query_street_name.txt").read_text().split()
    (tmp_path / "test/workshop_query_street" / listed[1]).unlink()
    data = load(tmp_path)
    assert any("query_street_name.txt line 2" in sentence for sentence in data.missing)
    masked = next(test for test in data.tests if test.name.endswith("masked"))
    assert len(masked.query) == 2


def test_a_masked_test_without_its_list_is_told(tmp_path: Path, miniature: ModuleType) -> None:
    miniature.make_university1652(tmp_path, train=1, test=3, masked=True)
    (tmp_path / "test/query_street_name.txt").unlink()
    data = load(tmp_path)
    assert any("query_street_name.txt" in sentence for sentence in data.missing)
    assert not any(test.name.endswith("masked") for test in data.tests)


def test_a_class_without_images_is_named(root: Path) -> None:
    for image in (root / "train/street/0002").iterdir():
        image.unlink()
    data = load(root)
    assert data.missing == (f"class without images: {root / 'train/street/0002'}",)
    assert data.train is not None
    assert set(data.train.views["street"].labels.tolist()) == {1, 3, 4}


def test_a_building_without_satellite_image_is_named_and_not_paired(root: Path) -> None:
    shutil.rmtree(root / "train/satellite/0003")
    data = load(root)
    assert data.missing == ("class without satellite image: 3",)
    assert data.train is not None
    paired = data.train.views["drone"].labels[data.train.pairs[:, 0]]
    assert set(paired.tolist()) == {1, 2, 4}
    np.testing.assert_array_equal(
        data.train.views["satellite"].labels[data.train.pairs[:, 1]], paired
    )


def test_a_root_without_street_still_trains_two_views(root: Path) -> None:
    shutil.rmtree(root / "train/street")
    shutil.rmtree(root / "train/google")
    data = load(root)
    assert data.train is not None
    assert set(data.train.views) == {"drone", "satellite"}
    assert data.missing == (f"missing folder: {root / 'train/street'}",)


def test_files_that_are_no_images_do_not_count(root: Path) -> None:
    before = load(root)
    (root / "train/drone/0001/._image-01.jpeg").write_text("resource fork")
    (root / "train/drone/0001/Thumbs.db").write_text("thumbnails")
    (root / "train/drone/readme").mkdir()
    after = load(root)
    assert before.train is not None
    assert after.train is not None
    assert after.train.views["drone"].paths == before.train.views["drone"].paths


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ROOT is the folder that holds train/"):
        load(tmp_path)
