from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from skyfix.export.fold import shapes_of, simplified
from skyfix.export.onnx import full_graph
from skyfix.export.parity import session_of
from skyfix.train.models.convnext import Block
from skyfix.train.models.pyramid_pooling import pyramid_pooling

HEAD = """<ir_version: 10, opset_import: ["": 20]>
g (float[B, 4, 6, 6] patch) => (float[B, 4, 6, 6] descriptor)
"""


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + body)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def drawn(batch: int, channels: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, channels, 6, 6)).astype(np.float32)


class Trunk(nn.Module):
    """A ConvNeXt block behind a stem, pooled by constant cells, a BatchNorm, a unit vector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.block = Block(8, layer_scale=1e-6)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("pooling", pyramid_pooling([(1, 1), (2, 2)], (6, 6)))
        self.pooling: torch.Tensor

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        tokens = self.block(self.stem(patch)).flatten(2).transpose(1, 2)
        pooled = self.norm(nn.functional.gelu(self.pooling @ tokens).transpose(1, 2))
        return nn.functional.normalize(pooled.flatten(1), dim=1)


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    torch.manual_seed(0)
    network = Trunk().eval()
    with torch.no_grad():
        network.block.gamma.copy_(torch.rand(8) * 1e-5)
        network.norm.get_buffer("running_var").copy_(torch.rand(8) * 1e-6)
        network.norm.get_buffer("running_mean").normal_()
    return network


@pytest.fixture(scope="module")
def graph(trunk: Trunk) -> onnx.ModelProto:
    return full_graph(trunk, (6, 6))


def test_the_layer_scale_is_in_the_second_maps_weights_to_the_last_bit(
    trunk: Trunk, graph: onnx.ModelProto
) -> None:
    block = trunk.block
    expected = (block.mlp.fc2.weight * block.gamma[:, None]).detach().numpy().T
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    after_gelu = next(node for node in graph.graph.node if node.op_type == "Gelu").output[0]
    (second,) = (n for n in graph.graph.node if n.op_type == "MatMul" and n.input[0] == after_gelu)
    assert np.array_equal(stored[second.input[1]], expected)
    assert operators(graph)["Mul"] == 1  # the BatchNorm's


def test_norms_and_activations_are_real_nodes_and_the_pooling_a_constant_product(
    graph: onnx.ModelProto,
) -> None:
    found = operators(graph)
    assert (found["LayerNormalization"], found["Gelu"], found["MatMul"]) == (1, 2, 3)
    unwanted = {"BatchNormalization", "Constant", "Erf", "Expand", "Identity", "ReduceSum", "Shape"}
    assert unwanted.isdisjoint(found)
    stored = [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer]
    assert any(value.shape == (5, 36) and value[0] == pytest.approx(1 / 36) for value in stored)


def test_it_is_the_network_at_any_batch(trunk: Trunk, graph: onnx.ModelProto) -> None:
    for batch in (1, 4):
        patches = drawn(batch, 3)
        with torch.no_grad():
            expected = trunk(torch.from_numpy(patches)).numpy()
        assert session_of(graph)(patches) == pytest.approx(expected, abs=1e-5)


def test_it_names_no_source_file_and_comes_out_the_same_twice(
    trunk: Trunk, graph: onnx.ModelProto
) -> None:
    data = graph.SerializeToString(deterministic=True)
    assert b".py" not in data
    assert full_graph(trunk, (6, 6)).SerializeToString(deterministic=True) == data


def test_the_same_expression_is_computed_once_and_dead_ends_go() -> None:
    graph = simplified(
        parsed("""{
        a = Relu (patch)
        b = Relu (patch)
        c = Exp (patch)
        same = Identity (b)
        descriptor = Add (a, same)
    }""")
    )
    assert operators(graph) == {"Relu": 1, "Add": 1}
    assert session_of(graph)(drawn(2)) == pytest.approx(2 * np.maximum(drawn(2), 0))


def test_a_shape_that_only_the_batch_leaves_open_becomes_a_constant() -> None:
    graph = simplified(
        parsed("""<int64[3] rows = {0, 4, 36}> {
        flat = Reshape (patch, rows)
        turned = Sigmoid (flat)
        sides = Shape (patch)
        descriptor = Reshape (turned, sides)
    }""")
    )
    assert operators(graph) == {"Reshape": 2, "Sigmoid": 1}
    assert session_of(graph)(drawn(3)) == pytest.approx(1 / (1 + np.exp(-drawn(3))), abs=1e-6)


def test_an_expand_that_an_operator_does_itself_is_left_out_and_one_that_counts_stays() -> None:
    needless = """<int64[1] axes = {1}> {
        peak = ReduceMax (patch, axes)
        sides = Shape (patch)
        wide = Expand (peak, sides)
        descriptor = Div (patch, wide)
    }"""
    graph = parsed(needless)
    graph.graph.value_info.append(
        onnx.helper.make_tensor_value_info("wide", onnx.TensorProto.FLOAT, ["B", 4, 6, 6])
    )
    folded = simplified(graph)
    assert operators(folded) == {"ReduceMax": 1, "Div": 1}
    batch = drawn(2)
    assert session_of(folded)(batch) == pytest.approx(batch / batch.max(axis=1, keepdims=True))
    alone = needless.replace("Div (patch, wide)", "Relu (wide)")
    assert operators(simplified(parsed(alone)))["Expand"] == 1


def test_shapes_are_known_with_the_batch_by_its_name() -> None:
    assert shapes_of(parsed("{ descriptor = Relu (patch) }").graph) == {
        "patch": ["B", 4, 6, 6], "descriptor": ["B", 4, 6, 6],
    }  # fmt: skip
