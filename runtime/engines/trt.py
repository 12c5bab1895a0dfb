"""TensorRT: an engine that was built on this device, replayed as one CUDA graph a batch.

    pinned inputs -> device -> engine -> device -> pinned output      all on one stream

The library sees a file only when its record agrees with everything here (built.py), and the engine
is used only when `skyfix export verify` has not found it wrong. An engine takes what its graph
took, and its tensors tell which: pictures as bytes where the graph normalises them, with their
valid pixels 4 bytes a pixel, or patches that were normalised here, 12 bytes a pixel.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceMemoryError, EngineError, ModelError
from .base import Engine, GraphCard, PictureEngine
from .built import EngineRecord, finding_of, verified_bytes
from .cuda import open_device
from .split import EngineSplit
from .tensors import Tensor, patch_form, picture_form, refuse_foreign, shape_of
from .trt_library import machine_here, new_logger, register_plugin, require_tensorrt, told
from .trt_plan import Plan

if TYPE_CHECKING:
    import tensorrt as trt

NAME = "tensorrt"
MAX_PLANS = 8  # batch sizes that keep their context, buffers and graph; the least used one goes

log = logging.getLogger(__name__)


def open_tensorrt(
    graph: Path, card: GraphCard, *, unchecked: bool = False
) -> "TensorRTEngine | TensorRTPictureEngine":
    """The engine of a graph; `unchecked` takes one that failed its check.

    Raises EngineError, CudaError.
    """
    loaded = LoadedEngine(graph, card, unchecked=unchecked)
    if loaded.form == picture_form(card):
        return TensorRTPictureEngine(loaded)
    return TensorRTEngine(loaded)


class TensorRTEngine(Engine):
    """Float32 (B, 3, H, W) to (B, D)."""

    def __init__(self, loaded: "LoadedEngine") -> None:
        self.card, self.loaded = loaded.card, loaded

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        return self.loaded.run((batch,))

    def tell_splits(self, splits: list[EngineSplit]) -> None:
        """From now on append the split of every batch to a list, which the caller empties."""
        self.loaded.tell_splits(splits)


class TensorRTPictureEngine(PictureEngine):
    """Uint8 (B, H, W, 3) and (B, H, W) to (B, D): the GPU normalises."""

    def __init__(self, loaded: "LoadedEngine") -> None:
        self.card, self.loaded = loaded.card, loaded

    def describe(
        self, pictures: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of RGB pictures (B, P, P, 3) and their valid pixels (B, P, P)."""
        return self.loaded.run((pictures, valid))

    def tell_splits(self, splits: list[EngineSplit]) -> None:
        """From now on append the split of every batch to a list, which the caller empties."""
        self.loaded.tell_splits(splits)


class LoadedEngine:
    """What TensorRT runs: any batch, one above the profile's in parts."""

    def __init__(self, graph: Path, card: GraphCard, *, unchecked: bool) -> None:
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
        self.form = self._form(graph)
        self._stream = self._device.stream()
        self._plans: OrderedDict[int, Plan] = OrderedDict()
        self._splits: list[EngineSplit] | None = None
        self._plan(record.options.best_batch)  # a full GPU is told now, not at the first frame

    def tell_splits(self, splits: list[EngineSplit]) -> None:
        """From now on every batch appends its split; graphs are captured anew, with the marks."""
        self._splits = splits
        self._plans.clear()

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Descriptors (B, D) of the inputs, each (B, ...), in the order of the form."""
        batch, largest = len(inputs[0]), self.record.options.max_batch
        parts = [slice(start, start + largest) for start in range(0, batch, largest)]
        return np.concatenate([self._run_part([array[part] for array in inputs]) for part in parts])

    def _run_part(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return self._plan(len(inputs[0])).run(inputs)

    def _plan(self, batch: int) -> Plan:
        plan = self._plans.pop(batch, None)
        if plan is None:
            if len(self._plans) == MAX_PLANS:
                self._plans.popitem(last=False)
            plan = Plan(self._device, self._stream, self._context(), batch, self.form, self._splits)
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

    def _form(self, graph: Path) -> tuple[Tensor, ...]:
        """Which of the forms the engine has; raises EngineError for other tensors."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = [
            Tensor(
                name, engine.get_tensor_dtype(name).name, shape_of(engine.get_tensor_shape(name))
            )
            for name in names
        ]  # fmt: skip
        forms = (picture_form(self.card), patch_form(self.card))
        try:
            return refuse_foreign(f"the engine of {graph.name}", found, *forms)
        except ModelError as error:
            raise EngineError(str(error)) from error


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
