"""The shipped graph is the example; what exporters may do to it is done by hand, one at a time."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skyfix.runtime.encoder import SHIPPED_MODELS
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import ModelError
from skyfix.train.config import config_from_yaml
from skyfix.train.from_graph import fill_from_graph, modules_in_use_order
from skyfix.train.graph_layers import PREFIX, layers_from_graph
from skyfix.train.models.build import build_network
from skyfix.train.models.network import Network

NANO = SHIPPED_MODELS / "nano"
GRAPH = NANO / "encoder.onnx"
CARD = load_card(NANO)

Weights = dict[str, torch.Tensor]


def fresh() -> Network:
    run = config_from_yaml(NANO / "nano.yaml")
    torch.manual_seed(1)
    return build_network(run.model, run.input_px)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "encoder.onnx")
    return folder / "encoder.onnx"


def patches(count: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(99).standard_normal((count, 3, 128, 128), np.float32)
    drawn[0, :, 40:80] = 0
    return drawn


def descriptors(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return network.eval().encode("map", torch.from_numpy(images)).descriptor.numpy()


def with_other_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """All initializers numbered, as an exporter that keeps no names leaves them."""
    renamed = {one.name: f"c{number}" for number, one in enumerate(model.graph.initializer)}
    for one in model.graph.initializer:
        one.name = renamed[one.name]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return model


@pytest.fixture(scope="module")
def recovered() -> Network:
    network = fresh()
    fill_from_graph(network, GRAPH, CARD)
    return network


def test_the_shipped_model_comes_back_from_its_graph(recovered: Network) -> None:
    images = patches(3)
    expected = OnnxEngine(GRAPH, CARD).infer(images)
    assert descriptors(recovered, images) == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(expected, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_what_the_exporter_left_named_is_taken_bit_for_bit(recovered: Network) -> None:
    named = {
        one.name.removeprefix(PREFIX): numpy_helper.to_array(one)
        for one in onnx.load(GRAPH).graph.initializer
        if one.name.startswith(PREFIX)
    }
    state = recovered.state_dict()
    scaled = {key for key in named if key.endswith(("fc2.weight", "fc2.bias"))}
    kept = state.keys() & named.keys() - scaled
    assert len(kept) > 100
    for key in kept:
        assert np.array_equal(state[key].numpy(), named[key].reshape(state[key].shape)), key


def test_names_are_not_needed(recovered: Network, tmp_path: Path) -> None:
    network = fresh()
    fill_from_graph(network, saved(with_other_names(onnx.load(GRAPH)), tmp_path), CARD)
    state = network.state_dict()
    for key, value in recovered.state_dict().items():
        assert torch.equal(state[key], value), key


def test_layer_scales_make_both_maps_of_a_block_alike(recovered: Network) -> None:
    """Adam's steps are absolute: a map stored at a tenth of its size would learn too fast."""
    state = recovered.state_dict()
    for key in (key for key in state if key.endswith(".gamma")):
        assert len(state[key].unique()) == 1
        assert float(state[key][0]).hex().startswith("0x1.0000000000000p")  # rounds nothing
        first, second = (
            float(state[f"{key[:-5]}mlp.fc{number}.weight"].square().mean()) ** 0.5
            for number in (1, 2)
        )
        assert 0.7 < second / first < 1.5, key


def test_a_folded_batch_norm_is_the_identity_when_it_does_not_learn(recovered: Network) -> None:
    norm = recovered.get_submodule("proj_gl.0.1")  # the exporter folds it into proj_gl.0.0
    x = torch.randn(2, 128, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(norm.eval()(x), x, atol=1e-6)


def test_modules_are_listed_as_they_are_used() -> None:
    names = modules_in_use_order(fresh())
    order = [
        "backbone.backbone.stem.0",
        "backbone.backbone.stages.0.blocks.0.mlp.fc1",
        "backbone.backbone.stages.0.blocks.0.mlp.fc2",
        "embed.input_proj.0.0",
        "transformer_H.layers.0.query_proj",
        "transformer_L.layers.0.norm2",
        "projection",
    ]
    assert [name for name in names if name in order] == order


def test_two_layers_that_changed_places_are_found_out(tmp_path: Path) -> None:
    """The fault: two weights of one shape that have no names were swapped."""
    model = with_other_names(onnx.load(GRAPH))
    square = [node for node in model.graph.node if node.op_type == "Conv"][1:3]
    squares = [one for one in model.graph.initializer if list(one.dims) == [128, 128]]
    assert len(square) == 2
    node = next(n for n in model.graph.node if n.op_type == "MatMul" and squares[0].name in n.input)
    model.graph.node.remove(node)
    model.graph.node.append(node)  # later in the file than its order of use
    with pytest.raises(ModelError, match=r"differ by .*Start from the checkpoint folder"):
        fill_from_graph(fresh(), saved(model, tmp_path), CARD)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_rounded_model_is_refused_by_its_card(precision: str) -> None:
    card = msgspec.structs.replace(CARD, precision=precision)
    with pytest.raises(ModelError, match=rf"is {precision}.*Take the fp32 model"):
        fill_from_graph(fresh(), GRAPH, card)


def test_a_graph_with_rounded_weights_is_refused_whatever_its_card_says(tmp_path: Path) -> None:
    model = onnx.load(GRAPH)
    half = numpy_helper.from_array(np.zeros(3, np.float16), "half")
    model.graph.initializer.append(half)
    with pytest.raises(ModelError, match="rounded weights"):
        fill_from_graph(fresh(), saved(model, tmp_path), CARD)


def test_a_graph_of_another_network_is_refused_by_the_layer_that_lacks() -> None:
    run = config_from_yaml(NANO / "nano.yaml")
    wider = msgspec.structs.replace(run.model, feedforward=256)
    with pytest.raises(ModelError, match=r"no weights of shape \(256, 128\) for transformer_H"):
        fill_from_graph(build_network(wider, run.input_px), GRAPH, CARD)


def test_a_graph_with_more_layers_than_the_network_is_refused() -> None:
    run = config_from_yaml(NANO / "nano.yaml")
    shorter = msgspec.structs.replace(run.model, projection=None)
    with pytest.raises(ModelError, match=r"layer linear \(weight \(256, 1024\).*no counterpart"):
        fill_from_graph(build_network(shorter, run.input_px), GRAPH, CARD)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    shutil.copy(NANO / "nano.yaml", tmp_path / "encoder.onnx")
    with pytest.raises(ModelError, match="is no ONNX graph"):
        fill_from_graph(fresh(), tmp_path / "encoder.onnx", CARD)


def planted(name: str, *shape: int) -> tuple[onnx.TensorProto, NDArray[np.float32]]:
    values = np.random.default_rng(len(name)).standard_normal(shape, np.float32)
    return numpy_helper.from_array(values, name), values


def test_every_way_to_write_a_layer_is_read(tmp_path: Path) -> None:
    """A graph by hand: the planted values come back, whatever operator carried them."""
    kernel, a = planted("network.conv.weight", 4, 3, 1, 1)
    scale, s = planted("scale", 4, 1, 1, 1)
    turned, b = planted("right", 4, 5)
    added, c = planted("added", 5)
    gemm, d = planted("gemm_weight", 6, 5)
    gemm_bias, e = planted("gemm_bias", 6)
    nodes = [
        helper.make_node("Mul", ["network.conv.weight", "scale"], ["scaled"]),
        helper.make_node("Conv", ["x", "scaled"], ["y"]),
        helper.make_node("MatMul", ["y", "right"], ["z"]),
        helper.make_node("Add", ["added", "z"], ["w"]),
        helper.make_node("Gemm", ["w", "gemm_weight", "gemm_bias"], ["out"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, None)], [value("out", TensorProto.FLOAT, None)],
        [kernel, scale, turned, added, gemm, gemm_bias],
    )  # fmt: skip
    layers = layers_from_graph(saved(helper.make_model(graph), tmp_path))
    assert [layer.kind for layer in layers] == ["linear"] * 3
    assert layers[0].names == {"conv.weight", "scale"}
    expected = [{"weight": a * s}, {"weight": b.T, "bias": c}, {"weight": d, "bias": e}]
    for layer, parts in zip(layers, expected, strict=True):
        assert layer.parts.keys() == parts.keys()
        for key, values in parts.items():
            assert layer.parts[key].numpy() == pytest.approx(values), key


def test_card_and_model_are_the_shipped_ones() -> None:
    assert isinstance(CARD, ModelCard)
    assert CARD.precision == "fp32"
