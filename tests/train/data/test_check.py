import shutil
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.data.check import Checked, Part, Report, check


def reported(capsys: pytest.CaptureFixture[str]) -> Report:
    return msgspec.json.decode(capsys.readouterr().out, type=Report)


def part_of(checked: Checked, split: str, part: str) -> Part:
    (found,) = (row for row in checked.parts if (row.split, row.part) == (split, part))
    return found


def test_counts_stand_beside_the_published_ones(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_university1652(tmp_path, train=4, test=3, drones=3)
    check("university1652", tmp_path, json_output=True)
    (checked,) = reported(capsys).checked
    drone = part_of(checked, "test", "gallery drone")
    assert (drone.images, drone.images_published) == (15, 51_355)
    assert (drone.places, drone.places_published) == (5, 951)
    assert part_of(checked, "train", "pairs").images == 12
    assert part_of(checked, "train", "google").images_published is None
    assert len(checked.parts) == 5 + 6  # every folder once, though tests share them


def test_the_table_says_it_in_words(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvusa(tmp_path, train=20, test=3)
    shutil.rmtree(tmp_path / "polarmap")
    for number in range(1, 9):
        (tmp_path / f"bingmap/19/{number:07d}.jpg").unlink()
    check("cvusa", tmp_path)
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["train", "pairs", "12", "35,532"] in rows
    assert "missing: 8" in shown
    assert "train-19zl.csv line 5: missing image" in shown
    assert "line 6" not in shown
    assert "and 3 more" in shown


def test_each_protocol_of_vigor_is_checked_and_corrected_labels_where_they_are(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_vigor(tmp_path, train=2, test=1)
    miniature.make_vigor(tmp_path, train=1, test=1, corrected=True)
    check("vigor", tmp_path, json_output=True)
    checked = {item.name: item for item in reported(capsys).checked}
    assert set(checked) == {
        f"vigor, {area} area{labels}"
        for area in ("same", "cross")
        for labels in ("", ", corrected labels")
    }
    same = part_of(checked["vigor, same area"], "train", "pairs")
    corrected = part_of(checked["vigor, same area, corrected labels"], "train", "pairs")
    assert (same.images, corrected.images) == (8, 4)
    assert same.images_published == corrected.images_published == 52_609


def test_repeated_images_and_training_pairs_are_counted(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvusa(tmp_path, train=6, test=3, repeats=2)
    shutil.copy(tmp_path / "bingmap/19/0000001.jpg", tmp_path / "bingmap/19/0000002.jpg")
    check("cvusa", tmp_path, duplicates=True, json_output=True)
    report = reported(capsys)
    plain = report.checked[0]
    assert plain.leaked == 2
    assert part_of(plain, "train", "aerial").repeated == 1
    assert part_of(plain, "train", "ground").repeated == 0
    assert report.read == 3 * 9  # the polar images too
    assert report.broken == []
    check("cvusa", tmp_path, duplicates=True)
    assert "2 training pairs repeat" in capsys.readouterr().out


def test_polar_images_are_checked_where_they_are(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvact(tmp_path, train=2, test=1)
    check("cvact", tmp_path, json_output=True)
    assert [item.name for item in reported(capsys).checked] == ["cvact", "cvact, polar"]


def test_one_broken_image_in_many_is_named(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_university1652(tmp_path, train=3, test=3, drones=12)
    path = tmp_path / "train/drone/0002/image-05.jpeg"
    path.write_bytes(path.read_bytes()[:-300])
    check("university1652", tmp_path, read=True, json_output=True)
    report = reported(capsys)
    assert report.read is not None
    assert report.read > 100
    assert len(report.broken) == 1
    assert str(path) in report.broken[0]


def test_many_broken_images_end_with_an_error_after_the_report(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvusa(tmp_path, train=3, test=1)
    (tmp_path / "streetview/panos/0000001.jpg").write_bytes(b"<html>")
    with pytest.raises(InputError, match="1 of 12 images are broken"):
        check("cvusa", tmp_path, read=True)
    assert "streetview/panos/0000001.jpg cannot be read" in capsys.readouterr().out


def test_a_root_of_another_data_set_is_an_input_error(
    tmp_path: Path, miniature: ModuleType
) -> None:
    miniature.make_cvusa(tmp_path, train=2, test=1)
    with pytest.raises(InputError, match="no panorama of VIGOR"):
        check("vigor", tmp_path)
    with pytest.raises(InputError, match="no data set is called"):
        check("imagenet", tmp_path)


def test_a_protocol_that_cannot_be_used_is_told_beside_one_that_can(
    tmp_path: Path, miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_vigor(tmp_path, train=2, test=1)
    labels = tmp_path / "splits/Seattle/pano_label_balanced.txt"
    labels.write_text(labels.read_text() + "half a line\n")
    check("vigor", tmp_path, json_output=True)
    report = reported(capsys)
    assert [item.name for item in report.checked] == ["vigor, same area"]
    (sentence,) = report.unusable
    assert "pano_label_balanced.txt line 4: 3 columns where 13 belong" in sentence
