import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from skyfix.export import onnx as exporter
from skyfix.export.branches import SHARED_GRAPH, branches_of, flight_px
from skyfix.export.onnx import model_from_checkpoint
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import ModelCard, PictureCard, load_card
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, load_network, save_checkpoint
from skyfix.train.config import ImageryConfig, ImageryRun, LossConfig, ViewConfig
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)

RUN = ImageryRun(
    name="tiny",
    licence="Apache-2.0",
    model=GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=24),
    view=ViewConfig(input_px=32, gsd_m=2.0),
    data=ImageryConfig(folders={"a": 1.0}, licences={"a": "CC0"}, procedural=0.5),
    loss=LossConfig(info_nce=1.0),
)
PAIR: InputSizes = {"ground": (64, 128), "aerial": (64, 64)}


def squares(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


def written(folder: Path, config: NetworkConfig, input_px: InputSizes) -> Path:
    """A checkpoint of fresh weights, as imported ones are: of no run of ours."""
    torch.manual_seed(0)
    weights = build_network(config, input_px).state_dict()
    record = CheckpointRecord(SCHEMA, config, input_px, source="published.pth")
    save_checkpoint(folder, record, weights)
    return folder


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


def described(checkpoint: Path, view: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        encoded = load_network(checkpoint).encode(view, torch.from_numpy(images))
    return encoded.descriptor.numpy()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    weights = build_network(RUN.model, RUN.input_px).state_dict()
    record = CheckpointRecord(SCHEMA, RUN.model, RUN.input_px, RUN, step=9, hours=0.25)
    save_checkpoint(folder, record, weights)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    _, differences = model_from_checkpoint(checkpoint, folder)
    assert differences.keys() == {SHARED_GRAPH}
    assert differences[SHARED_GRAPH] < 1e-5
    return folder


def test_the_card_says_what_the_checkpoint_was(exported: Path) -> None:
    card = load_card(exported)
    assert (card.name, card.input_px, card.gsd_m, card.dimension) == ("tiny", 32, 2.0, 24)
    assert card.graphs == {"query": SHARED_GRAPH, "map": SHARED_GRAPH}
    assert card.architecture == "geodtr_plus_drone, convnext_atto"
    assert (card.training.steps, card.training.hours) == (9, 0.25)
    assert card.training.imagery == {"a": "CC0", "procedural": "Apache-2.0 (drawn by skyfix)"}
    assert (card.mean, card.std) == (None, None)


def test_onnxruntime_agrees_with_torch_at_any_batch(checkpoint: Path, exported: Path) -> None:
    patches = noise(7, 3, 32, 32)
    actual = load_model(exported).map.engine.infer(patches)
    assert actual == pytest.approx(described(checkpoint, "map", patches), abs=1e-5)
    assert np.linalg.norm(actual, axis=1) == pytest.approx(np.ones(7), abs=1e-5)


def test_the_graph_is_one_valid_file_with_a_dynamic_batch(exported: Path) -> None:
    model = onnx.load(exported / SHARED_GRAPH, load_external_data=False)
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


def test_a_run_that_knows_its_scale_takes_no_other(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained at 2 m/px"):
        model_from_checkpoint(checkpoint, tmp_path / "m", gsd_m=1.0)
    assert list(tmp_path.iterdir()) == []


def test_published_drone_weights_fly_at_the_scale_that_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "c", Sample4GeoConfig("convnext_atto"), squares(32))
    for missing in (None, 0.0, float("nan")):
        with pytest.raises(InputError, match=r"--gsd is needed.*do not say"):
            model_from_checkpoint(folder, tmp_path / "m", missing)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(folder), "-o", str(tmp_path / "m"), "--gsd", "0.6"])
    assert not stop.value.code
    card = load_model(tmp_path / "m").card
    assert (card.name, card.input_px, card.gsd_m) == ("m", 32, 0.6)
    assert card.mean == [0.485, 0.456, 0.406]
    assert card.std == [0.229, 0.224, 0.225]
    assert (card.licence, card.training.config) == ("not stated", "published.pth")


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (Sample4GeoConfig("convnext_atto"), PAIR),
        pytest.param(
            MFRGNConfig("convnext_atto", layer_scale=0.1),
            {"ground": (64, 256), "aerial": (128, 128)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            GeoDTRPlusConfig(),
            {"ground": (64, 128), "aerial": (64, 96)},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["sample4geo", "mfrgn", "geodtr_plus"],
)
def test_two_branches_become_two_graphs_that_the_runtime_refuses_to_fly(
    config: NetworkConfig, sizes: InputSizes, tmp_path: Path
) -> None:
    folder = written(tmp_path / "c", config, sizes)
    with pytest.raises(InputError, match="--gsd is for models that fly"):
        model_from_checkpoint(folder, tmp_path / "m", gsd_m=0.5)
    card, differences = model_from_checkpoint(folder, tmp_path / "m")
    assert isinstance(card, PictureCard)
    assert card.graphs == {"query": "query.onnx", "map": "map.onnx"}
    assert card.sizes_px == {"query": sizes["ground"], "map": sizes["aerial"]}
    assert differences.keys() == {"query.onnx", "map.onnx"}
    for file, view in (("query.onnx", "ground"), ("map.onnx", "aerial")):
        images = noise(3, 3, *sizes[view])
        actual = OnnxEngine(tmp_path / "m" / file, card).infer(images)
        assert actual == pytest.approx(described(folder, view, images), abs=1e-5)
    query = "{}x{}".format(*sizes["ground"])
    with pytest.raises(ModelError, match=f"query {query}, map.*neither make a tile pack"):
        load_model(tmp_path / "m")
    stored = json.loads((tmp_path / "m" / "model.json").read_text())
    assert stored["sizes_px"] == {"query": [*sizes["ground"]], "map": [*sizes["aerial"]]}


@pytest.mark.parametrize(
    ("config", "sizes", "files", "side_px"),
    [
        (MFRGNDroneConfig("convnext_atto"), squares(128), ["encoder.onnx"] * 2, 128),
        (Sample4GeoConfig("convnext_atto"), squares(32), ["encoder.onnx"] * 2, 32),
        (Sample4GeoConfig("convnext_atto"), PAIR, ["query.onnx", "map.onnx"], None),
        # one graph for both, and yet nothing that flies: the query is a panorama
        (
            Sample4GeoConfig("convnext_atto"),
            PAIR | {"ground": (64, 64)},
            ["encoder.onnx"] * 2,
            None,
        ),
        (GeoDTRPlusConfig(), PAIR, ["query.onnx", "map.onnx"], None),
        (University1652Config(classes=3, share=False), squares(32), ["query.onnx", "map.onnx"], 32),
    ],
    ids=["mfrgn_drone", "sample4geo", "pair", "square pair", "geodtr_plus", "unshared"],
)
def test_views_share_a_graph_where_they_compute_the_same(
    config: NetworkConfig, sizes: InputSizes, files: list[str], side_px: int | None
) -> None:
    torch.manual_seed(0)
    branches = branches_of(build_network(config, sizes).eval())
    assert [branch.file for branch in branches] == files
    assert flight_px(branches) == side_px


@pytest.mark.slow
def test_a_street_branch_is_written_and_no_flight_loads_it(tmp_path: Path) -> None:
    sizes = {**squares(32), "street": (32, 64)}
    folder = written(tmp_path / "c", University1652Config(classes=3), sizes)
    card, differences = model_from_checkpoint(folder, tmp_path / "m", gsd_m=0.6)
    assert isinstance(card, ModelCard)
    assert card.graphs["street"] == "street.onnx"
    assert differences.keys() == {SHARED_GRAPH, "street.onnx"}
    street = noise(2, 3, 32, 64)
    actual = OnnxEngine(tmp_path / "m" / "street.onnx", card).infer(street)
    assert actual == pytest.approx(described(folder, "street", street), abs=1e-5)
    model = load_model(tmp_path / "m")
    assert model.query.engine is model.map.engine


def test_a_graph_that_differs_from_torch_is_not_given_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: the graph is written after a bias moved by more than the limit."""
    folder = written(tmp_path / "c", Sample4GeoConfig("convnext_atto"), squares(32))
    write = exporter.write_graph

    def moved(network: torch.nn.Module, size_px: tuple[int, int], path: Path) -> None:
        bias = network.get_parameter("network.model.head.norm.bias")
        bias.data[0] += 0.1
        write(network, size_px, path)
        bias.data[0] -= 0.1

    monkeypatch.setattr(exporter, "write_graph", moved)
    with pytest.raises(ModelError, match=r"encoder\.onnx differ from torch's"):
        model_from_checkpoint(folder, tmp_path / "m", gsd_m=0.6)
    assert not (tmp_path / "m").exists()
