import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from skyfix.export.attention import (
    attention_as_nodes,
    attention_nodes,
    inlined,
    with_bodies,
    without_bodies,
)
from skyfix.export.onnx import full_graph
from skyfix.export.operators import operators_outside
from skyfix.export.parity import session_of
from skyfix.export.precision import half_from_full
from skyfix.train.models.linear_attention import CrossLayer, linear_attention

NODE = """<ir_version: 10, opset_import: ["": {opset}, "skyfix": 1]>
one ({kind}[B, 2, T, 8] query, {kind}[B, 2, S, 8] key, {kind}[B, 2, S, 8] value)
    => ({kind}[B, 2, T, 8] mixed) {{
    mixed = skyfix.LinearAttention <epsilon = {epsilon}, plugin_namespace = "skyfix",
                                    plugin_version = "1"> (query, key, value)
}}"""


def one_node(kind: str = "float", epsilon: float = 1e-6, opset: int = 20) -> onnx.ModelProto:
    return onnx.parser.parse_model(NODE.format(kind=kind, epsilon=epsilon, opset=opset))


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)


def run(model: onnx.ModelProto, *tensors: NDArray[np.generic]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, dict(zip(("query", "key", "value"), tensors, strict=True)))
    return np.asarray(found)


def by_pairs(
    query: NDArray[np.float32], key: NDArray[np.float32], value: NDArray[np.float32], epsilon: float
) -> NDArray[np.float64]:
    """Every query with every token of the source, in float64."""
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in
            (query.astype(np.float64), key.astype(np.float64)))  # fmt: skip
    out = np.zeros(query.shape)
    for at in np.ndindex(query.shape[:3]):
        weights = np.array([q[at] @ k[at[0], at[1], s] for s in range(key.shape[2])])
        out[at] = weights @ value[at[0], at[1]] / (weights.sum() + epsilon)
    return out


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
@pytest.mark.parametrize("opset", [18, 20])
def test_the_body_is_the_sum_over_all_pairs_with_the_nodes_own_epsilon(
    epsilon: float, opset: int
) -> None:
    query, key, value = drawn(3, 2, 5, 8), drawn(3, 2, 7, 8), drawn(3, 2, 7, 8)
    expected = by_pairs(query, key, value, epsilon)
    model = with_bodies(one_node(epsilon=epsilon, opset=opset))
    onnx.checker.check_model(model, full_check=True)
    assert run(model, query, key, value) == pytest.approx(expected, abs=1e-5)
    assert run(inlined(model), query, key, value) == pytest.approx(expected, abs=1e-5)


def test_the_body_is_the_networks_attention() -> None:
    query, key, value = drawn(1, 2, 5, 8), drawn(1, 2, 60, 8), drawn(1, 2, 60, 8)
    expected = linear_attention(*(torch.from_numpy(x) for x in (query, key, value))).numpy()
    assert run(with_bodies(one_node()), query, key, value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("inline", [False, True])
def test_fp16_tokens_whose_sums_leave_its_range_are_summed_in_fp32(inline: bool) -> None:
    tokens = np.full((1, 2, 9000, 8), 7.0, np.float16)  # 9000 * 8 = 72000 in each sum of keys
    model = with_bodies(one_node("float16"))
    mixed = run(inlined(model) if inline else model, tokens[:, :, :1], tokens, tokens)
    assert mixed.dtype == np.float16
    assert mixed == pytest.approx(7.0, rel=1e-3)


def test_inlined_fp16_tokens_are_cast_up_once_each_and_the_result_down() -> None:
    model = inlined(with_bodies(one_node("float16")))
    assert not model.functions
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert [cast.attribute[0].i for cast in casts] == [TensorProto.FLOAT] * 3 + [
        TensorProto.FLOAT16
    ]


def test_without_its_body_the_node_still_names_the_plugin_and_onnxruntime_refuses_it() -> None:
    model = without_bodies(with_bodies(one_node()))
    assert not model.functions
    (node,) = attention_nodes(model)
    found = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
    assert (found["plugin_namespace"], found["plugin_version"]) == (b"skyfix", b"1")
    assert found["epsilon"] == pytest.approx(1e-6)
    with pytest.raises(Exception, match="LinearAttention"):
        run(model, *[drawn(1, 2, 5, 8)] * 3)


class Attending(nn.Module):
    """Two layers of attention over the places of a small picture, and a unit descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.layers = nn.ModuleList(CrossLayer(16, 32, 0.0) for _ in range(2))

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(patch).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, tokens)
        return nn.functional.normalize(tokens.mean(dim=1), dim=1)


@pytest.fixture(scope="module")
def network() -> Attending:
    torch.manual_seed(0)
    return Attending().eval()


@pytest.fixture(scope="module")
def graph(network: Attending) -> onnx.ModelProto:
    return full_graph(network, (32, 32))


def described(network: Attending, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(batch)))


def test_an_exported_network_has_one_node_a_layer_and_runs_as_it_is_at_any_batch(
    network: Attending, graph: onnx.ModelProto
) -> None:
    onnx.checker.check_model(graph, full_check=True)
    assert len(attention_nodes(graph)) == 2
    assert [function.name for function in graph.functions] == ["LinearAttention"]
    for batch in (drawn(1, 3, 32, 32), drawn(5, 3, 32, 32)):
        expected = described(network, batch)
        assert session_of(graph)(batch) == pytest.approx(expected, abs=1e-5)
        assert session_of(inlined(graph))(batch) == pytest.approx(expected, abs=1e-5)
        half = session_of(inlined(half_from_full(graph)))(batch)
        assert (half * expected).sum(axis=1) == pytest.approx(np.ones(len(batch)), abs=1e-4)


def test_inlined_in_fp32_it_holds_no_node_of_ours_and_no_cast(graph: onnx.ModelProto) -> None:
    plain = inlined(graph)
    assert not plain.functions
    assert not attention_nodes(plain)
    assert {"Cast", "CastLike"}.isdisjoint(node.op_type for node in plain.graph.node)


def test_the_table_of_tensorrt_takes_the_node_with_the_plugin_only(graph: onnx.ModelProto) -> None:
    bare = without_bodies(half_from_full(graph))
    assert operators_outside(bare) == []
    assert len(operators_outside(bare, plugin=False)) == 2
    assert operators_outside(inlined(half_from_full(graph)), plugin=False) == []


def failing_export(network: Attending) -> None:
    with attention_as_nodes(network):
        assert all(layer.attention is not linear_attention for layer in network.layers)
        raise RuntimeError("planted")


def test_the_network_has_its_own_attention_back_after_an_export_that_failed(
    network: Attending,
) -> None:
    with pytest.raises(RuntimeError, match="planted"):
        failing_export(network)
    assert all(layer.attention is linear_attention for layer in network.layers)
