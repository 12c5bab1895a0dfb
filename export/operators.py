"""What TensorRT 10.3 takes of ONNX (the table beside this file), and what a graph has beyond it.

An operator is outside where the table has not its name, or not the type of its data (its first
input), or where an input is computed that the table says must be constant. Nodes of the plugin are
inside where the plugin is. JetPack 6 has TensorRT 10.3, and later versions take all that it takes.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import onnx
from onnx import TensorProto

from skyfix.runtime.errors import ModelError

from .plugins.linear_attention.node import NAMESPACE, OPERATOR

TABLE = "tensorrt_10_3.csv"
OPSETS = range(9, 21)  # of ONNX: 9 to 20
STANDARD = {"", "ai.onnx"}
CONSTANT_INPUTS = {"axes constant": 1, "axis constant": 1}  # limit -> which input
TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8", TensorProto.INT32: "INT32", TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8", TensorProto.BOOL: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """One line of the table."""

    types: frozenset[str]  # "FP32", "INT64", ...
    constant_input: int | None  # that must be an initializer


@cache
def table() -> dict[str, Operator]:
    """Operators of the table by name."""
    text = files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        row["operator"]: Operator(
            frozenset(row["types"].split()), CONSTANT_INPUTS.get(row["limits"])
        )
        for row in csv.DictReader(lines)
    }


def operators_outside(model: onnx.ModelProto, *, plugin: bool = True) -> list[str]:
    """What TensorRT 10.3 would refuse of a graph: operator, node and why; empty where nothing."""
    types = element_types(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    found = [
        f"opset {entry.version} (TensorRT 10.3 takes {OPSETS[0]} to {OPSETS[-1]})"
        for entry in model.opset_import
        if entry.domain in STANDARD and entry.version not in OPSETS
    ]
    for node in model.graph.node:
        if plugin and (node.domain, node.op_type) == (NAMESPACE, OPERATOR):
            continue
        fault = _fault(node, types, constants)
        if fault:
            found.append(f"{node.op_type} {node.name} ({fault})")
    return found


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types (TensorProto's numbers) of the tensors of a graph, as far as inference goes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        types[info.name] = info.type.tensor_type.elem_type
    return {name: kind for name, kind in types.items() if kind != TensorProto.UNDEFINED}


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard operators; raises ModelError where a graph names none."""
    for entry in model.opset_import:
        if entry.domain in STANDARD:
            return int(entry.version)
    raise ModelError("the graph names no opset of standard operators. Export the model again.")


def _fault(node: onnx.NodeProto, types: dict[str, int], constants: set[str]) -> str:
    """Why a node is outside the table; empty where it is not."""
    if node.domain not in STANDARD:
        return f"of {node.domain}"
    operator = table().get(node.op_type)
    if operator is None:
        return "not in the table"
    kind = types.get(node.input[0]) if node.input else None
    if kind is not None and TYPES.get(kind) not in operator.types:
        return f"of {TYPES.get(kind) or TensorProto.DataType.Name(kind)}"
    index = operator.constant_input
    if index is not None and len(node.input) > index and node.input[index] not in constants:
        return f"{node.input[index]} is computed"
    return ""
