"""fp32 graph + table -> graph with int8 layers: explicit, symmetric Q/DQ.

    x -> QuantizeLinear(scale, 0) -> DequantizeLinear -> MatMul <- DequantizeLinear <- int8 weight

One scale for a tensor of activations, one for each output channel of a weight, zero points 0: the
only form that TensorRT takes, and one that onnxruntime and OpenVINO compute in int8 as well. The
residual stream, biases and everything between layers stay in floating point.

Every layer has a pair of its own with scales of its own names, also where several read one tensor
(q, k and v of an attention). On x86 onnxruntime computes u8 times s8 only and turns a pair into u8
only where Q has one reader; a shared pair left these layers in fp32 (nano: 6 of 42, 8 % of the
time). The copies are small, and their scales are equal.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from skyfix.runtime.errors import ModelError

from .constants import Constants, drop_unused
from .layers import DOMAINS, Layer, layers_of
from .table import GraphCalibration

MIN_OPSET = 19  # the first whose Q/DQ takes fp16, which a later step may make of their neighbours
RAISABLE_OPSET = 18  # every operator means the same in 18 and in 19
MAX_CODE = 127  # symmetric: -128 stays unused


def quantized(model: onnx.ModelProto, graph: GraphCalibration) -> onnx.ModelProto:
    """The graph with every layer of the table in int8 that is not kept; the model is not changed.

    Raises ModelError where the table names a layer that the graph has not.
    """
    scales = {layer.output: layer.scale for layer in graph.layers if not layer.kept}
    return with_int8_layers(model, scales)


def with_int8_layers(model: onnx.ModelProto, scales: dict[str, float]) -> onnx.ModelProto:
    """The graph with the layers of these outputs in int8, by their activation's scale."""
    layers = {layer.output: layer for layer in layers_of(model)}
    missing = [output for output in scales if output not in layers]
    if missing:
        raise ModelError(
            f"the calibration table names the layer {missing[0]}, which the graph has not or "
            "cannot compute in int8. Calibrate this model again: skyfix calibrate"
        )
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    raise_opset(changed)
    wanted = [layers[node.output[0]] for node in model.graph.node
              if node.output and node.output[0] in scales]  # fmt: skip
    _insert(changed.graph, wanted, scales)
    drop_unused(changed.graph)
    return changed


def weight_codes(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 codes of a weight and one scale for each channel along an axis."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    peaks = np.abs(weight).max(axis=others, initial=0.0)
    scales = (np.where(peaks > 0, peaks, 1.0) / MAX_CODE).astype(np.float32)
    shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
    codes = np.rint(weight / scales.reshape(shape))
    return np.clip(codes, -MAX_CODE, MAX_CODE).astype(np.int8), scales


def raise_opset(model: onnx.ModelProto) -> None:
    """Set the opset to at least MIN_OPSET, in the functions too; raises ModelError."""
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for entry in imports:
            if entry.domain not in DOMAINS or entry.version >= MIN_OPSET:
                continue
            if entry.version < RAISABLE_OPSET:
                raise ModelError(
                    f"the graph has opset {entry.version}, int8 needs {RAISABLE_OPSET} or newer: "
                    "export the model again"
                )
            entry.version = MIN_OPSET


def _insert(graph: onnx.GraphProto, layers: Iterable[Layer], scales: dict[str, float]) -> None:
    """Put Q/DQ before every layer."""
    constants = Constants(graph)
    by_output = {layer.output: layer for layer in layers}
    weights: dict[tuple[str, int], str] = {}  # weight and axis -> dequantised tensor
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        layer = by_output.get(node.output[0]) if node.output else None
        if layer is not None:
            weight = (layer.weight, layer.axis)
            if weight not in weights:
                weights[weight] = _weight(graph, nodes, constants, *weight)
            node.input[0] = _activation_pair(graph, nodes, layer, scales[layer.output])
            node.input[1] = weights[weight]
        nodes.append(node)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    graph.ClearField("node")
    graph.node.extend(copied)


def _activation_pair(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], layer: Layer, scale: float
) -> str:
    """Append Q and DQ of a layer's activation; the name of what comes out."""
    stem = f"{layer.output}_input_int8"
    _store(graph, f"{stem}_scale", np.array(scale, np.float32))
    _store(graph, f"{stem}_zero", np.array(0, np.int8))
    parameters = [f"{stem}_scale", f"{stem}_zero"]
    quantize = [layer.input, *parameters]
    nodes += [
        helper.make_node("QuantizeLinear", quantize, [f"{stem}_codes"], name=f"{stem}_quantize"),
        helper.make_node(
            "DequantizeLinear", [f"{stem}_codes", *parameters], [stem], name=f"{stem}_dequantize"
        ),
    ]
    return stem


def _weight(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], constants: Constants,
    tensor: str, axis: int,
) -> str:  # fmt: skip
    """Store a weight as int8 and append its DequantizeLinear; the name of what comes out."""
    value = constants.value(tensor)
    assert value is not None, "layers_of() lists constant weights only"
    codes, scales = weight_codes(value.astype(np.float32), axis)
    stem = f"{tensor}_int8_axis{axis}"
    _store(graph, f"{stem}_codes", codes)
    _store(graph, f"{stem}_scale", scales)
    _store(graph, f"{stem}_zero", np.zeros(scales.shape, np.int8))
    inputs = [f"{stem}_{part}" for part in ("codes", "scale", "zero")]
    nodes.append(
        helper.make_node("DequantizeLinear", inputs, [stem], name=f"{stem}_dequantize", axis=axis)
    )
    return stem


def _store(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> None:
    graph.initializer.append(numpy_helper.from_array(value, name))
