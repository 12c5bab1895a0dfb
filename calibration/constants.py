"""Tensors of a graph that no input changes: initialisers, and what is computed from them alone.

An exporter may leave a weight as Transpose(Mul(weight, scale)); it is as constant as any other.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FOLDABLE = {"Add", "Cast", "Div", "Identity", "Mul", "Reshape", "Squeeze", "Sub", "Transpose",
            "Unsqueeze"}  # fmt: skip
DEPTH = 8  # of a chain of them; weights have two or three

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Constants:
    """The constant tensors of one graph, computed when they are asked for."""

    graph: onnx.GraphProto
    initializers: dict[str, onnx.TensorProto] = field(init=False)
    makers: dict[str, onnx.NodeProto] = field(init=False)  # output -> the node that makes it

    def __post_init__(self) -> None:
        """Index the graph by name."""
        stored = {tensor.name: tensor for tensor in self.graph.initializer}
        makers = {name: node for node in self.graph.node for name in node.output}
        object.__setattr__(self, "initializers", stored)
        object.__setattr__(self, "makers", makers)

    def value(self, name: str, depth: int = DEPTH) -> Array | None:
        """The tensor of a name; None where it depends on an input."""
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.makers.get(name)
        if node is None or depth == 0:
            return None
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
        if node.op_type not in FOLDABLE or node.domain:
            return None
        inputs = {part: self.value(part, depth - 1) for part in node.input}
        if any(part is None for part in inputs.values()):
            return None
        (found,) = ReferenceEvaluator(node).run(None, inputs)
        return np.asarray(found)

    def roots(self, name: str, depth: int = DEPTH) -> list[str]:
        """The initialisers that a constant tensor comes from, the first input's first."""
        if name in self.initializers or depth == 0:
            return [name]
        node = self.makers.get(name)
        return [root for part in node.input for root in self.roots(part, depth - 1)] if node else []


def used_names(nodes: list[onnx.NodeProto]) -> set[str]:
    """Tensors that nodes read, those of their inner graphs included."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else []
            for graph in (*inner, *attribute.graphs):
                names |= used_names(list(graph.node))
                names.update(output.name for output in graph.output)
    return names


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initialisers that nothing reads any more."""
    nodes = list(graph.node)
    while True:
        needed = used_names(nodes) | {output.name for output in graph.output}
        kept = [node for node in nodes if needed.intersection(node.output)]
        if len(kept) == len(nodes):
            break
        nodes = kept
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    alive = needed | {name for node in nodes for name in node.output}
    infos = [info for info in graph.value_info if info.name in alive]
    for field_name, values in (("node", nodes), ("initializer", stored), ("value_info", infos)):
        graph.ClearField(field_name)
        getattr(graph, field_name).extend(values)


def attribute_of(node: onnx.NodeProto, name: str, default: object) -> object:
    """The value of a node's attribute."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
