from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.data.vigor import load


@pytest.fixture
def root(tmp_path: Path, miniature: ModuleType) -> Path:
    miniature.make_vigor(tmp_path, train=4, test=2)
    return tmp_path


def test_same_area_trains_and_tests_in_all_four_cities(root: Path) -> None:
    data = load(root, area="same")
    assert data.train is not None
    assert len(data.train.pairs) == 4 * 4
    (test,) = data.tests
    assert (test.name, test.protocol, len(test.query)) == ("same area", "vigor", 4 * 2)
    assert len(test.gallery) == len(data.train.views["aerial"]) == 4 * 25


def test_cross_area_tests_in_cities_that_training_has_not_seen(root: Path) -> None:
    data = load(root, area="cross")
    assert data.train is not None
    (test,) = data.tests
    cities = [
        {path.parent.parent.name for path in images.paths}
        for images in (data.train.views["aerial"], test.gallery)
    ]
    assert cities == [{"NewYork", "Seattle"}, {"SanFrancisco", "Chicago"}]
    assert len(data.train.pairs) == 2 * 6  # all labels of a city
    assert len(test.query) == 2 * 6


def test_the_truth_is_the_positive_and_three_semi_positives_of_the_label_line(root: Path) -> None:
    (test,) = load(root, area="cross").tests
    lines = (root / "splits/SanFrancisco/pano_label_balanced.txt").read_text().splitlines()
    assert test.truth is not None
    for query, line in enumerate(lines):
        tokens = line.split()
        assert test.query.paths[query].name == tokens[0]
        names = [test.gallery.paths[index].name for index in test.truth[query]]
        assert names == [tokens[1], tokens[4], tokens[7], tokens[10]]


def test_training_pairs_join_a_panorama_with_its_positive_and_give_it_its_label(root: Path) -> None:
    train = load(root).train
    assert train is not None
    ground, aerial = train.views["ground"], train.views["aerial"]
    queries, references = train.pairs.T
    assert queries.tolist() == list(range(len(ground)))
    np.testing.assert_array_equal(ground.labels[queries], aerial.labels[references])
    assert len(set(aerial.labels.tolist())) == len(aerial)


def test_the_positive_is_the_nearest_of_the_four_by_the_positions_in_the_names(root: Path) -> None:
    (test,) = load(root).tests
    assert test.truth is not None
    assert test.query.positions is not None
    assert test.gallery.positions is not None
    lat_lon = test.gallery.positions[test.truth] - test.query.positions[:, None]  # (Q, 4, 2)
    share = np.abs(lat_lon / [0.0003280724526, 0.000433011403]).max(axis=-1)  # of half an image
    assert (share < 1).all()  # all four cover the place
    assert (share[:, 0] <= 0.5 + 1e-3).all()  # the positive in its central quarter
    assert (share[:, :1] <= share + 1e-3).all()


def test_deltas_of_the_miniature_say_where_the_panorama_stands(root: Path) -> None:
    (test,) = load(root).tests
    line = (root / "splits/NewYork/same_area_balanced_test.txt").read_text().split()
    assert test.truth is not None
    assert test.query.positions is not None
    assert test.gallery.positions is not None
    centre = test.gallery.positions[test.truth[0, 0]]
    lat = centre[0] - 0.0003280724526 * float(line[2]) / 320
    lon = centre[1] - 0.000433011403 * float(line[3]) / 320
    np.testing.assert_allclose([lat, lon], test.query.positions[0], atol=2e-6)


def test_the_other_convention_of_folders_gives_the_same_lists(
    tmp_path: Path, root: Path, miniature: ModuleType
) -> None:
    other = tmp_path / "other"
    miniature.make_vigor(other, train=4, test=2, convention="view")
    here, there = load(root), load(other)
    assert there.tests[0].query.paths[0].parent == other / "ground" / "NewYork"
    assert [p.name for p in here.tests[0].gallery.paths] == [
        p.name for p in there.tests[0].gallery.paths
    ]
    assert here.tests[0].truth is not None
    np.testing.assert_array_equal(here.tests[0].truth, there.tests[0].truth)


def test_corrected_labels_are_lists_of_another_folder_and_name(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_vigor(tmp_path, train=3, test=1, corrected=True)
    assert len(load(tmp_path, corrected=True).tests[0].query) == 4
    with pytest.raises(InputError, match="ROOT is the folder that holds splits/"):
        load(tmp_path)


def test_satellites_may_be_jpg_where_the_lists_say_png(root: Path) -> None:
    for path in (root / "NewYork/satellite").glob("*.png"):
        path.rename(path.with_name(path.name.removesuffix(".png") + ".jpg"))
    data = load(root)
    assert data.missing == ()
    assert len(data.tests[0].gallery) == 100


def test_a_label_line_with_a_missing_satellite_is_named_and_skipped(root: Path) -> None:
    labels = root / "splits/Chicago/same_area_balanced_test.txt"
    name = labels.read_text().splitlines()[1].split()[7]
    (root / "Chicago/satellite" / name).unlink()
    data = load(root)
    assert len(data.tests[0].gallery) == 99
    assert any(
        "satellite_list.txt line" in sentence and name in sentence for sentence in data.missing
    )
    assert f"{labels} line 2: missing satellite {name}" in data.missing
    assert data.tests[0].truth is not None
    assert (data.tests[0].truth >= 0).all()


def test_a_missing_panorama_is_named(root: Path) -> None:
    labels = root / "splits/Seattle/same_area_balanced_train.txt"
    name = labels.read_text().split()[0]
    (root / "Seattle/panorama" / name).unlink()
    data = load(root)
    assert data.missing == (f"{labels} line 1: missing panorama {name}",)
    assert data.train is not None
    assert len(data.train.pairs) == 15


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("column", r"line 3: 12 columns where 13 belong"),
        ("delta", r"line 3: column 6 is no number"),
        ("name", r"line 3: no position in the name"),
    ],
)
def test_a_wrong_label_line_is_refused_with_its_number(
    root: Path, fault: str, message: str
) -> None:
    labels = root / "splits/Seattle/same_area_balanced_train.txt"
    lines = labels.read_text().splitlines()
    tokens = lines[2].split()
    if fault == "column":
        tokens.pop()
    elif fault == "delta":
        tokens[5] = "far"
    else:
        path = root / "Seattle/panorama" / tokens[0]
        tokens[0] = "somewhere.jpg"
        path.rename(path.with_name(tokens[0]))
    lines[2] = " ".join(tokens)
    labels.write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        load(root)


def test_an_area_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="'same' and 'cross'"):
        load(root, area="some")  # type: ignore[arg-type]  # as a YAML file may say it
