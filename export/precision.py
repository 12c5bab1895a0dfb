"""fp32 graph -> fp16 graph. The precision lies in the graph, as casts; no engine chooses it.

    weights, products, convolutions, activations    fp16
    normalisations, softmax, means and sums         fp32: long sums of squares leave fp16's range
    the linear attention                            fp16 in and out, sums inside in fp32
    unit length (norm, its floor, the division)     fp32, and with it the descriptor
    a node with a constant that fp16 does not hold  fp32: above 65504, or below 6.1e-5 throughout
    Q/DQ                                            fp16, where all scales are normal fp16 numbers

The graph's own inputs and outputs stay float32. A tensor is cast at most once each way, behind the
node that makes it, and keeps its name.

The pass is our own: onnxconverter-common's float16 decides by operator names alone, does not know
functions nor fp16 Q/DQ, and clips what it cannot hold without a word.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skyfix.runtime.errors import ModelError

from .operators import element_types, opset_of

FULL, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
SUFFIX = {FULL: "_fp32", HALF: "_fp16"}
LARGEST = 65504.0  # of fp16
SMALLEST_NORMAL = 2.0**-14  # of fp16; below it digits are lost
NORMS = {"LpNormalization", "ReduceL2", "ReduceSumSquare"}
SCALING = {"Add", "Clip", "Expand", "Max", "Reciprocal", "Sqrt"}  # between a norm and the division
DIVIDING = {"Div", "Mul"}
IN_FULL = NORMS | {
    "ConstantOfShape", "Exp", "GlobalAveragePool", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LogSoftmax", "Pow", "Range", "ReduceMean", "ReduceSum",
    "Softmax",
}  # fmt: skip
QUANTIZING = {"DequantizeLinear", "QuantizeLinear"}
QUANTIZING_OPSET = 19  # the first whose Q/DQ takes fp16


def half_from_full(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp16; the model is not changed. Raises ModelError."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Halving(half).run()
    onnx.checker.check_model(half)
    return half


class _Halving:
    """One graph on its way to fp16."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.opset = opset_of(model)
        kinds = element_types(model)
        self.floats = {name for name, kind in kinds.items() if kind == FULL}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.kinds = {value.name: FULL for value in self.graph.input}  # as they are made
        self.cast: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}
        for node in self.graph.node:
            _refuse_inner_graphs(node)
            unknown = [name for name in node.output if name and name not in kinds]
            if unknown:
                raise ModelError(f"the type of {unknown[0]} ({node.op_type}) cannot be inferred")

    def run(self) -> None:
        """Rewrite the graph."""
        ends = {output.name for output in self.graph.output}
        unit = _normalising(self.graph)
        for number, node in enumerate(self.graph.node):
            kind = HALF
            if (
                node.op_type in IN_FULL
                or number in unit
                or ends.intersection(node.output)
                or not self._held(node)
            ):
                kind = FULL
            self._convert(node, kind)
        made = self.kinds | {name: tensor.data_type for name, tensor in self.stored.items()}
        for info in self.graph.value_info:
            if made.get(info.name) == HALF:
                info.type.tensor_type.elem_type = HALF
        unchanged = [t for t in self.graph.initializer if t.data_type != FULL]
        for field, parts in (
            ("node", self.nodes),
            ("initializer", [*unchanged, *self.stored.values()]),
        ):
            copies = [type(part).FromString(part.SerializeToString()) for part in parts]
            self.graph.ClearField(field)
            getattr(self.graph, field).extend(copies)

    def _held(self, node: onnx.NodeProto) -> bool:
        """Whether fp16 holds the constants of a node."""
        if node.op_type in QUANTIZING:
            scale = self.constants.get(node.input[1])
            return (
                scale is not None and self.opset >= QUANTIZING_OPSET and _all_normal(_array(scale))
            )
        return all(
            _in_range(_array(self.constants[name]))
            for name in node.input
            if name in self.floats and name in self.constants
        )

    def _convert(self, node: onnx.NodeProto, kind: int) -> None:
        """Append a node that computes in a type, with the casts that it needs."""
        for index, name in enumerate(node.input):
            if name in self.floats:
                node.input[index] = self._as(name, kind)
        if node.op_type == "Cast":
            for part in node.attribute:
                if part.name == "to" and part.i == FULL:
                    part.i = kind
        self.nodes.append(node)
        self.kinds.update((name, kind) for name in node.output if name in self.floats)

    def _as(self, name: str, kind: int) -> str:
        """The name of a tensor in a type."""
        if name in self.constants:
            return self._constant(name, kind)
        if self.kinds[name] == kind:
            return name
        other = name + SUFFIX[kind]
        if other not in self.cast:
            self.cast.add(other)
            self.nodes.append(
                helper.make_node("Cast", [name], [other], name=f"cast_{other}", to=kind)
            )
        return other

    def _constant(self, name: str, kind: int) -> str:
        """A constant in a type: the first one keeps the name."""
        first = self.stored.get(name)
        stored = name if first is None or first.data_type == kind else name + SUFFIX[kind]
        if stored not in self.stored:
            value = _array(self.constants[name])
            kept = value.astype(np.float16) if kind == HALF else value
            self.stored[stored] = numpy_helper.from_array(kept, stored)
        return stored


def _normalising(graph: onnx.GraphProto) -> set[int]:
    """Numbers of the nodes from a norm to the division by it."""
    found: set[int] = set()
    lengths: set[str] = set()
    for number, node in enumerate(graph.node):
        behind = bool(lengths.intersection(node.input))
        if node.op_type in NORMS or (behind and node.op_type in SCALING):
            lengths.update(node.output)
            found.add(number)
        elif behind and node.op_type in DIVIDING:
            found.add(number)
    return found


def _in_range(value: NDArray[np.float32]) -> bool:
    """Whether fp16 holds an array: nothing beyond its range, not all of it in the subnormals."""
    largest = float(np.abs(value).max(initial=0.0))
    return largest == 0 or SMALLEST_NORMAL <= largest <= LARGEST


def _all_normal(value: NDArray[np.float32]) -> bool:
    return bool(((value >= SMALLEST_NORMAL) & (value <= LARGEST)).all())


def _array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    return np.asarray(numpy_helper.to_array(tensor))


def _refuse_inner_graphs(node: onnx.NodeProto) -> None:
    if any(_inner(part) for part in node.attribute):
        raise ModelError(f"{node.op_type} {node.name} holds a graph of its own; fp16 has no rule")


def _inner(part: onnx.AttributeProto) -> bool:
    return part.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
