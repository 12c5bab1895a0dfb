"""Which nodes of a graph become int8.

    MatMul, Gemm     x (..., K) times a constant (K, N): the pointwise products
    Conv             dense, 1x1 or with a stride; never on the picture's own channels (the stem)

Depthwise convolutions, normalisations, attention and the last layer before the descriptor stay as
they are: they are a small part of the work, or lose most. So do products with fewer than
MIN_SIDE positions or output channels: they fill no tile of an int8 unit. Nano has seven of them,
among them the two layers that lose most.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference

from .constants import Constants, attribute_of

MIN_SIDE = 16  # rows of a tile of tensor cores, AMX and VNNI kernels
STEM_CHANNELS = 4  # a convolution on so few channels reads the picture itself
DOMAINS = ("", "ai.onnx")
POINTWISE = {"Gemm", "MatMul"}
PASSING = {"Add", "Cast", "Clip", "Concat", "Div", "Expand", "Flatten", "Identity",
           "LpNormalization", "Mul", "ReduceL2", "Reshape", "Squeeze", "Sub", "Transpose",
           "Unsqueeze"}  # fmt: skip  # what may stand between the last layer and the descriptor


@dataclass(frozen=True)
class Layer:
    """One node that can be computed in int8."""

    output: str  # its output tensor: the layer's identity in graph and table
    label: str  # for people: the weight's name where it has one
    kind: str  # "MatMul", "Gemm" or "Conv"
    input: str  # the activation that is quantised
    weight: str  # the constant tensor
    axis: int  # of the weight: output channels


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """The layers of a graph that become int8, in its order."""
    constants = Constants(model.graph)
    heads = head_outputs(model.graph)
    found = [_layer(node, constants, model.graph) for node in model.graph.node]
    layers = [layer for layer in found if layer and layer.output not in heads]
    shapes = shapes_of(model, {layer.output for layer in layers})
    return [layer for layer in layers if _is_worth_it(layer, shapes.get(layer.output))]


def shapes_of(model: onnx.ModelProto, names: set[str]) -> dict[str, list[int]]:
    """Shapes of tensors behind the batch, for those where every side is known."""
    known = {info.name: info for info in model.graph.value_info}
    if not names <= known.keys():
        known = {info.name: info for info in shape_inference.infer_shapes(model).graph.value_info}
    sides = {
        name: [side.dim_value for side in known[name].type.tensor_type.shape.dim][1:]
        for name in names & known.keys()
    }
    return {name: found for name, found in sides.items() if found and all(found)}


def head_outputs(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the layers that the descriptor is read from, with nothing else between."""
    makers = {name: node for node in graph.node for name in node.output}
    heads: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in POINTWISE or node.op_type == "Conv":
            heads.add(node.output[0])
        elif node.op_type in PASSING:
            waiting.extend(node.input)
    return heads


def _layer(node: onnx.NodeProto, constants: Constants, graph: onnx.GraphProto) -> Layer | None:
    """The layer that a node is, None for one that stays."""
    if node.domain not in DOMAINS or len(node.input) < 2:
        return None
    weight = constants.value(node.input[1])
    if weight is None or weight.dtype != np.float32 or constants.value(node.input[0]) is not None:
        return None
    axis = _output_axis(node, weight)
    if axis is None:
        return None
    return Layer(
        node.output[0], _label(node, constants, graph), node.op_type,
        node.input[0], node.input[1], axis,
    )  # fmt: skip


def _is_worth_it(layer: Layer, shape: list[int] | None) -> bool:
    """Whether a product is large enough for int8; unknown sizes are."""
    if shape is None:
        return True
    channels = shape[0] if layer.kind == "Conv" else shape[-1]
    return min(channels, int(np.prod(shape)) // channels) >= MIN_SIDE


def _output_axis(node: onnx.NodeProto, weight: NDArray[np.generic]) -> int | None:
    """Axis of the weight's output channels; None where the node stays as it is."""
    if node.op_type == "MatMul":
        return 1 if weight.ndim == 2 else None
    if node.op_type == "Gemm":
        plain = attribute_of(node, "alpha", 1.0) == attribute_of(node, "beta", 1.0) == 1.0
        turned = attribute_of(node, "transA", 0)
        return None if turned or not plain else 1 - int(bool(attribute_of(node, "transB", 0)))
    if node.op_type == "Conv" and attribute_of(node, "group", 1) == 1:
        strides = attribute_of(node, "strides", [1])
        shrinks = isinstance(strides, list) and max(strides) > 1
        pointwise = max(weight.shape[2:], default=1) == 1
        return 0 if weight.shape[1] > STEM_CHANNELS and (shrinks or pointwise) else None
    return None


def _label(node: onnx.NodeProto, constants: Constants, graph: onnx.GraphProto) -> str:
    """The weight's name, or that of the bias that is added to the product."""
    names = [root for part in node.input[1:] for root in constants.roots(part)]
    for after in graph.node:
        if after.op_type == "Add" and node.output[0] in after.input:
            names += [r for part in after.input if part != node.output[0]
                      and part in constants.initializers for r in [part]]  # fmt: skip
    named = [name for name in names if "." in name]
    if not named:
        return node.name or node.output[0]
    return named[0].rpartition(".")[0]
