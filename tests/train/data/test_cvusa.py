import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from skyfix.runtime.errors import InputError
from skyfix.train.data.cvusa import load
from skyfix.train.data.images import read_image


@pytest.fixture
def root(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_cvusa(tmp_path, train=5, test=3)
    return tmp_path


def test_pairs_keep_the_order_of_the_lists(root: Path) -> None:
    data = load(root)
    assert data.train is not None
    ground, aerial = data.train.views["ground"], data.train.views["aerial"]
    assert [path.stem for path in aerial.paths] == [f"{n:07d}" for n in range(1, 6)]
    assert [path.stem for path in ground.paths] == [path.stem for path in aerial.paths]
    assert ground.labels.tolist() == aerial.labels.tolist() == [1, 2, 3, 4, 5]
    assert data.train.pairs.tolist() == [[n, n] for n in range(5)]
    (val,) = data.tests
    assert (val.name, val.protocol) == ("val", "pairs")
    assert val.query.labels.tolist() == [6, 7, 8]
    assert val.truth is not None
    assert val.truth.tolist() == [[0], [1], [2]]
    assert data.missing == ()


def test_positions_are_the_rows_of_all_csv_by_id(root: Path) -> None:
    rows = [line.split(",") for line in (root / "split_locations/all.csv").read_text().split()]
    (val,) = load(root).tests
    assert val.query.positions is not None
    assert val.gallery.positions is not None
    assert val.gallery.positions[0].tolist() == [float(rows[5][0]), float(rows[5][1])]
    assert val.query.positions[0].tolist() == [float(rows[5][2]), float(rows[5][3])]


def test_without_all_csv_there_are_no_positions(root: Path) -> None:
    shutil.rmtree(root / "split_locations")
    assert load(root).tests[0].query.positions is None


def test_a_list_of_positions_that_is_too_short_is_refused(root: Path) -> None:
    (root / "split_locations/all.csv").write_text("1,2,3,4,5\n1,2,3,4,5\n")
    with pytest.raises(InputError, match=r"has 2 lines, but the splits list the ids 6 to 8"):
        load(root)


def test_polar_takes_the_png_images_of_polarmap(root: Path) -> None:
    data = load(root, polar=True)
    assert data.train is not None
    assert data.train.views["aerial"].paths[0] == root / "polarmap/19/0000001.png"


def test_polar_images_that_were_not_made_are_asked_for(root: Path) -> None:
    shutil.rmtree(root / "polarmap")
    with pytest.raises(InputError, match="skyfix polar"):
        load(root, polar=True)


def test_a_line_whose_image_is_missing_is_named_and_skipped(root: Path) -> None:
    (root / "streetview/panos/0000002.jpg").unlink()
    data = load(root)
    assert data.train is not None
    assert data.train.views["aerial"].labels.tolist() == [1, 3, 4, 5]
    (sentence,) = data.missing
    assert "train-19zl.csv line 2" in sentence
    assert sentence.endswith("0000002.jpg")


def test_a_line_with_other_columns_is_refused_with_its_number(root: Path) -> None:
    split = root / "splits/val-19zl.csv"
    split.write_text(split.read_text() + "\nbingmap/19/0000008.jpg,streetview/panos/0000008.jpg\n")
    with pytest.raises(InputError, match=r"val-19zl.csv line 5: 2 columns where 3 belong"):
        load(root)


def test_one_list_is_enough(root: Path) -> None:
    (root / "splits/train-19zl.csv").unlink()
    data = load(root)
    assert data.train is None
    assert len(data.tests) == 1
    assert "train-19zl.csv" in data.missing[0]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ROOT is the folder that holds splits/"):
        load(tmp_path)


def test_training_pairs_that_repeat_test_pairs_are_dropped_and_the_test_is_kept(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_cvusa(tmp_path, train=6, test=3, repeats=2)
    data = load(tmp_path, drop_duplicates=True)
    assert data.train is not None
    assert data.train.views["ground"].labels.tolist() == [1, 2, 3, 4]
    assert len(data.tests[0].query) == 3
    kept = load(tmp_path).train
    assert kept is not None
    assert len(kept.pairs) == 6


def test_of_equal_training_pairs_the_first_is_kept_whatever_their_bytes(root: Path) -> None:
    for folder in ("bingmap/19", "streetview/panos"):
        first = root / folder / "0000001.jpg"
        with Image.open(first) as image:  # other bytes, same pixels
            image.save(root / folder / "0000003.jpg", "PNG")
        assert first.read_bytes() != (root / folder / "0000003.jpg").read_bytes()
    data = load(root, drop_duplicates=True)
    assert data.train is not None
    assert data.train.views["aerial"].labels.tolist() == [1, 2, 4, 5]


def test_pairs_that_share_one_image_alone_are_kept(root: Path) -> None:
    shutil.copy(root / "bingmap/19/0000001.jpg", root / "bingmap/19/0000003.jpg")
    data = load(root, drop_duplicates=True)
    assert data.train is not None
    assert len(data.train.pairs) == 5


@pytest.mark.real
def test_the_real_sample_in_the_layout_is_loaded(shared_data: Path, tmp_path: Path) -> None:
    sample = shared_data / "ground_pairs" / "data"
    lines = (sample / "data.csv").read_text().split()
    # the sample's images are called aerial0 ... as in its list; the layout calls them by number
    for number, line in enumerate(lines, start=1):
        aerial, ground, _ = line.split(",")
        for source, target in (
            (aerial, f"bingmap/19/{number:07d}.jpg"),
            (ground, f"streetview/panos/{number:07d}.jpg"),
        ):
            (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample / source, tmp_path / target)
    listed = [f"bingmap/19/{n:07d}.jpg,streetview/panos/{n:07d}.jpg,-" for n in range(1, 6)]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val-19zl.csv").write_text("\n".join(listed))
    (val,) = load(tmp_path).tests
    assert len(val.query) == 5
    assert read_image(val.query.paths[0], (140, 768)).shape == (140, 768, 3)
    assert read_image(val.gallery.paths[4], (384, 384)).std() > 10
    first, second = (read_image(path, (64, 64)) for path in val.gallery.paths[:2])
    assert not np.array_equal(first, second)
