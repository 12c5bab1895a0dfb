import math

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from skyfix.export.operators import element_types
from skyfix.export.parity import session_of
from skyfix.export.precision import half_from_full
from skyfix.export.rounding import rounded
from skyfix.runtime.errors import ModelError

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
HEAD = """<ir_version: 10, opset_import: ["": {opset}]>
g (float[B, 3, 4, 4] patch) => (float[B, D] descriptor)
"""
NETWORK = """<float[48, 8] w, float[8] b, float[8] scale, float[8] shift,
 int64[2] flat = {{-1, 48}}, int64[1] last = {{1}}, float floor = {{1e-12}}> {{
    rows = Reshape (patch, flat)
    product = MatMul (rows, w)
    sum = Add (product, b)
    norm = LayerNormalization <axis = -1> (sum, scale, shift)
    curved = Gelu (norm)
    length = ReduceL2 <keepdims = 1> (curved, last)
    held = Clip (length, floor)
    descriptor = Div (curved, held)
}}"""


def graph(body: str, opset: int = 20, **values: NDArray[np.generic]) -> onnx.ModelProto:
    """A graph whose initializers without a value get these."""
    model = onnx.parser.parse_model(
        HEAD.format(opset=opset) + body.replace("{{", "{").replace("}}", "}")
    )
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for info in list(model.graph.value_info):
        assert info.name in values, info.name
    for name, value in values.items():
        if name in stored:
            stored[name].CopyFrom(numpy_helper.from_array(value, name))
        else:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def drawn(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(2).standard_normal(shape) * scale).astype(np.float32)


def network(scale: float = 1.0) -> onnx.ModelProto:
    return graph(
        NETWORK, w=drawn(48, 8, scale=scale), b=drawn(8), scale=np.ones(8, np.float32),
        shift=np.zeros(8, np.float32),
    )  # fmt: skip


def kinds_of(model: onnx.ModelProto, operator: str) -> list[tuple[set[int], set[int]]]:
    """Float types that go into and come out of every node of an operator."""
    types = element_types(model)
    floats = {FULL, HALF}
    return [
        ({types[n] for n in node.input} & floats, {types[n] for n in node.output} & floats)
        for node in model.graph.node if node.op_type == operator
    ]  # fmt: skip


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_products_are_fp16_and_norms_fp32_and_the_ends_stay_float32() -> None:
    half = half_from_full(network())
    onnx.checker.check_model(half, full_check=True)
    for operator in ("MatMul", "Add", "Gelu", "Reshape"):
        assert kinds_of(half, operator) == [({HALF}, {HALF})], operator
    for operator in ("LayerNormalization", "ReduceL2", "Clip", "Div"):
        assert kinds_of(half, operator) == [({FULL}, {FULL})], operator
    ends = (*half.graph.input, *half.graph.output)
    assert [(end.name, end.type.tensor_type.elem_type) for end in ends] == [
        ("patch", FULL), ("descriptor", FULL),
    ]  # fmt: skip
    stored = constants(half)
    assert stored["w"].dtype == np.float16
    assert stored["scale"].dtype == np.float32
    assert stored["floor"] == np.float32(1e-12)


def test_the_full_graph_is_not_changed() -> None:
    full = network()
    before = full.SerializeToString(deterministic=True)
    half_from_full(full)
    assert full.SerializeToString(deterministic=True) == before


def test_every_tensor_is_cast_once_at_most_whoever_reads_it() -> None:
    half = half_from_full(network())
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    # patch and the norm's output down; the norm's input and the last layer's output up
    assert len(casts) == 4
    assert len({cast.input[0] for cast in casts}) == 4


def test_it_computes_what_numpy_computes_in_fp16() -> None:
    batch = drawn(5, 3, 4, 4)
    w, b = drawn(48, 8).astype(np.float16), drawn(8).astype(np.float16)
    product = batch.reshape(5, 48).astype(np.float16).astype(np.float32) @ w.astype(np.float32)
    total = (product.astype(np.float16) + b).astype(np.float64)
    norm = (total - total.mean(axis=1, keepdims=True)) / np.sqrt(
        total.var(axis=1, keepdims=True) + 1e-5
    )
    curved = norm * (1 + np.vectorize(math.erf)(norm / math.sqrt(2))) / 2
    expected = curved / np.linalg.norm(curved, axis=1, keepdims=True)
    for model in (half_from_full(network()), rounded(half_from_full(network()))):
        assert session_of(model)(batch) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("weight", "kind"), [(7e4, FULL), (6e4, HALF), (1e-7, FULL), (1e-4, HALF), (0.0, HALF)]
)
def test_a_product_whose_weights_fp16_does_not_hold_is_computed_in_fp32(
    weight: float, kind: int
) -> None:
    half = half_from_full(
        graph(NETWORK, w=np.full((48, 8), weight, np.float32), b=drawn(8),
              scale=np.ones(8, np.float32), shift=np.zeros(8, np.float32))
    )  # fmt: skip
    assert kinds_of(half, "MatMul") == [({kind}, {kind})]
    assert np.isfinite(constants(half)["w"]).all()
    assert constants(half)["w"].max() == pytest.approx(weight, rel=1e-3)


def test_activations_that_leave_the_range_show_in_the_rounded_graph() -> None:
    """The fault: weights that fp16 holds, products beyond 65504 that a norm then hides."""
    half, batch = half_from_full(network(scale=6e3)), drawn(2, 3, 4, 4, scale=20.0)
    assert np.isfinite(session_of(network(scale=6e3))(batch)).all()
    assert not np.isfinite(session_of(rounded(half))(batch)).all()


QUANTIZED = """<float[48, 8] w, float x_scale, int8 x_zero = {{0}}, int8[48, 8] codes,
 float[8] w_scale, int8[8] w_zero = {{0, 0, 0, 0, 0, 0, 0, 0}}, int64[2] flat = {{-1, 48}}> {{
    rows = Reshape (patch, flat)
    x_codes = QuantizeLinear (rows, x_scale, x_zero)
    x = DequantizeLinear (x_codes, x_scale, x_zero)
    weight = DequantizeLinear <axis = 1> (codes, w_scale, w_zero)
    product = MatMul (x, weight)
    curved = Gelu (product)
    descriptor = Identity (curved)
}}"""


def quantized(w_scale: float, opset: int = 20) -> onnx.ModelProto:
    codes = np.random.default_rng(0).integers(-127, 128, (48, 8)).astype(np.int8)
    model = graph(
        QUANTIZED, opset, w=drawn(1, 1), x_scale=np.float32(0.02), codes=codes,
        w_scale=np.full(8, w_scale, np.float32),
    )  # fmt: skip
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def test_int8_codes_stay_and_their_scales_become_fp16() -> None:
    half = half_from_full(quantized(0.001))
    onnx.checker.check_model(half, full_check=True)
    assert kinds_of(half, "QuantizeLinear") == [({HALF}, set())]
    assert kinds_of(half, "DequantizeLinear") == [({HALF}, {HALF})] * 2
    assert kinds_of(half, "MatMul") == [({HALF}, {HALF})]
    assert constants(half)["codes"].dtype == np.int8
    batch = drawn(3, 3, 4, 4)
    assert session_of(half)(batch) == pytest.approx(
        session_of(quantized(0.001))(batch), rel=0.02, abs=0.02
    )


def test_scales_below_the_normal_numbers_of_fp16_stay_fp32_and_the_result_is_cast() -> None:
    half = half_from_full(quantized(1e-5))
    assert kinds_of(half, "DequantizeLinear") == [({HALF}, {HALF}), ({FULL}, {FULL})]
    assert kinds_of(half, "MatMul") == [({HALF}, {HALF})]
    assert constants(half)["w_scale"] == pytest.approx(np.full(8, 1e-5))


def test_before_opset_19_q_and_dq_stay_fp32() -> None:
    model = quantized(0.001, opset=18)
    for node in model.graph.node:
        if node.op_type == "Gelu":  # opset 20 has it first
            node.op_type = "Sigmoid"
    assert kinds_of(half_from_full(model), "QuantizeLinear") == [({FULL}, set())]


def test_a_graph_within_a_graph_is_refused() -> None:
    model = onnx.parser.parse_model(
        HEAD.format(opset=20)
        + """<bool yes = {1}, int64[2] flat = {-1, 48}> {
        descriptor = If (yes) <
            then_branch = a () => (float[B, D] one) { one = Reshape (patch, flat) },
            else_branch = b () => (float[B, D] two) { two = Reshape (patch, flat) }>
        }"""
    )
    with pytest.raises(ModelError, match="holds a graph of its own"):
        half_from_full(model)
