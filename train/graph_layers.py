"""The layers of an ONNX graph: operators with constant operands, and what these were made of.

    Conv, Gemm, MatMul with a constant on its right       linear: weight (out, in, ...), bias
    LayerNormalization, GroupNormalization,
    InstanceNormalization with a Mul and an Add after it  norm: weight, bias
    BatchNormalization                                    batch norm: weight, bias, mean, variance
    any other Mul with an Add after it                    affine: what is left of a batch norm

Constants computed from others in the graph (a transposed or scaled weight) are computed first.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from skyfix.runtime.errors import ModelError

if TYPE_CHECKING:
    import onnx

PREFIX = "network."  # the exporter wraps the network once
FOLDED = {"Transpose", "Mul", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Cast", "Identity"}
PASSING = {"Reshape", "Transpose", "Cast", "Identity"}  # between a norm and its scale

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator and its constants."""

    kind: str  # "linear", "norm", "batch norm" or "affine"
    names: frozenset[str]  # of the initializers that the constants were made of, prefix off
    parts: Mapping[str, torch.Tensor]

    def fits(self, like: Mapping[str, torch.Tensor]) -> bool:
        """Whether the parts have these shapes, axes of length 1 apart."""
        return all(
            key in self.parts and _bare(self.parts[key]) == _bare(value)
            for key, value in like.items()
        )

    def shaped(self, like: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """The parts of these names in these shapes."""
        for key, value in like.items():
            yield key, self.parts[key].reshape(value.shape)

    def __str__(self) -> str:
        shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in self.parts.items())
        return f"{self.kind} ({shapes})"


def layers_from_graph(path: Path) -> list[Layer]:
    """The layers in the graph's order; raises ModelError for a graph that is not fp32."""
    import onnx  # noqa: PLC0415  only those who start from a graph need it

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's errors share no public base
        raise ModelError(f"{path} is no ONNX graph ({error}). Export the model again") from error
    constants = _Constants(graph)
    if any(value.dtype == np.float16 for value in constants.values.values()) or any(
        "QuantizeLinear" in node.op_type for node in graph.node
    ):
        raise ModelError(
            f"{path} holds rounded weights (fp16 or int8), no start for training. Take the fp32 "
            "model that it was made from, or its checkpoint folder"
        )
    return list(_layers(graph, constants))


class _Constants:
    """All constant values of a graph, and the named initializers behind each."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        from onnx import numpy_helper  # noqa: PLC0415  as above
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

        self.values: dict[str, Array] = {
            one.name: numpy_helper.to_array(one) for one in graph.initializer
        }
        uses = Counter(name for node in graph.node for name in node.input)
        self.names = {  # exporters keep equal constants once: such a name says nothing of its users
            name: frozenset({name.removeprefix(PREFIX)}) for name in self.values if uses[name] == 1
        }
        for node in graph.node:
            if node.op_type in FOLDED and all(name in self.values for name in node.input):
                feeds = {name: self.values[name] for name in node.input}
                (value,) = ReferenceEvaluator(node).run(None, feeds)
                self.values[node.output[0]] = np.asarray(value)
                self.names[node.output[0]] = self.behind(node.input)

    def behind(self, inputs: Iterable[str]) -> frozenset[str]:
        """The initializers that these constants were made of."""
        return frozenset().union(*(self.names.get(name, frozenset()) for name in inputs))

    def tensor(self, name: str) -> torch.Tensor:
        """A constant as a tensor of its own."""
        return torch.from_numpy(np.array(self.values[name], dtype=np.float32))


Users = Mapping[str, list["onnx.NodeProto"]]  # of a tensor by its name


def _layers(graph: "onnx.GraphProto", constants: _Constants) -> Iterator[Layer]:
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    scales = []  # of norms that are written out
    for node in graph.node:
        layer = _layer(node, users, constants)
        if layer is not None:
            yield layer
        elif node.op_type == "InstanceNormalization":
            scale = _constant_after(node, "Mul", users, constants)
            written_out = scale and _affine(scale[0], "norm", users, constants)
            if scale and written_out:
                scales.append(scale[0])
                yield written_out
        elif node.op_type == "Mul" and node not in scales:
            affine = _affine(node, "affine", users, constants)
            if affine is not None:
                yield affine


def _layer(node: "onnx.NodeProto", users: Users, constants: _Constants) -> Layer | None:
    """The layer that a node is by itself, a bias added after it included."""
    known = [name for name in node.input[1:] if name in constants.values]
    if node.op_type in {"Conv", "Gemm", "MatMul"} and known[:1] == [node.input[1]]:
        flat = constants.values[known[0]].ndim == 2
        return _linear(node, known, users, constants) if flat or node.op_type == "Conv" else None
    if node.op_type in {"LayerNormalization", "GroupNormalization"}:
        return _of(("weight", "bias"), "norm", known, constants)
    if node.op_type == "BatchNormalization":
        parts = ("weight", "bias", "running_mean", "running_var")
        return _of(parts, "batch norm", known, constants)
    return None


def _affine(node: "onnx.NodeProto", kind: str, users: Users, constants: _Constants) -> Layer | None:
    """A product with a constant, and the sum with one after it."""
    factors = [name for name in node.input if name in constants.values]
    shift = _constant_after(node, "Add", users, constants, ())
    if len(factors) != 1 or shift is None:
        return None
    return _of(("weight", "bias"), kind, [factors[0], shift[1]], constants)


def _of(parts: Iterable[str], kind: str, names: list[str], constants: _Constants) -> Layer:
    tensors = {
        part: constants.tensor(name).flatten() for part, name in zip(parts, names, strict=False)
    }
    return Layer(kind, constants.behind(names), tensors)


def _linear(
    node: "onnx.NodeProto",
    known: list[str],
    users: Users,
    constants: _Constants,
) -> Layer:
    """Weight (out, in, ...) and bias, whether it is the operator's own or added after it."""
    weight = constants.tensor(known[0])
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    if node.op_type != "Conv" and not turned:
        weight = weight.transpose(-1, -2)
    parts = {"weight": weight}
    if len(known) == 1 and (added := _constant_after(node, "Add", users, constants, ())):
        known = [*known, added[1]]
    if len(known) > 1 and constants.values[known[1]].size == len(weight):
        parts["bias"] = constants.tensor(known[1]).flatten()
    return Layer("linear", constants.behind(known), parts)


def _constant_after(
    node: "onnx.NodeProto",
    operator: str,
    users: Users,
    constants: _Constants,
    passing: Iterable[str] = PASSING,
) -> tuple["onnx.NodeProto", str] | None:
    """The one user of a node's output, if it is this operator with a constant; that constant."""
    following = users[node.output[0]]
    while len(following) == 1 and following[0].op_type in passing:
        following = users[following[0].output[0]]
    if len(following) != 1 or following[0].op_type != operator:
        return None
    known = [name for name in following[0].input if name in constants.values]
    return (following[0], known[0]) if known else None


def _bare(value: torch.Tensor) -> tuple[int, ...]:
    return tuple(side for side in value.shape if side != 1)
