import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from skyfix.calibration.layers import layers_of
from skyfix.calibration.table import (
    TABLE_SCHEMA,
    CalibrationTable,
    FramesRecord,
    GraphCalibration,
    LayerCalibration,
    Ranges,
)
from skyfix.export import onnx as exporter
from skyfix.export import operators
from skyfix.export.branches import SHARED_GRAPH
from skyfix.export.onnx import Plan, model_from_checkpoint
from skyfix.export.precision import FULL, HALF
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import ModelCard, PictureCard, load_card
from skyfix.runtime.engines.built import file_sha256
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import InputError, ModelError
from skyfix.runtime.files import write_json
from skyfix.train.checkpoint import (
    SCHEMA,
    CheckpointRecord,
    load_network,
    load_record,
    save_checkpoint,
)
from skyfix.train.config import ImageryConfig, ImageryRun, LossConfig, ViewConfig
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
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
    _, written = model_from_checkpoint(checkpoint, folder)
    assert written.keys() == {SHARED_GRAPH}
    assert written[SHARED_GRAPH].parity.difference < 1e-5
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
    actual = OnnxEngine(exported / SHARED_GRAPH, load_card(exported)).infer(patches)
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
    card, written_graphs = model_from_checkpoint(folder, tmp_path / "m")
    assert isinstance(card, PictureCard)
    assert card.graphs == {"query": "query.onnx", "map": "map.onnx"}
    assert card.sizes_px == {"query": sizes["ground"], "map": sizes["aerial"]}
    assert written_graphs.keys() == {"query.onnx", "map.onnx"}
    for file, view in (("query.onnx", "ground"), ("map.onnx", "aerial")):
        images = noise(3, 3, *sizes[view])
        actual = OnnxEngine(tmp_path / "m" / file, card).infer(images)
        assert actual == pytest.approx(described(folder, view, images), abs=1e-5)
    query = "{}x{}".format(*sizes["ground"])
    with pytest.raises(ModelError, match=f"query {query}, map.*neither make a tile pack"):
        load_model(tmp_path / "m")
    stored = json.loads((tmp_path / "m" / "model.json").read_text())
    assert stored["sizes_px"] == {"query": [*sizes["ground"]], "map": [*sizes["aerial"]]}


@pytest.mark.slow
def test_a_street_branch_is_written_and_no_flight_loads_it(tmp_path: Path) -> None:
    sizes = {**squares(32), "street": (32, 64)}
    folder = written(tmp_path / "c", University1652Config(classes=3), sizes)
    card, written_graphs = model_from_checkpoint(folder, tmp_path / "m", gsd_m=0.6)
    assert isinstance(card, ModelCard)
    assert card.graphs["street"] == "street.onnx"
    assert written_graphs.keys() == {SHARED_GRAPH, "street.onnx"}
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
    export = exporter.full_graph

    def moved(network: torch.nn.Module, size_px: tuple[int, int], opset: int) -> onnx.ModelProto:
        bias = network.get_parameter("network.model.head.norm.bias")
        bias.data[0] += 0.1
        graph = export(network, size_px, opset)
        bias.data[0] -= 0.1
        return graph

    monkeypatch.setattr(exporter, "full_graph", moved)
    with pytest.raises(ModelError, match=r"encoder\.onnx are not those of the source"):
        model_from_checkpoint(folder, tmp_path / "m", gsd_m=0.6)
    assert not (tmp_path / "m").exists()


@pytest.fixture
def quickly(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's exporter, which takes seconds, gives the graph that it gave for `exported`."""
    monkeypatch.setattr(exporter, "full_graph", lambda *_: onnx.load(exported / SHARED_GRAPH))


@pytest.mark.slow
def test_an_fp16_graph_that_overflows_is_not_given_its_name(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The fault: the stem's output is beyond 65504, which the norm behind it hides in fp32."""
    record, network = load_record(checkpoint), load_network(checkpoint)
    weights = network.state_dict()
    weights["backbone.stem.0.weight"] *= 3e5
    save_checkpoint(tmp_path / "c", record, weights)
    with pytest.raises(ModelError, match=r"encoder\.onnx are not those.*--precision fp32"):
        model_from_checkpoint(tmp_path / "c", tmp_path / "m", plan=Plan("fp16"))
    assert not (tmp_path / "m").exists()
    model_from_checkpoint(tmp_path / "c", tmp_path / "m")


@pytest.mark.usefixtures("quickly")
def test_an_operator_that_tensorrt_has_not_is_named_and_nothing_gets_its_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: TensorRT's list lacks Sigmoid."""
    lacking = {name: line for name, line in operators.table().items() if name != "Sigmoid"}
    monkeypatch.setattr(operators, "table", lambda: lacking)
    with pytest.raises(ModelError, match=r"has not all operators of encoder\.onnx: Sigmoid node_"):
        model_from_checkpoint(checkpoint, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("quickly")
def test_the_verb_writes_fp16_graphs_for_onnxruntime_and_for_tensorrt(
    checkpoint: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", str(checkpoint), "-o", str(tmp_path / "m"), "--precision", "fp16"])
    assert not stop.value.code
    assert "encoder.onnx, rounded as on a GPU: smallest cosine 1 - " in capsys.readouterr().out
    card = load_card(tmp_path / "m")
    assert card.precision == "fp16"
    patches = noise(3, 3, 32, 32)
    half = OnnxEngine(tmp_path / "m" / SHARED_GRAPH, card).infer(patches)
    cosines = (half * described(checkpoint, "map", patches)).sum(axis=1)
    assert cosines == pytest.approx(np.ones(3), abs=1e-4)
    sizes = [(folder / SHARED_GRAPH).stat().st_size for folder in (exported, tmp_path / "m")]
    assert sizes[1] < 0.6 * sizes[0]
    model = onnx.load(tmp_path / "m" / "encoder.trt.onnx")
    assert [value.name for value in model.graph.input] == ["picture", "valid"]
    assert norms_outside_fp32(model) == []


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("bf16"), "--precision takes fp32, fp16, int8, not bf16"),
        (Plan(opset=17), "--opset takes 18 to 20, not 17"),
        (Plan(opset=21), "--opset takes 18 to 20, not 21"),
        (Plan("int8"), "go together"),
        (Plan("fp16", calibration=Path("table.json")), "go together"),
        (Plan("int8", 18, calibration=Path("table.json")), "--opset 18: int8 layers.*need 19"),
        (Plan("int8", calibration=Path("table.json")), "table.json cannot be read"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(
    plan: Plan, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        model_from_checkpoint(checkpoint, tmp_path / "m", plan=plan)
    assert list(tmp_path.iterdir()) == []


def calibrated(folder: Path, table: Path) -> Path:
    """A table for the graph of a folder, of ranges that were observed on noise."""
    graph = onnx.load(folder / SHARED_GRAPH)
    layers = layers_of(graph)
    names = sorted({layer.input for layer in layers})
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    peaks = dict(zip(names, session.run(names, {"patch": noise(8, 3, 32, 32)}), strict=True))
    found = []
    for layer in layers:
        peak = float(np.abs(peaks[layer.input]).max())
        ranges = Ranges(peak, peak, peak, peak)
        found.append(LayerCalibration(
            output=layer.output, label=layer.label, kind=layer.kind, activation=layer.input,
            ranges=ranges, scale=peak / 127, kept=False,
        ))  # fmt: skip
    part = GraphCalibration(file_sha256(folder / SHARED_GRAPH), found)
    frames = FramesRecord(8, 8, "")
    write_json(table, CalibrationTable(
        schema=TABLE_SCHEMA, model_id=load_card(folder).model_id, method="minmax", frames=frames,
        graphs={SHARED_GRAPH: part},
    ))  # fmt: skip
    return table


@pytest.mark.usefixtures("quickly")
def test_int8_layers_stand_among_fp32_for_the_cpu_and_among_fp16_for_tensorrt(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    table = calibrated(exported, tmp_path / "table.json")
    card, written_graphs = model_from_checkpoint(
        checkpoint, tmp_path / "m", plan=Plan("int8", calibration=table)
    )
    assert (card.precision, load_card(tmp_path / "m").precision) == ("int8", "int8")
    found = written_graphs[SHARED_GRAPH]
    assert found.engine_parity is not None
    assert 0.99 <= min(found.parity.cosine, found.engine_parity.cosine) < 0.999999
    for file, kind in ((SHARED_GRAPH, FULL), ("encoder.trt.onnx", HALF)):
        graph = onnx.load(tmp_path / "m" / file)
        types = operators.element_types(graph)
        products = [node for node in graph.graph.node if node.op_type == "MatMul"]
        assert {types[node.input[1]] for node in products} == {kind}
        assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) > 5
        assert norms_outside_fp32(graph) == []


@pytest.mark.usefixtures("quickly")
def test_a_table_of_another_graph_is_refused(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    """The fault: one digit of the graph's hash in the table."""
    table = calibrated(exported, tmp_path / "table.json")
    digest = file_sha256(exported / SHARED_GRAPH)
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    table.write_text(table.read_text().replace(digest, other))
    with pytest.raises(ModelError, match=r"calibration table is not for encoder\.onnx of this"):
        model_from_checkpoint(checkpoint, tmp_path / "m", plan=Plan("int8", calibration=table))
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 19])
def test_older_opsets_hold_the_same_network_with_gelu_in_parts(
    opset: int, checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    model_from_checkpoint(checkpoint, tmp_path / "m", plan=Plan("fp16", opset))
    model = onnx.load(tmp_path / "m" / SHARED_GRAPH)
    assert operators.opset_of(model) == opset
    found = {node.op_type for node in model.graph.node}
    assert "LayerNormalization" in found
    assert "Erf" in found
    newest = {node.op_type for node in onnx.load(exported / SHARED_GRAPH).graph.node}
    assert "Gelu" in newest


def norms_outside_fp32(model: onnx.ModelProto) -> list[str]:
    """Names of the LayerNormalizations and softmaxes that compute in another type than fp32."""
    types = operators.element_types(model)
    exact = {"LayerNormalization", "InstanceNormalization", "Softmax", "ReduceL2"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in exact and types[node.input[0]] != FULL
    ]
