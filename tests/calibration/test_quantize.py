import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from skyfix.calibration.layers import layers_of
from skyfix.calibration.observe import observed_ranges, session_of
from skyfix.calibration.quantize import quantized, weight_codes, with_int8_layers
from skyfix.calibration.table import GraphCalibration, LayerCalibration, scale_from_range
from skyfix.runtime.errors import ModelError

INT8_LAYERS = ["fc1", "fc2", "down", "q", "k", "v"]


def scales_of(network: onnx.ModelProto, inputs: NDArray[np.float32]) -> dict[str, float]:
    layers = layers_of(network)
    ranges = observed_ranges(network, [layer.input for layer in layers], [inputs])
    return {layer.output: scale_from_range(ranges[layer.input].minmax) for layer in layers}


def descriptors(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session_of(model, 1).run(None, {"patch": inputs})[0]
    return found


def test_pointwise_and_downsampling_layers_are_taken_and_stem_depthwise_head_and_narrow_are_not(
    network: onnx.ModelProto,
) -> None:
    assert [layer.output for layer in layers_of(network)] == INT8_LAYERS


def test_a_layer_is_called_by_its_weights_name(network: onnx.ModelProto) -> None:
    assert [layer.label for layer in layers_of(network)] == ["fc1", "fc2", "down", "q", "k", "v"]


def test_the_int8_graph_gives_nearly_the_same_descriptors_and_wrong_scales_do_not(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    scales = scales_of(network, inputs)
    expected = descriptors(network, inputs)
    cosines = [
        np.sum(expected * descriptors(with_int8_layers(network, found), inputs), axis=1)
        for found in (scales, {name: scale / 8 for name, scale in scales.items()})
    ]
    assert 0.98 < cosines[0].min() < 1 - 1e-7
    assert cosines[1].min() < 0.9  # clipped


def test_onnxruntime_computes_what_onnx_defines(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    plain = inliner.inline_local_functions(network)  # its evaluator knows another LinearAttention
    changed = with_int8_layers(plain, scales_of(network, inputs))
    (expected,) = ReferenceEvaluator(changed).run(None, {"patch": inputs[:2]})
    assert np.abs(descriptors(changed, inputs[:2]) - np.asarray(expected)).max() < 2e-3


def test_every_activation_is_int8_with_one_scale_and_zero_point_0(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    scales = scales_of(network, inputs)
    changed = with_int8_layers(network, scales)
    stored = {t.name: numpy_helper.to_array(t) for t in changed.graph.initializer}
    nodes = [node for node in changed.graph.node if node.op_type == "QuantizeLinear"]
    assert len(nodes) == len(INT8_LAYERS)
    for node, output in zip(nodes, INT8_LAYERS, strict=True):
        assert stored[node.input[1]] == np.float32(scales[output])
        assert stored[node.input[2]].dtype == np.dtype(np.int8)
        assert stored[node.input[2]] == 0


def test_layers_that_read_one_tensor_have_pairs_of_their_own(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    changed = with_int8_layers(network, scales_of(network, inputs))
    names = [n.input[1] for n in changed.graph.node if n.op_type == "QuantizeLinear"]
    readers = [
        n for n in changed.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "rows"
    ]
    assert len(readers) == 3
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("shape", "axis"), [((8, 5), 1), ((8, 5), 0), ((6, 4, 2, 2), 0)])
def test_weight_codes_are_within_half_a_step_in_every_channel(
    shape: tuple[int, ...], axis: int
) -> None:
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    weight = weight * np.logspace(-3, 2, shape[axis]).reshape(
        [-1 if index == axis else 1 for index in range(len(shape))]
    ).astype(np.float32)
    codes, scales = weight_codes(weight, axis)
    assert codes.dtype == np.int8
    for channel in range(shape[axis]):
        row, code = np.take(weight, channel, axis), np.take(codes, channel, axis)
        assert np.abs(code).max() == 127
        error = np.abs(row - code.astype(np.float32) * scales[channel])
        assert error.max() <= scales[channel] * 0.5001


def test_a_channel_of_zeros_has_a_scale_and_zero_codes() -> None:
    codes, scales = weight_codes(np.zeros((3, 2), np.float32), 1)
    assert not codes.any()
    assert (scales > 0).all()


def test_weights_are_stored_as_int8_and_their_floats_are_gone(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    changed = with_int8_layers(network, scales_of(network, inputs))
    stored = {tensor.name for tensor in changed.graph.initializer}
    assert not stored & {"fc1.weight", "fc2.weight", "fc2.gamma", "down.weight", "q.weight"}
    assert not {"fc2_scaled", "fc2_turned"} & {n.output[0] for n in changed.graph.node}
    assert {"stem.weight", "dw.weight", "head.weight", "narrow.weight"} <= stored


def test_functions_and_their_nodes_are_left_alone(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    changed = with_int8_layers(network, scales_of(network, inputs))
    (before,) = [n for n in network.graph.node if n.op_type == "LinearAttention"]
    (after,) = [n for n in changed.graph.node if n.op_type == "LinearAttention"]
    assert after == before
    assert list(changed.functions[0].node) == list(network.functions[0].node)


def test_the_opset_is_raised_to_19_and_the_model_given_is_not_changed(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    before = network.SerializeToString()
    changed = with_int8_layers(network, scales_of(network, inputs))
    onnx.checker.check_model(changed)
    assert [e.version for e in changed.opset_import if not e.domain] == [19]
    assert network.SerializeToString() == before


def test_an_opset_below_18_is_refused(network: onnx.ModelProto) -> None:
    old = onnx.ModelProto()
    old.CopyFrom(network)
    old.opset_import[0].version = 17
    with pytest.raises(ModelError, match="opset 17"):
        with_int8_layers(old, {"fc1": 0.1})


def test_two_runs_give_the_same_bytes(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    scales = scales_of(network, inputs)
    first, second = (with_int8_layers(network, scales).SerializeToString() for _ in range(2))
    assert first == second


def test_a_kept_layer_stays_in_floating_point(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    layers = layers_of(network)
    ranges = observed_ranges(network, [layer.input for layer in layers], [inputs])
    records = [
        LayerCalibration(
            output=layer.output, label=layer.label, kind=layer.kind, activation=layer.input,
            ranges=ranges[layer.input], scale=0.1, kept=layer.output == "down",
        )
        for layer in layers
    ]  # fmt: skip
    changed = quantized(network, GraphCalibration("", records))
    (down,) = [node for node in changed.graph.node if node.output[0] == "down"]
    assert list(down.input) == ["first", "down.weight"]
    (fc1,) = [node for node in changed.graph.node if node.output[0] == "fc1"]
    assert list(fc1.input) != ["last", "fc1.weight"]
    renamed = GraphCalibration("", [msgspec.structs.replace(records[0], output="no_such_layer")])
    with pytest.raises(ModelError, match="no_such_layer"):
        quantized(network, renamed)


def test_onnxruntime_fuses_every_product_into_an_int8_kernel(
    network: onnx.ModelProto, inputs: NDArray[np.float32], tmp_path: object
) -> None:
    changed = with_int8_layers(network, scales_of(network, inputs))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        changed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(f"{tmp_path}/optimised.onnx").graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 5  # fc1, fc2, q, k, v


def test_openvino_executes_int8_kernels_and_agrees(
    network: onnx.ModelProto, inputs: NDArray[np.float32]
) -> None:
    openvino = pytest.importorskip("openvino")
    plain = inliner.inline_local_functions(network)  # it has no rule for functions
    changed = with_int8_layers(plain, scales_of(network, inputs))
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(changed.SerializeToString()), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"},
    )  # fmt: skip
    found = compiled({"patch": inputs})["descriptor"]
    cosine = np.sum(found * descriptors(changed, inputs), axis=1)
    assert cosine.min() > 0.999
    nodes = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    products = [
        node["runtimePrecision"] for node in nodes
        if node["layerType"] in {"FullyConnected", "Convolution", "MatMul"}
    ]  # fmt: skip
    assert products.count("i8") + products.count("u8") == len(INT8_LAYERS)
