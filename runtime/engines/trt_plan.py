"""One batch size of a TensorRT engine: its buffers, and everything of it as one CUDA graph."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CudaError, EngineError
from .cuda import Device, DeviceBuffer, Graph, PinnedArray, Stream
from .split import EngineSplit, Marks
from .tensors import Tensor

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """The same numbers on both sides."""

    host: PinnedArray
    device: DeviceBuffer


class Plan:
    """Its own context, as each captured graph needs, its buffers and its graph."""

    def __init__(
        self,
        device: Device,
        stream: Stream,
        context: "trt.IExecutionContext",
        batch: int,
        form: tuple[Tensor, ...],
        splits: list[EngineSplit] | None,
    ) -> None:
        """Allocate and capture; `splits` gets one entry a batch, at the price of four events."""
        self._stream, self._context, self._splits = stream, context, splits
        self._marks = None if splits is None else Marks(device)
        *self._inputs, self._output = (self._pair(device, tensor, batch) for tensor in form)
        if not all(
            context.set_input_shape(tensor.name, (batch, *tensor.fixed())) for tensor in form[:-1]
        ):
            raise EngineError(f"the engine does not take batches of {batch}; build it with --batch")
        for pair in self._inputs:
            pair.host.array[:] = 0
        self._enqueue()  # once before the capture: kernels are loaded at their first use
        stream.synchronize()
        self._graph = self._captured()

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Descriptors of one batch of this plan's size."""
        for pair, array in zip(self._inputs, inputs, strict=True):
            pair.host.array[:] = array
        started_s = time.perf_counter()
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        enqueue_ms = (time.perf_counter() - started_s) * 1e3
        self._stream.synchronize()
        if self._splits is not None and self._marks is not None:
            self._splits.append(self._marks.split(enqueue_ms))
        return np.array(self._output.host.array, np.float32)

    def _pair(self, device: Device, tensor: Tensor, batch: int) -> Pair:
        host = device.pinned((batch, *tensor.fixed()), tensor.type)
        pair = Pair(host, device.buffer(host.array.nbytes))
        if not self._context.set_tensor_address(tensor.name, pair.device.address):
            raise EngineError(f"TensorRT takes no {tensor.name}; its messages are in the log")
        return pair

    def _captured(self) -> Graph | None:
        try:
            with self._stream.capture() as capture:
                self._enqueue()
        except (CudaError, EngineError) as error:
            log.warning("no CUDA graph, every step is launched by itself: %s", error)
            return None
        return capture.graph

    def _enqueue(self) -> None:
        self._mark(0)
        for pair in self._inputs:
            size = pair.host.array.nbytes
            self._stream.copy_to_device(pair.device.address, pair.host.address, size)
        self._mark(1)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError("TensorRT has refused to run; its messages are in the log")
        self._mark(2)
        host, device = self._output.host, self._output.device
        self._stream.copy_to_host(host.address, device.address, host.array.nbytes)
        self._mark(3)

    def _mark(self, border: int) -> None:
        if self._marks is not None:
            self._marks.record(border, self._stream)
