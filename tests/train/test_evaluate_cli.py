import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from skyfix.runtime.cli import main
from skyfix.runtime.errors import InputError
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.config import DatasetConfig, DatasetRun, LossConfig
from skyfix.train.evaluate import Evaluation
from skyfix.train.evaluate_choices import flips, options_from_words, resize_of, vigor_k_of
from skyfix.train.evaluate_report import report_scores
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
    NetworkConfig,
    University1652Config,
)

TINY = GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=16)
SQUARE = (32, 32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def record_of(network: NetworkConfig, input_px: InputSizes | None = None) -> CheckpointRecord:
    return CheckpointRecord(SCHEMA, network, input_px or {"drone": SQUARE, "satellite": SQUARE})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with weights drawn at random."""
    torch.manual_seed(0)
    record = record_of(TINY)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    weights = build_network(record.network, record.input_px).state_dict()
    save_checkpoint(folder, record, weights, {})
    return folder


@pytest.fixture(scope="session")
def university(miniature: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("university1652")
    miniature.make_university1652(root, train=1, test=10, drones=2, distractors=4, masked=True)
    return root


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words, "--workers", "0", "--device", "cpu"])
    return int(stop.value.code or 0)


def of_university(checkpoint: Path, root: Path, *words: str) -> int:
    return run(str(checkpoint), "--dataset", "university1652", "--root", str(root), *words)


def test_scores_are_those_of_the_kept_descriptors(
    checkpoint: Path, university: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--test", "drone->satellite", "--json", "--descriptors", str(tmp_path))
    assert of_university(checkpoint, university, *words) == 0
    (report,) = json.loads(capsys.readouterr().out)["tests"]
    query, gallery = (np.load(next(tmp_path.glob(f"*{part}.npy"))) for part in ("query", "gallery"))
    assert (report["queries"], report["gallery"]) == (len(query), len(gallery))
    folders = sorted((university / "test" / "query_drone").iterdir())
    gallery_folders = sorted((university / "test" / "gallery_satellite").iterdir())
    labels = [folder.name for folder in folders for _ in folder.iterdir()]
    first = [gallery_folders[item].name for item in np.argmax(query @ gallery.T, axis=1)]
    right = sum(a == b for a, b in zip(labels, first, strict=True))
    assert report["scores"]["R@1"] == pytest.approx(100 * right / len(labels))
    assert {"system": "MFRGN", "scores": {"R@1": 94.33, "AP": 95.24}}.items() <= next(
        row for row in report["published"] if row["system"] == "MFRGN"
    ).items()


def test_the_table_shows_the_published_numbers_beside_the_users(
    checkpoint: Path, miniature: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvusa(tmp_path, train=2, test=4)
    assert run(str(checkpoint), "--dataset", "cvusa", "--root", str(tmp_path)) == 0
    table = capsys.readouterr().out
    assert "cvusa, val: 4 queries, 4 in the gallery" in table
    assert "here" in table
    assert "98.67" in table


def test_a_challenge_is_answered_in_the_order_of_its_list(
    checkpoint: Path, university: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.txt"
    words = ("--test", "drone->satellite 160k", "--answer", str(answer))
    assert of_university(checkpoint, university, *words) == 0
    assert "upload" in capsys.readouterr().err
    listed = next(university.rglob("query_drone_name.txt")).read_text().split()
    lines = answer.read_text().splitlines()
    assert len(lines) == len(listed)
    gallery = {path.stem for path in university.rglob("gallery_satellite_160k/**/*.*")}
    assert all(len(set(line.split("\t")) & gallery) == 10 for line in lines)
    assert zipfile.is_zipfile(tmp_path / "answer.zip")


def test_tests_without_truth_are_left_out_unless_something_is_kept(
    checkpoint: Path, university: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_university(checkpoint, university, "--test", "drone->satellite 160k") == 2
    assert "--answer FILE" in capsys.readouterr().err


def test_an_answer_to_several_tests_asks_which(
    checkpoint: Path, university: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_university(checkpoint, university, "--answer", str(tmp_path / "a.txt")) == 2
    assert "name it with --test" in capsys.readouterr().err


def test_a_test_that_is_not_there_lists_those_that_are(
    checkpoint: Path, university: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_university(checkpoint, university, "--test", "val") == 2
    assert "no test 'val' here; there are: 'drone->satellite'" in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_ends_with_3(
    university: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_university(tmp_path, university) == 3
    assert "no checkpoint" in capsys.readouterr().err


def test_many_ties_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    collapsed = Evaluation("val", 10, 10, {"R@1": 100.0}, 0, 90.0, ["a.jpg"])
    report_scores("cvusa", "runs/x", [collapsed], as_json=False)
    told = capsys.readouterr().err
    assert "90.0 % of the queries ties" in told
    assert "left out: a.jpg" in told


def test_options_are_words_and_truths() -> None:
    assert options_from_words(["area=cross", "polar=true"]) == {"area": "cross", "polar": True}
    with pytest.raises(InputError, match="KEY=VALUE"):
        options_from_words(["area"])


def test_images_are_read_as_the_published_system_does() -> None:
    assert resize_of(record_of(MFRGNConfig())) == "area"
    university = record_of(University1652Config())
    assert (resize_of(university), flips(university)) == ("bicubic", True)
    assert not flips(record_of(TINY))


def test_vigor_is_counted_as_the_networks_own_publication_does() -> None:
    assert vigor_k_of(record_of(TINY)) == "geodtr"
    assert vigor_k_of(record_of(MFRGNConfig())) == "sample4geo"


def test_a_run_on_a_data_set_says_itself_how_images_are_read() -> None:
    data = DatasetConfig("university1652", {"satellite": SQUARE}, resize="area", flip_test=False)
    config = DatasetRun(
        name="r", model=University1652Config(), loss=LossConfig(), licence="", data=data, epochs=1
    )
    record = CheckpointRecord(SCHEMA, config.model, config.input_px, config)
    assert (resize_of(record), flips(record)) == ("area", False)
