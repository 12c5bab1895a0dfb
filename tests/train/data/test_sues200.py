import shutil
from pathlib import Path
from types import ModuleType

import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.data.sues200 import TEST_PLACES, load


@pytest.fixture
def unpacked(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_sues200(tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.fixture
def split(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_sues200(tmp_path / "split", unpacked=False)
    return tmp_path / "split"


def test_the_official_split_has_80_queries_of_200_places() -> None:
    assert len(TEST_PLACES) == 80
    assert {8, 195} <= TEST_PLACES <= set(range(1, 201))
    assert not {1, 200} & TEST_PLACES


def test_training_takes_all_heights_and_each_satellite_image_once(unpacked: Path) -> None:
    train = load(unpacked).train
    assert train is not None
    assert train.views["satellite"].labels.tolist() == [1, 2, 3]
    assert len(train.views["drone"]) == 3 * 4 * 3
    for query, reference in train.pairs:
        drone, satellite = train.views["drone"], train.views["satellite"]
        assert drone.labels[query] == satellite.labels[reference]


def test_each_height_is_a_test_with_all_places_in_its_gallery(unpacked: Path) -> None:
    tests = {test.name: test for test in load(unpacked).tests}
    assert len(tests) == 8
    down = tests["drone->satellite 250 m"]
    assert {path.parent.name for path in down.query.paths} == {"250"}
    assert set(down.query.labels.tolist()) == {8, 12}
    assert down.gallery.labels.tolist() == [1, 2, 3, 8, 12]
    up = tests["satellite->drone 150 m"]
    assert (len(up.query), len(up.gallery)) == (2, 15)


def test_both_layouts_say_the_same(unpacked: Path, split: Path) -> None:
    for one, other in zip(load(unpacked).tests, load(split).tests, strict=True):
        assert one.name == other.name
        assert one.query.labels.tolist() == other.query.labels.tolist()
        assert one.gallery.labels.tolist() == other.gallery.labels.tolist()
    one_train, other_train = load(unpacked).train, load(split).train
    assert one_train is not None
    assert other_train is not None
    assert one_train.pairs.tolist() == other_train.pairs.tolist()


def test_one_height_alone_is_trained_and_tested(split: Path) -> None:
    data = load(split, heights="300")
    assert data.train is not None
    assert len(data.train.views["drone"]) == 9
    assert [test.name for test in data.tests] == [
        "drone->satellite 300 m",
        "satellite->drone 300 m",
    ]
    assert data.missing == ()


def test_places_that_are_not_there_are_named_once(unpacked: Path) -> None:
    shutil.rmtree(unpacked / "satellite-view/0002")
    data = load(unpacked)
    sentence = f"class without images: {unpacked / 'satellite-view/0002'}"
    assert data.missing.count(sentence) == 1
    assert data.train is not None
    assert set(data.train.views["drone"].labels[data.train.pairs[:, 0]].tolist()) == {1, 3}


@pytest.mark.parametrize("heights", ["150,175", "high", ""])
def test_heights_that_do_not_exist_are_refused(unpacked: Path, heights: str) -> None:
    with pytest.raises(InputError, match="150, 200, 250 and 300"):
        load(unpacked, heights=heights)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ROOT is the folder that holds drone_view_512/"):
        load(tmp_path)
