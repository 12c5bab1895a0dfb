"""OpenVINO on the CPU: for ground stations with an x86 processor.

An fp32 graph is computed in fp32, as onnxruntime does. bf16 is a wish of the caller
(`openvino-bf16`) or of the graph (fp16 and int8 ones), and only processors that have it grant it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, MissingExtraError, ModelError
from .base import GraphCard
from .onnx import INPUT_NAME, OUTPUT_NAME, available_cores

DEVICE = "CPU"
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
        core = openvino.Core()
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
            compiled = core.compile_model(graph, DEVICE, options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {graph}: {error}. Export it again.") from error
        self._request = compiled.create_infer_request()
        self.card = card

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        found = self._request.infer({INPUT_NAME: np.ascontiguousarray(batch)}, share_inputs=True)
        return np.array(found[OUTPUT_NAME], np.float32)  # a copy: the next call overwrites it
