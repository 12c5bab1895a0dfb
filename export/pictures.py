"""The aircraft's normalisation (runtime/encoder.py) as ONNX operators in front of a graph.

    picture (B, H, W, 3) uint8, valid (B, H, W) uint8, 0 or 1   ->   patch (B, 3, H, W) float32

    x = picture as float32, channels first;  v = valid as float32, (B, 1, H, W)
    card with mean, std:   patch = v (x - 255 mean) (1 / 255 std)
    card without:          m = sum(v x) / max(sum(v), 1)
                           d = v (x - m);  s = sqrt(sum(d d) / max(sum(v), 1))
                           patch = d (1 / max(s, 255 MIN_STD))

Everything is fp32, whatever the precision of the graph behind it. TensorRT takes uint8 at the
network's edge only, so both inputs are cast at once. The graph's own `patch` stays as a tensor,
and an engine that is built from the result is fed without a float on the CPU.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skyfix.runtime.encoder import MIN_STD
from skyfix.runtime.engines.base import GraphCard
from skyfix.runtime.engines.tensors import PATCH_NAME, PICTURE_NAME, VALID_NAME
from skyfix.runtime.errors import ModelError

MIN_OPSET = 13  # axes of Unsqueeze and ReduceSum as inputs
PREFIX = "pictures/"  # of every name that is added


def with_preprocessing(model: onnx.ModelProto, card: GraphCard) -> onnx.ModelProto:
    """A copy of a graph that takes pictures and their valid pixels; raises ModelError."""
    height, width = _size(model)
    front = _Front()
    picture = front.add("Transpose", front.cast(PICTURE_NAME), perm=[0, 3, 1, 2])
    valid = front.add("Unsqueeze", front.cast(VALID_NAME), front.axes(1))
    if card.mean is not None and card.std is not None:
        front.by_card(picture, valid, card.mean, card.std)
    else:
        front.by_own_pixels(picture, valid)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    del graph.input[:], graph.node[:]
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
        for name, shape in (
            (PICTURE_NAME, [batch, height, width, 3]),
            (VALID_NAME, [batch, height, width]),
        )
    )
    graph.node.extend([*front.nodes, *model.graph.node])
    graph.initializer.extend(front.constants)
    onnx.checker.check_model(result)
    return result


class _Front:
    """The nodes as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One node; the name of its output."""
        name = f"{PREFIX}{operator}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, inputs, [output or name], name=name, **attributes)
        )
        return output or name

    def cast(self, source: str) -> str:
        """Bytes as float32."""
        return self.add("Cast", source, to=TensorProto.FLOAT)

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """An initializer."""
        name = f"{PREFIX}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def axes(self, *axes: int) -> str:
        """Axes for an operator that takes them as an input."""
        return self.constant(np.array(axes, np.int64))

    def number(self, value: float) -> str:
        """A float32 for every channel and pixel."""
        return self.constant(np.full((1, 1, 1, 1), value, np.float32))

    def by_card(self, picture: str, valid: str, mean: list[float], std: list[float]) -> None:
        """The card's numbers, as `normalised` rounds them."""
        offset, scale = (
            (np.asarray(part, np.float32) * np.float32(255)).reshape(1, 3, 1, 1)
            for part in (mean, std)
        )
        centred = self.add("Sub", picture, self.constant(offset))
        scaled = self.add("Mul", centred, self.constant(np.float32(1) / scale))
        self.add("Mul", scaled, valid, output=PATCH_NAME)

    def by_own_pixels(self, picture: str, valid: str) -> None:
        """Each patch and channel by its own valid pixels, in two passes."""
        count = self.add("Max", self._sum(valid), self.number(1))
        mean = self.add("Div", self._sum(self.add("Mul", picture, valid)), count)
        centred = self.add("Mul", self.add("Sub", picture, mean), valid)
        variance = self.add("Div", self._sum(self.add("Mul", centred, centred)), count)
        std = self.add("Max", self.add("Sqrt", variance), self.number(MIN_STD * 255))
        inverse = self.add("Div", self.number(1), std)
        self.add("Mul", centred, inverse, output=PATCH_NAME)

    def _sum(self, values: str) -> str:
        return self.add("ReduceSum", values, self.axes(2, 3), keepdims=1)


def _size(model: onnx.ModelProto) -> tuple[int, int]:
    """Height and width of the patches that a graph takes; raises ModelError for other graphs."""
    inputs = [value.name for value in model.graph.input]
    if inputs != [PATCH_NAME]:
        raise ModelError(f"the graph takes {', '.join(inputs)}; pictures go in front of `patch`")
    taken = model.graph.input[0].type.tensor_type
    sides = [dimension.dim_value for dimension in taken.shape.dim]
    if taken.elem_type != TensorProto.FLOAT or len(sides) != 4 or sides[1] != 3 or 0 in sides[2:]:
        raise ModelError("the graph's `patch` is not float32 (batch, 3, height, width)")
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if opset < MIN_OPSET:
        raise ModelError(f"the graph is of opset {opset}, pictures need {MIN_OPSET}. Export again.")
    return sides[2], sides[3]
