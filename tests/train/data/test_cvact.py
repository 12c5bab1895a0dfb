from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from skyfix.runtime.errors import InputError
from skyfix.train.data.cvact import GROUND_ROWS, load, read_index
from skyfix.train.data.images import read_image


@pytest.fixture
def root(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_cvact(tmp_path, train=5, test=3)
    return tmp_path


def test_numbers_of_the_index_count_from_one_and_stand_in_the_second_field(root: Path) -> None:
    index = read_index(root / "ACT_data.mat")
    assert index.train.tolist() == [0, 1, 2, 3, 4]
    assert index.val.tolist() == [5, 6, 7]
    assert index.ids[5] == "pano000000000000000005"
    assert index.utm_m[1].tolist() == [690_060, 6_090_002]


def test_pairs_and_positions_follow_the_index(root: Path) -> None:
    data = load(root)
    assert data.train is not None
    ground, aerial = data.train.views["ground"], data.train.views["aerial"]
    assert [p.name for p in ground.paths[:1]] == ["pano000000000000000000_grdView.jpg"]
    assert [p.name for p in aerial.paths[:1]] == ["pano000000000000000000_satView_polish.jpg"]
    assert ground.metric == "metres"
    assert ground.positions is not None
    assert ground.positions[2].tolist() == [690_090, 6_090_003]
    val, test = data.tests
    assert (val.name, len(val.query), test.name, len(test.query)) == ("val", 3, "test", 4)
    assert val.query.labels.tolist() == [5, 6, 7]
    assert val.truth is not None
    assert val.truth.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("folder", ["ANU_data_small", "ANU_data_test", "ANU_data_test_ori"])
def test_validation_images_are_found_in_any_folder(
    tmp_path: Path, miniature: ModuleType, folder: str
) -> None:
    other = folder if folder != "ANU_data_small" else "ANU_data_test_ori"
    miniature.make_cvact(tmp_path, train=2, test=3, val_folder=folder, test_folder=other)
    val = load(tmp_path).tests[0]
    assert [path.parent.parent.name for path in val.query.paths] == [folder] * 3


def test_the_test_set_is_every_id_with_both_images_by_name(root: Path) -> None:
    base = root / "ANU_data_test"
    (base / "streetview/pano000000000000000009_grdView.jpg").unlink()
    for kind, end in (("streetview", "grdView"), ("satview_polish", "satView_polish")):
        known = base / kind / f"pano000000000000000008_{end}.jpg"
        (base / kind / f"Zunlisted_{end}.jpg").write_bytes(known.read_bytes())
    test = load(root).tests[1]
    names = [path.name.removesuffix("_grdView.jpg") for path in test.query.paths]
    known_ids = [f"pano{number:018d}" for number in (8, 10, 11)]
    assert names == ["Zunlisted", *known_ids]
    assert len(set(test.query.labels.tolist())) == 4
    assert test.query.positions is None  # one is unknown


def test_ids_whose_images_are_missing_are_skipped_and_named(root: Path) -> None:
    (root / "ANU_data_small/satview_polish/pano000000000000000001_satView_polish.jpg").unlink()
    data = load(root)
    assert data.train is not None
    assert data.train.views["ground"].labels.tolist() == [0, 2, 3, 4]
    (sentence,) = data.missing
    assert "pano000000000000000001_satView_polish.jpg" in sentence


def test_polar_and_processed_images_are_other_folders(root: Path) -> None:
    data = load(root, polar=True, processed=True)
    assert data.train is not None
    ground, aerial = (data.train.views[view].paths[0] for view in ("ground", "aerial"))
    assert (ground.parent.name, ground.suffix) == ("streetview_processed", ".png")
    assert (aerial.parent.name, aerial.suffix) == ("polarmap", ".png")


def test_the_crop_keeps_rows_208_to_623_of_the_panorama(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_cvact(tmp_path, train=1, test=0, panorama_px=(832, 64))
    train = load(tmp_path, crop=True).train
    assert train is not None
    ground = train.views["ground"]
    assert ground.rows == GROUND_ROWS
    assert train.views["aerial"].rows is None
    whole = read_image(ground.paths[0], (832, 64))
    np.testing.assert_array_equal(
        read_image(ground.paths[0], (416, 64), ground.rows), whole[208:624]
    )
    with pytest.raises(InputError, match="cut already"):
        load(tmp_path, crop=True, processed=True)


@pytest.mark.parametrize("fault", ["absent", "text", "key", "utm", "beyond"])
def test_an_index_that_is_none_is_refused(root: Path, fault: str) -> None:
    path = root / "ACT_data.mat"
    content = {key: value for key, value in loadmat(path).items() if not key.startswith("_")}
    if fault == "key":
        del content["valSet"]
    elif fault == "utm":
        content["utm"] = content["utm"][:-1]
    elif fault == "beyond":
        content["panoIds"], content["utm"] = content["panoIds"][:-6], content["utm"][:-6]
    if fault == "absent":
        path.unlink()
    elif fault == "text":
        path.write_text("not found")
    else:
        savemat(path, content)
    with pytest.raises(InputError, match=r"ACT_data\.mat"):
        load(root)


def test_another_folder_is_refused(tmp_path: Path, root: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ACT_data.mat").write_bytes((root / "ACT_data.mat").read_bytes())
    with pytest.raises(InputError, match=r"ROOT is the folder that holds ACT_data\.mat"):
        load(elsewhere)
