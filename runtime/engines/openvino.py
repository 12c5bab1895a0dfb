"""OpenVINO on the CPU: for ground stations with an x86 processor.

An fp32 graph is computed in fp32, as onnxruntime does. bf16 is a wish of the caller
(`openvino-bf16`) or of the graph (fp16 and int8 ones), and only processors that have it grant it.

Where the batch is free OpenVINO fuses less and asks for every shape again: a graph compiled for one
patch takes two thirds of the time, one for eight patches four fifths. Batches run in parts of eight
therefore, and what is left through a graph of any batch; all are compiled at the start.
"""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, MissingExtraError, ModelError
from .base import GraphCard
from .onnx import INPUT_NAME, OUTPUT_NAME, available_cores
from .tensors import Tensor, patch_form, refuse_foreign, shape_of

if TYPE_CHECKING:
    import openvino
    from openvino import Output
    from openvino.frontend import NodeContext
    from openvino.frontend.onnx import ConversionExtension

OPERATOR, DOMAIN, EPSILON = "LinearAttention", "skyfix", "epsilon"  # docs/formats.md, graphs
DEVICE = "CPU"
PART = 8  # patches; larger parts gain little more
FIXED_BATCHES = (1, PART)
F32, BF16 = "f32", "bf16"  # OpenVINO's words


class OpenVinoEngine:
    """One ONNX graph: float32 (B, 3, H, W) to (B, D), any B."""

    def __init__(
        self, graph: Path, card: GraphCard, threads: int = 0, *, bf16: bool = False
    ) -> None:
        """Load a graph; `threads` 0 takes every core this process may run on."""
        try:
            import openvino  # noqa: PLC0415  (optional: only this engine needs it)
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino") from error
        core = shared_core(openvino)
        has_bf16 = "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if bf16 and not has_bf16:
            raise EngineError(
                "this processor has no bf16 instructions, so OpenVINO would not be faster by "
                "them: take --engine openvino"
            )
        self.precision = BF16 if bf16 or (has_bf16 and card.precision != "fp32") else F32
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads or available_cores()),
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        try:
            model = core.read_model(graph)
            compiled = core.compile_model(model, DEVICE, options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {graph}: {error}. Export it again.") from error
        ends = (*compiled.inputs, *compiled.outputs)
        found = [
            Tensor(
                end.get_any_name(), end.get_element_type().get_type_name(),
                shape_of([None if side.is_dynamic else side.get_length()
                          for side in end.get_partial_shape()]),
            )
            for end in ends
        ]  # fmt: skip
        refuse_foreign(str(graph), found, patch_form(card, graph.name))
        self._any = compiled.create_infer_request()
        try:
            self._fixed = {
                batch: core.compile_model(
                    _of_batch(model, batch), DEVICE, options
                ).create_infer_request()
                for batch in FIXED_BATCHES
            }
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {graph}: {error}. Export it again.") from error
        self.card = card

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        parts = [batch[start : start + PART] for start in range(0, len(batch), PART)]
        return np.concatenate([self._part(np.ascontiguousarray(part)) for part in parts])

    def _part(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        request = self._fixed.get(len(part), self._any)
        found = request.infer({INPUT_NAME: part}, share_inputs=True)
        return np.array(found[OUTPUT_NAME], np.float32)  # a copy: the next call overwrites it


@cache
def shared_core(package: ModuleType) -> "openvino.Core":
    """OpenVINO's library of devices, one for the whole process and never let go.

    Each Core with a CPU device sets a signal stack of its own, and sets the former one back when it
    goes. Let go in the order of their making, the second leaves the thread with the memory that the
    first has given back, and the next signal ends the process (OpenVINO 2026.4).
    """
    core: openvino.Core = package.Core()
    core.add_extension(linear_attention())
    return core


def _of_batch(model: "openvino.Model", batch: int) -> "openvino.Model":
    """The graph for batches of one size."""
    fixed = model.clone()
    shape = fixed.input(INPUT_NAME).get_partial_shape()
    shape[0] = batch
    if batch == 1:
        _copied_before_joining(fixed)
    fixed.reshape({INPUT_NAME: shape})
    return fixed


def linear_attention() -> "ConversionExtension":
    """What OpenVINO makes of the node that other engines take as a function or a plugin.

    phi(q) (phi(k)^T v) / (phi(q) . sum phi(k) + epsilon),    phi = elu + 1
    """
    from openvino import opset13 as op  # noqa: PLC0415  (optional: only this engine needs it)
    from openvino.frontend.onnx import ConversionExtension  # noqa: PLC0415  (likewise)

    def converted(node: "NodeContext") -> "list[Output]":
        query, key, value = (node.get_input(index) for index in range(3))
        weight, weights = (op.add(op.elu(x, 1.0), op.convert_like(np.float32(1), x))
                           for x in (query, key))  # fmt: skip
        tokens = op.constant(np.array([2], np.int64))
        outer = op.matmul(weights, value, transpose_a=True, transpose_b=False)
        total = op.reduce_sum(weights, tokens, keep_dims=True)
        mixed = op.matmul(weight, outer, transpose_a=False, transpose_b=False)
        norm = op.matmul(weight, total, transpose_a=False, transpose_b=True)
        if not node.has_attribute(EPSILON):
            raise ModelError(f"a node {OPERATOR} does not state its {EPSILON}")
        epsilon = op.convert_like(np.float32(node.get_attribute(EPSILON)), query)
        return [op.divide(mixed, op.add(norm, epsilon)).output(0)]

    return ConversionExtension(OPERATOR, DOMAIN, converted)


def _copied_before_joining(model: "openvino.Model") -> None:
    """Let every tensor that is concatenated but also read elsewhere be copied first.

    With a batch of one OpenVINO 2026.4 has the maker of such a tensor write into the joint one, and
    the other readers get wrong values (nano: descriptors off by 2e-3 in f32). A roll by nothing is
    a copy that it does not see through, as it does through an addition of zero.
    """
    from openvino import opset13 as op  # noqa: PLC0415  (optional: only this engine needs it)

    joints = [node for node in model.get_ops() if node.get_type_name() == "Concat"]
    for end in (end for node in joints for end in node.inputs()):
        source = end.get_source_output()
        if len(source.get_target_inputs()) > 1 and source.get_element_type().is_real():
            nothing, last = op.constant(np.array([0])), op.constant(np.array([-1]))
            end.replace_source_output(op.roll(source, nothing, last).output(0))
