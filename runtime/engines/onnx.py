"""onnxruntime on the CPU: the embedded default."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError, ModelError
from .base import GraphCard
from .tensors import DESCRIPTOR_NAME, PATCH_NAME, Tensor, patch_form, refuse_foreign, shape_of

INPUT_NAME = PATCH_NAME
OUTPUT_NAME = DESCRIPTOR_NAME


class OnnxEngine:
    """One ONNX graph: float32 (B, 3, H, W) to (B, D), any B."""

    def __init__(self, graph: Path, card: GraphCard, threads: int = 0) -> None:
        """Load a graph; `threads` 0 takes every core this process may run on."""
        try:
            import onnxruntime  # noqa: PLC0415  (optional: only this engine needs it)
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "cpu") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3  # errors only; they come as exceptions as well
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise ModelError(f"{graph} cannot be loaded: {error}. Export it again.") from error
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        found = [Tensor(end.name, end.type, shape_of(end.shape)) for end in ends]
        refuse_foreign(str(graph), found, patch_form(card, graph.name))
        self.card = card

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        (descriptors,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        return np.asarray(descriptors, np.float32)


def available_cores() -> int:
    """Cores this process may run on; all of the machine's where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
