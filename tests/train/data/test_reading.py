from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skyfix.runtime.errors import InputError
from skyfix.train.config import DatasetConfig
from skyfix.train.data.dataset import load_dataset
from skyfix.train.data.images import read_image
from skyfix.train.data.plan import Planner
from skyfix.train.data.reading import MAX_REDRAWS, EpochReader
from skyfix.train.data.sets import TrainSet

CVUSA = DatasetConfig("cvusa", {"ground": (16, 64), "aerial": (32, 32)}, resize="area")
VIEWS = DatasetConfig(
    "university1652",
    {"satellite": (32, 32), "street": (24, 24), "drone": (32, 32)},
    sampling="views",
)


@pytest.fixture
def root(miniature: ModuleType, tmp_path: Path) -> Path:
    miniature.make_cvusa(tmp_path, train=8, test=2)
    return tmp_path


def training_part(name: str, root: Path) -> TrainSet:
    train = load_dataset(name, root).train
    assert train is not None
    return train


def reader_of(
    train: TrainSet, config: DatasetConfig, batch: int, first_step: int = 0
) -> EpochReader:
    planner = Planner(train, config, batch, seed=0)
    return EpochReader(planner, planner.epoch(0, None), first_step)


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_a_batch_holds_the_pixels_of_its_plan(root: Path) -> None:
    train = training_part("cvusa", root)
    planner = Planner(train, CVUSA, 4, seed=0)
    plan = planner.epoch(0, None)
    batch, broken = EpochReader(planner, plan, 30)[1]
    assert broken == []
    assert int(batch["step"]) == 31
    for column, view in enumerate(("ground", "aerial")):
        assert batch[view].dtype == torch.uint8
        for row, images in zip(plan[1][:, column], batch[view], strict=True):
            pixels = read_image(train.views[view].paths[row], CVUSA.input_px[view], resize="area")
            assert np.array_equal(images.permute(1, 2, 0).numpy(), pixels)


def test_only_the_rows_that_a_set_uses_are_read(root: Path) -> None:
    train = training_part("cvusa", root)
    ground = replace(train.views["ground"], rows=(10, 30))
    cut = replace(train, views=train.views | {"ground": ground})
    batch, _ = reader_of(cut, CVUSA, 8)[0]
    for number, images in zip(batch["class:ground"], batch["ground"], strict=True):
        pixels = read_image(ground.paths[number], (16, 64), (10, 30), "area")
        assert np.array_equal(images.permute(1, 2, 0).numpy(), pixels)


def test_class_numbers_are_dense_and_the_same_in_all_views(
    miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.make_university1652(tmp_path, train=6, test=2)
    train = training_part("university1652", tmp_path)
    reader = reader_of(train, VIEWS, 6)
    batch, _ = reader[0]
    assert sorted(batch["class:satellite"].tolist()) == list(range(6))
    planner = Planner(train, VIEWS, 6, seed=0)
    plan = planner.epoch(0, None)[0]
    for column, view in enumerate(planner.views):
        labels = train.views[view].labels[plan[:, column]]  # buildings are numbered from 1
        assert batch[f"class:{view}"].tolist() == (labels - 1).tolist()


def test_a_broken_file_gives_way_to_a_place_that_the_batch_does_not_show(root: Path) -> None:
    train = training_part("cvusa", root)
    bad = train.views["aerial"].paths[3]
    spoil(bad)
    met = 0
    for epoch in range(4):
        planner = Planner(train, CVUSA, 7, seed=epoch)
        batch, broken = EpochReader(planner, planner.epoch(0, None), 0)[0]
        met += len(broken)
        assert all(fault.path == bad and str(bad) in str(fault.error) for fault in broken)
        classes = batch["class:ground"].tolist()
        assert sorted(classes) == [0, 1, 2, 4, 5, 6, 7]
        assert batch["class:aerial"].tolist() == classes  # both views of the place were replaced
        assert batch["aerial"].shape == (7, 3, 32, 32)
    assert met


def test_what_replaces_a_broken_file_is_the_same_every_time(root: Path) -> None:
    train = training_part("cvusa", root)
    spoil(train.views["ground"].paths[0])
    reader = reader_of(train, CVUSA, 4)
    for index in range(2):
        first, again = reader[index][0], reader[index][0]
        assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_broken_file_of_a_view_drawn_alone_gives_way_too(
    miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.make_university1652(tmp_path, train=4, test=2)
    train = training_part("university1652", tmp_path)
    bad = train.views["satellite"].paths[2]
    spoil(bad)
    batch, broken = reader_of(train, VIEWS, 4)[0]
    assert {fault.path for fault in broken} == {bad}
    assert 2 not in batch["class:satellite"].tolist()
    assert batch["street"].shape == (4, 3, 24, 24)


def test_broken_files_are_named_through_worker_processes(root: Path) -> None:
    train = training_part("cvusa", root)
    bad = train.views["ground"].paths[5]
    spoil(bad)
    loader = DataLoader(reader_of(train, CVUSA, 4), batch_size=None, num_workers=1)
    faults = [fault for _, broken in loader for fault in broken]
    assert [fault.path for fault in faults] == [bad]
    assert str(bad) in str(faults[0].error)


def test_a_batch_that_needs_all_places_cannot_spare_one(root: Path) -> None:
    train = training_part("cvusa", root)
    spoil(train.views["ground"].paths[5])
    with pytest.raises(InputError, match="there is no other place"):
        reader_of(train, CVUSA, 8)[0]


def test_data_that_cannot_be_read_at_all_end_the_search(root: Path) -> None:
    train = training_part("cvusa", root)
    for path in train.views["ground"].paths:
        spoil(path)
    with pytest.raises(InputError, match=f"{MAX_REDRAWS} images in a row"):
        reader_of(train, CVUSA, 2)[0]
