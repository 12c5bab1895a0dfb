"""Where two ONNX graphs part: intermediate tensors of the same name, compared in onnxruntime.

An fp16 or int8 graph keeps the names of the fp32 one it was made from, so each layer's output can
be laid beside its original: cosine and relative error over all values of all patches, summed patch
by patch so that memory does not grow with their number.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from skyfix.runtime.engines.onnx import INPUT_NAME, available_cores
from skyfix.runtime.errors import InputError

MOVING = {  # operators that compute nothing, or whose output is no layer
    "Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Expand", "Flatten",
    "Gather", "Identity", "QuantizeLinear", "Reshape", "Shape", "Slice", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip

Values = NDArray[np.float64]


@dataclass(frozen=True)
class LayerDifference:
    """One tensor in both graphs."""

    name: str
    operator: str
    cosine: float
    relative_error: float  # root of the summed squares of the difference over those of the first


@dataclass
class _Sums:
    """Running dot products of one tensor in both graphs."""

    dot: float = 0.0
    first: float = 0.0
    second: float = 0.0
    difference: float = 0.0
    shapes_agree: bool = field(default=True)

    def add(self, first: Values, second: Values) -> None:
        if first.shape != second.shape:
            self.shapes_agree = False
            return
        self.dot += float(np.vdot(first, second))
        self.first += float(np.vdot(first, first))
        self.second += float(np.vdot(second, second))
        self.difference += float(np.sum((first - second) ** 2))


def layer_differences(
    first: Path, second: Path, batch: NDArray[np.float32]
) -> list[LayerDifference]:
    """Every compared tensor that both graphs name, in the first one's order.

    Raises InputError where they share no name.
    """
    models = [onnx.load(path) for path in (first, second)]
    operators = _outputs(models[0])
    other = _outputs(models[1])
    names = [name for name in operators if name in other]
    if not names:
        raise InputError(
            f"{first} and {second} share no layer names: compare graphs that were exported from "
            "one checkpoint"
        )
    sums = {name: _Sums() for name in names}
    sessions = [_session(model, names) for model in models]
    for patch in batch:
        found = [session.run(names, {INPUT_NAME: patch[None]}) for session in sessions]
        for name, *pair in zip(names, *found, strict=True):
            sums[name].add(*(np.asarray(values, np.float64).ravel() for values in pair))
    return [
        _difference(name, operators[name], total)
        for name, total in sums.items()
        if total.shapes_agree
    ]


def parting(differences: list[LayerDifference], gate: float) -> LayerDifference | None:
    """The first layer below the gate."""
    return next((layer for layer in differences if not layer.cosine >= gate), None)


def _difference(name: str, operator: str, sums: _Sums) -> LayerDifference:
    norm = np.sqrt(sums.first * sums.second)
    same_zero = sums.first == sums.second == 0
    cosine = 1.0 if same_zero else sums.dot / norm if norm > 0 else 0.0
    error = np.sqrt(sums.difference / sums.first) if sums.first > 0 else np.sqrt(sums.difference)
    return LayerDifference(name, operator, float(cosine), float(error))


def _outputs(model: onnx.ModelProto) -> dict[str, str]:
    """Names of the layers' tensors and their operators, without the graph's own output."""
    final = {output.name for output in model.graph.output}
    return {
        node.output[0]: node.op_type
        for node in model.graph.node
        if node.op_type not in MOVING and node.output[0] not in final
    }


def _session(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """The graph with more outputs, not optimised: fused layers would have none."""
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
