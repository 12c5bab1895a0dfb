"""Each published system learns the miniature data by heart, from scratch, in seconds.

    12 places -> a run of `train` -> its checkpoint -> descriptors in eval mode -> R@1 of the pairs

Networks of the published shape, narrow trunks where the system has a choice, small images, no
augmentation. An epoch shows every place many times, so that a run writes one checkpoint.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from skyfix.train.checkpoint import load_network
from skyfix.train.config import DatasetConfig, DatasetRun, LossConfig, OptimiserConfig
from skyfix.train.data import sets  # TestSet by name would be collected as a test
from skyfix.train.data.dataset import load_dataset
from skyfix.train.descriptors import Describer
from skyfix.train.loop import Run, train
from skyfix.train.mining import score
from skyfix.train.models.config import (
    GeoDTRConfig,
    GeoDTRPlusConfig,
    InputSizes,
    MFRGNConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)
from skyfix.train.models.network import Network
from skyfix.train.supervised import DatasetLesson

PLACES = 12  # chance is 8 %
CHANCE_AT_MOST, LEARNT_AT_LEAST = 40.0, 90.0  # R@1 in percent
CPU = torch.device("cpu")
SMALL: InputSizes = {"ground": (32, 64), "aerial": (48, 48)}
LARGE: InputSizes = {"ground": (32, 128), "aerial": (64, 64)}
SQUARES: InputSizes = dict.fromkeys(("satellite", "street", "drone"), (32, 32))
TRIPLET, INFO_NCE = LossConfig(triplet=1.0, counterfactual=1.0), LossConfig(info_nce=1.0)


def pair_run(model: NetworkConfig, input_px: InputSizes, loss: LossConfig) -> DatasetRun:
    """Pairs of panoramas and aerial images."""
    return run_of(model, DatasetConfig("cvusa", input_px, sampling="unique"), loss)


def run_of(model: NetworkConfig, data: DatasetConfig, loss: LossConfig) -> DatasetRun:
    """An epoch that shows all places in every batch."""
    return DatasetRun(
        name="short",
        licence="none",
        model=model,
        data=data,
        loss=loss,
        optimiser=OptimiserConfig(lr=1e-3, clip_norm=1.0),
        precision="fp32",
        batch=PLACES,
        epochs=1,
        workers=0,
    )


GEODTR = pair_run(GeoDTRConfig(dropout=0.0), SMALL, TRIPLET)
GEODTR_PLUS = pair_run(GeoDTRPlusConfig(dropout=0.0), LARGE, TRIPLET)
MFRGN = pair_run(MFRGNConfig("convnext_atto", layer_scale=0.1, dropout=0.0), LARGE, INFO_NCE)
SAMPLE4GEO = pair_run(Sample4GeoConfig("convnext_atto", layer_scale=0.1), LARGE, INFO_NCE)
UNIVERSITY = run_of(
    University1652Config(classes=PLACES, stride=1, dropout=0.0),
    DatasetConfig("university1652", SQUARES, sampling="views"),
    LossConfig(instance=1.0),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums on every machine
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("config", "query", "steps"),
    [
        pytest.param(GEODTR, "ground", 32, id="geodtr"),  # batch norm's averages lag behind
        pytest.param(GEODTR_PLUS, "ground", 15, id="geodtr_plus"),
        pytest.param(MFRGN, "ground", 12, id="mfrgn"),
        # a drone's image shares its trunk with the satellite's: fresh weights match half of them
        pytest.param(UNIVERSITY, "street", 40, id="university1652"),
        pytest.param(SAMPLE4GEO, "ground", 12, id="sample4geo"),
    ],
)
def test_a_short_run_learns_its_training_pairs(
    config: DatasetRun, query: str, steps: int, miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.MAKERS[config.data.name](tmp_path / "data", train=PLACES, test=2)
    data = load_dataset(config.data.name, tmp_path / "data")
    assert data.train is not None
    task = task_of(data.train, query)
    lesson = DatasetLesson(config, repeated(data, steps))
    fresh = Run(config, lesson, tmp_path, CPU).network
    assert recall_of(fresh, task, tmp_path) <= CHANCE_AT_MOST
    train(config, lesson, tmp_path / "run", CPU, lambda _: None)
    assert recall_of(load_network(tmp_path / "run"), task, tmp_path) > LEARNT_AT_LEAST


@pytest.mark.parametrize("config", [GEODTR, GEODTR_PLUS, MFRGN, UNIVERSITY, SAMPLE4GEO])
def test_every_parameter_gets_a_gradient_as_distributed_training_demands(
    config: DatasetRun, miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.MAKERS[config.data.name](tmp_path, train=PLACES, test=2)
    lesson = DatasetLesson(config, load_dataset(config.data.name, tmp_path))
    run = Run(config, lesson, tmp_path, CPU)
    run.advance(next(lesson.batches(0)))
    parameters = run.learner.named_parameters()
    assert [name for name, one in parameters if one.requires_grad and one.grad is None] == []


def repeated(data: sets.DataSet, times: int) -> sets.DataSet:
    """An epoch of the result is `times` epochs."""
    assert data.train is not None
    views = {view: tiled(images, times) for view, images in data.train.views.items()}
    pairs = np.tile(data.train.pairs, (times, 1))
    return replace(data, train=replace(data.train, views=views, pairs=pairs))


def tiled(images: sets.ImageSet, times: int) -> sets.ImageSet:
    labels = np.tile(images.labels, times)
    return replace(images, paths=images.paths * times, labels=labels, positions=None)


def task_of(pairs: sets.TrainSet, query: str) -> sets.TestSet:
    """To find each image of a view among the references that it was trained with."""
    return sets.TestSet("train", pairs.views[query], pairs.views[pairs.reference], "classes")


def recall_of(network: Network, task: sets.TestSet, folder: Path) -> float:
    """R@1 in percent, in eval mode."""
    return score(task, Describer(network, CPU, "bilinear", workers=0), folder)
