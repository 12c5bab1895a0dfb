from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from skyfix.export.onnx import (
    GRAPH_NAME,
    model_from_checkpoint,
    network_from_checkpoint,
)
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.errors import InputError
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, load_checkpoint, save_checkpoint
from skyfix.train.config import DataConfig, LossConfig, ModelConfig, TrainConfig, ViewConfig
from skyfix.train.models import build_model

CONFIG = TrainConfig(
    name="tiny",
    licence="Apache-2.0",
    model=ModelConfig("geodtr_plus_drone", layer_scale=0.1, layouts=2, projection=24),
    view=ViewConfig(input_px=32, gsd_m=2.0),
    data=DataConfig(folders={"a": 1.0}, licences={"a": "CC0"}, procedural=0.5),
    loss=LossConfig(info_nce=1.0),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    weights = build_model(CONFIG.model, CONFIG.view.input_px).state_dict()
    save_checkpoint(folder, CheckpointRecord(SCHEMA, CONFIG, 9, 0.25, "CPU"), weights, {})
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    _, difference = model_from_checkpoint(checkpoint, folder)
    assert difference < 1e-5
    return folder


def test_the_card_says_what_the_checkpoint_was(exported: Path) -> None:
    card = load_card(exported)
    assert (card.name, card.input_px, card.gsd_m, card.dimension) == ("tiny", 32, 2.0, 24)
    assert card.graphs["query"] == card.graphs["map"]
    assert (card.training.steps, card.training.hours) == (9, 0.25)
    assert card.training.imagery == {"a": "CC0", "procedural": "Apache-2.0 (drawn by skyfix)"}
    assert (card.mean, card.std) == (None, None)


def test_onnxruntime_agrees_with_torch_at_any_batch(checkpoint: Path, exported: Path) -> None:
    network = network_from_checkpoint(load_checkpoint(checkpoint))
    patches = np.random.default_rng(3).standard_normal((7, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(patches)).numpy()
    actual = load_model(exported).map.engine.infer(patches)
    assert actual == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(actual, axis=1) == pytest.approx(np.ones(7), abs=1e-5)


def test_the_graph_is_one_valid_file_with_a_dynamic_batch(exported: Path) -> None:
    model = onnx.load(exported / GRAPH_NAME, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    batch, *rest = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [side.dim_value for side in rest] == [3, 32, 32]


def test_an_existing_folder_is_not_overwritten(checkpoint: Path, exported: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        model_from_checkpoint(checkpoint, exported)


def test_writing_twice_gives_the_same_model_id(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    card, _ = model_from_checkpoint(checkpoint, tmp_path / "again")
    assert card.model_id == load_card(exported).model_id
