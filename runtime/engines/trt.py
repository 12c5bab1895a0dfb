"""TensorRT: an engine that was built on this device, replayed as one CUDA graph a batch.

    pinned input -> device -> engine -> device -> pinned output      all on one stream

The library sees a file only when its record agrees with everything here (built.py), and the engine
is used only when `skyfix export verify` has not found it wrong.
"""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CudaError, DeviceMemoryError, EngineError
from .base import GraphCard
from .built import EngineRecord, finding_of, verified_bytes
from .cuda import Device, Graph, Stream, open_device
from .onnx import INPUT_NAME, OUTPUT_NAME
from .trt_library import machine_here, new_logger, register_plugin, require_tensorrt, told

if TYPE_CHECKING:
    import tensorrt as trt

NAME = "tensorrt"
MAX_PLANS = 8  # batch sizes that keep their context, buffers and graph; the least used one goes

log = logging.getLogger(__name__)


class TensorRTEngine:
    """One engine: float32 (B, 3, H, W) to (B, D); a B above the profile's runs in parts."""

    def __init__(self, graph: Path, card: GraphCard, *, unchecked: bool = False) -> None:
        """Load the engine of a graph; `unchecked` takes one that failed or had no check.

        Raises EngineError, CudaError.
        """
        self._device = open_device()  # before TensorRT, which crashes without a GPU
        require_tensorrt()
        data, record = verified_bytes(graph, machine_here(self._device))
        if not unchecked:
            refuse_failed(graph, record)
        for plugin in record.plugins:
            register_plugin(plugin)
        self.card, self.record = card, record
        self._errors: list[str] = []
        self._engine = self._deserialised(data, graph)
        self._shapes = self._profile(graph)
        self._stream = self._device.stream()
        self._plans: OrderedDict[int, Plan] = OrderedDict()

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        largest = self.record.options.max_batch
        parts = [batch[start : start + largest] for start in range(0, len(batch), largest)]
        return np.concatenate([self._plan(len(part)).run(part) for part in parts])

    def _plan(self, batch: int) -> "Plan":
        plan = self._plans.pop(batch, None)
        if plan is None:
            if len(self._plans) == MAX_PLANS:
                self._plans.popitem(last=False)
            plan = Plan(self._device, self._stream, self._context(), batch, self._shapes)
        self._plans[batch] = plan  # the last is the one used last
        return plan

    def _context(self) -> "trt.IExecutionContext":
        context = self._engine.create_execution_context()
        if context is None:
            free, total = self._device.memory()
            raise DeviceMemoryError(
                f"TensorRT has no execution context to give ({told(self._errors)}); "
                f"{free >> 20} of {total >> 20} MiB are free on the GPU. End other programs on it."
            )
        return context

    def _deserialised(self, data: bytes, graph: Path) -> "trt.ICudaEngine":
        import tensorrt as trt  # noqa: PLC0415  (as above: JetPack's, and only here)

        self._logger = new_logger(self._errors)
        try:
            self._runtime = trt.Runtime(self._logger)
            engine = self._runtime.deserialize_cuda_engine(data)
        except TypeError as error:  # "factory function returned nullptr"
            raise EngineError(f"TensorRT does not start: {told(self._errors)}") from error
        if engine is None:
            raise EngineError(
                f"TensorRT cannot read the engine of {graph.name}: {told(self._errors)}. "
                f"Build it again on this device: skyfix export engine {graph.parent}"
            )
        return engine

    def _profile(self, graph: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of one patch and of one descriptor; raises EngineError for other tensors."""
        import tensorrt as trt  # noqa: PLC0415  (as above: JetPack's, and only here)

        engine = self._engine
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        types = {engine.get_tensor_dtype(name) for name in found}
        if found != {INPUT_NAME, OUTPUT_NAME} or types != {trt.DataType.FLOAT}:
            raise EngineError(
                f"the engine of {graph.name} has the tensors {', '.join(sorted(found))}; it needs "
                f"{INPUT_NAME} and {OUTPUT_NAME}, both float32. Export the model again."
            )
        patch = _shape(engine.get_tensor_profile_shape(INPUT_NAME, 0)[2])[1:]
        descriptor = _shape(engine.get_tensor_shape(OUTPUT_NAME))[1:]
        if descriptor != (self.card.dimension,):
            raise EngineError(
                f"the engine of {graph.name} gives {descriptor}, the card says "
                f"{self.card.dimension} numbers. Export the model again."
            )
        return patch, descriptor


class Plan:
    """One batch size: its own context, as each captured graph needs, its buffers and graph."""

    def __init__(
        self,
        device: Device,
        stream: Stream,
        context: "trt.IExecutionContext",
        batch: int,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        self._stream, self._context = stream, context
        self._host_in, self._host_out = (
            device.pinned((batch, *shape), np.float32) for shape in shapes
        )
        self._in, self._out = (
            device.buffer(host.array.nbytes) for host in (self._host_in, self._host_out)
        )
        if not (
            context.set_input_shape(INPUT_NAME, self._host_in.array.shape)
            and context.set_tensor_address(INPUT_NAME, self._in.address)
            and context.set_tensor_address(OUTPUT_NAME, self._out.address)
        ):
            raise EngineError(f"the engine does not take batches of {batch}; build it with --batch")
        self._host_in.array[:] = 0
        self._enqueue()  # once before the capture: kernels are loaded at their first use
        stream.synchronize()
        self._graph = self._captured()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Descriptors of one batch of this plan's size."""
        self._host_in.array[:] = batch
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._stream.synchronize()
        return np.array(self._host_out.array, np.float32)

    def _captured(self) -> Graph | None:
        try:
            with self._stream.capture() as capture:
                self._enqueue()
        except (CudaError, EngineError) as error:
            log.warning("no CUDA graph, every step is launched by itself: %s", error)
            return None
        return capture.graph

    def _enqueue(self) -> None:
        source, target = self._host_in, self._host_out
        self._stream.copy_to_device(self._in.address, source.address, source.array.nbytes)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError("TensorRT has refused to run; its messages are in the log")
        self._stream.copy_to_host(target.address, self._out.address, target.array.nbytes)


def refuse_failed(graph: Path, record: EngineRecord) -> None:
    """Raise EngineError for an engine that the check found wrong; warn where none was made."""
    finding = finding_of(graph.parent, NAME, record.engine_sha256)
    if finding is None:
        log.warning(
            "the engine of %s was never compared with its graph on this device: "
            "run `skyfix export verify %s`", graph.name, graph.parent,
        )  # fmt: skip
    elif not finding.passed:
        raise EngineError(
            f"the engine of {graph.name} failed its check: smallest cosine to {finding.reference} "
            f"{finding.min_cosine:.5f}, at least {finding.gate:g} is needed. Export with another "
            "--precision, or name --engine tensorrt-unchecked to use it all the same."
        )


def _shape(dims: "trt.Dims") -> tuple[int, ...]:
    return tuple(dims[axis] for axis in range(len(dims)))  # Dims has no iterator
