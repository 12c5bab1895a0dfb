"""CUDA as the engines use it: one device, its streams, buffers, kernels and graphs.

    device = open_device()
    stream, function = device.stream(), device.module(cubin).function("kernel")
    function.launch(grid=(80, 1, 1), block=(256, 1, 1), stream=stream.handle,
                    arguments=(c_void_p(buffer.address), c_int(n)))
    with stream.capture() as capture: ...    # what runs on the stream becomes a graph
    capture.graph.launch(stream); stream.synchronize()

Every object frees what it holds when it is collected. Streams and addresses are plain numbers, as
TensorRT hands them to a plugin. The device's primary context is used, which TensorRT shares.
"""

import ctypes
import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import CudaError
from .cuda_driver import MIN_DRIVER, Driver, installed_driver

# values of the CUDA driver API
COMPUTE_MAJOR, COMPUTE_MINOR, INTEGRATED = 75, 76, 18  # CU_DEVICE_ATTRIBUTE_...
MULTIPROCESSORS = 16  # likewise
NON_BLOCKING_STREAM = 1
THREAD_LOCAL_CAPTURE = 1  # calls of other threads cannot break the capture
EXTERNAL_EVENT = 1  # CU_EVENT_RECORD_EXTERNAL: a node of the graph, recorded at every launch
MAX_DYNAMIC_SHARED_SIZE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
SHARED_WITHOUT_ASKING = 48 * 1024  # bytes of dynamic shared memory that need no attribute

Grid = tuple[int, int, int]


class Device:
    """One GPU, its primary context current in the thread that opened it."""

    def __init__(self, index: int, driver: Driver) -> None:
        driver.call("cuInit", 0)
        version = int(driver.call("cuDriverGetVersion")[0])
        self.driver = driver
        self.cuda_version = (version // 1000, version % 1000 // 10)  # newest that it supports
        if self.cuda_version < MIN_DRIVER:
            raise CudaError(
                f"the driver supports CUDA {_dotted(self.cuda_version)}, skyfix needs "
                f"{_dotted(MIN_DRIVER)}. Update the NVIDIA driver (on a Jetson: JetPack)."
            )
        self._device = int(driver.call("cuDeviceGet", index)[0])
        self.name = driver.device_name(self._device)
        self.compute_capability = (self._attribute(COMPUTE_MAJOR), self._attribute(COMPUTE_MINOR))
        self.multiprocessors = self._attribute(MULTIPROCESSORS)
        self.integrated = bool(self._attribute(INTEGRATED))  # shares its memory with the CPU
        self._context = int(driver.call("cuDevicePrimaryCtxRetain", self._device)[0])
        self.make_current()

    def make_current(self) -> None:
        """Bind the context to this thread; each thread needs it once."""
        self.driver.call("cuCtxSetCurrent", self._context)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes on the device."""
        free, total = self.driver.call("cuMemGetInfo")
        return int(free), int(total)

    def stream(self) -> "Stream":
        """A new stream that does not wait for the default one."""
        return Stream(self.driver)

    def event(self) -> "Event":
        """A new event for timing."""
        return Event(self.driver)

    def buffer(self, size: int) -> "DeviceBuffer":
        """`size` bytes on the device; raises DeviceMemoryError where they are not there."""
        return DeviceBuffer(self.driver, size)

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> "PinnedArray":
        """A page-locked array on the host: copies from and to it are asynchronous."""
        return PinnedArray(self.driver, shape, dtype)

    def module(self, image: bytes) -> "Module":
        """Kernels from a cubin, a fatbin or PTX."""
        return Module(self.driver, image)

    def _attribute(self, attribute: int) -> int:
        return int(self.driver.call("cuDeviceGetAttribute", attribute, self._device)[0])


class DeviceBuffer:
    """Memory on the device."""

    def __init__(self, driver: Driver, size: int) -> None:
        self.size = size
        self.address = int(driver.call("cuMemAlloc", size)[0])
        _free_with(self, driver, "cuMemFree", self.address)


class PinnedArray:
    """A page-locked array; its view `array` lives no longer than this object."""

    def __init__(self, driver: Driver, shape: Sequence[int], dtype: DTypeLike) -> None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self.address = int(driver.call("cuMemHostAlloc", size, 0)[0])
        memory = (ctypes.c_byte * size).from_address(self.address)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        _free_with(self, driver, "cuMemFreeHost", self.address)


class Stream:
    """Work that runs in order."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.is_capturing = False
        self.handle = int(driver.call("cuStreamCreate", NON_BLOCKING_STREAM)[0])
        _free_with(self, driver, "cuStreamDestroy", self.handle)

    def copy_to_device(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes from a host address (pinned, or it waits) to a device address."""
        self._driver.call("cuMemcpyHtoDAsync", target, source, size, self.handle)

    def copy_to_host(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes from a device address to a host address."""
        self._driver.call("cuMemcpyDtoHAsync", target, source, size, self.handle)

    def copy_on_device(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes between two device addresses."""
        self._driver.call("cuMemcpyDtoDAsync", target, source, size, self.handle)

    def synchronize(self) -> None:
        """Wait until all work is done; raises the error of a kernel that failed."""
        self._driver.call("cuStreamSynchronize", self.handle)

    @contextmanager
    def capture(self) -> Iterator["Capture"]:
        """What is put on the stream in the block is not run: it becomes `capture.graph`."""
        capture = Capture()
        self._driver.call("cuStreamBeginCapture", self.handle, THREAD_LOCAL_CAPTURE)
        self.is_capturing = True
        try:
            yield capture
        except BaseException:
            self._abandon_capture()
            raise
        finally:
            self.is_capturing = False
        graph = int(self._driver.call("cuStreamEndCapture", self.handle)[0])
        capture.graph = Graph(self._driver, graph)

    def _abandon_capture(self) -> None:
        """Leave capture mode; the error that led here is the one to tell."""
        try:
            graph = int(self._driver.call("cuStreamEndCapture", self.handle)[0])
        except CudaError:
            return
        if graph:
            self._driver.call("cuGraphDestroy", graph)


class Capture:
    """Holds the graph when the block of `Stream.capture` has ended."""

    graph: "Graph"


class Graph:
    """Captured work, launched as one; its addresses and shapes are fixed."""

    def __init__(self, driver: Driver, graph: int) -> None:
        self._driver = driver
        try:
            self._handle = int(driver.call("cuGraphInstantiate", graph, 0)[0])
        finally:
            driver.call("cuGraphDestroy", graph)
        _free_with(self, driver, "cuGraphExecDestroy", self._handle)

    def launch(self, stream: Stream) -> None:
        """Run the graph once on a stream."""
        self._driver.call("cuGraphLaunch", self._handle, stream.handle)


class Event:
    """A point in a stream's work."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.handle = int(driver.call("cuEventCreate", 0)[0])
        _free_with(self, driver, "cuEventDestroy", self.handle)

    def record(self, stream: Stream) -> None:
        """Mark the point that the stream's work has reached when it comes here.

        In a capture the graph does so, at each of its launches: without the flag the event would
        only order the captured work, and could not be timed.
        """
        if stream.is_capturing:
            self._driver.call("cuEventRecordWithFlags", self.handle, stream.handle, EXTERNAL_EVENT)
        else:
            self._driver.call("cuEventRecord", self.handle, stream.handle)

    def milliseconds_since(self, earlier: "Event") -> float:
        """Time between two events; waits for this one."""
        self._driver.call("cuEventSynchronize", self.handle)
        return float(self._driver.call("cuEventElapsedTime", earlier.handle, self.handle)[0])


class Module:
    """Compiled kernels on the device."""

    def __init__(self, driver: Driver, image: bytes) -> None:
        self._driver = driver
        text = ctypes.create_string_buffer(image)  # ends with the zero that PTX needs
        self._handle = int(driver.call("cuModuleLoadData", ctypes.addressof(text))[0])
        _free_with(self, driver, "cuModuleUnload", self._handle)

    def function(self, name: str) -> "Function":
        """A kernel by its name in the image (extern "C")."""
        return Function(self._driver, self, self._handle, name)


class Function:
    """One kernel."""

    def __init__(self, driver: Driver, module: Module, handle: int, name: str) -> None:
        self._driver = driver
        self._module = module  # keeps it loaded
        self._handle = int(driver.call("cuModuleGetFunction", handle, name.encode())[0])

    def allow_shared(self, size: int) -> None:
        """Ask for more than 48 KiB of dynamic shared memory, once before such a launch."""
        if size > SHARED_WITHOUT_ASKING:
            self._driver.call("cuFuncSetAttribute", self._handle, MAX_DYNAMIC_SHARED_SIZE, size)

    def launch(
        self, grid: Grid, block: Grid, stream: int, arguments: Sequence[Any], shared_bytes: int = 0
    ) -> None:
        """Put the kernel on a stream (its handle); `arguments` are ctypes values in C's order.

        Nothing is allocated on the device and nothing waits, so a graph can capture it.
        """
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )
        self._driver.call(
            "cuLaunchKernel", self._handle, *grid, *block, shared_bytes, stream,
            ctypes.addressof(pointers), 0,
        )  # fmt: skip


@cache
def open_device(index: int = 0) -> Device:
    """The GPU of a number; raises CudaError where there is none or its driver is too old."""
    return Device(index, installed_driver())


def _free_with(owner: object, driver: Driver, function: str, handle: int) -> None:
    """Free a handle when its owner is collected; at exit the driver frees everything itself."""
    weakref.finalize(owner, driver.call, function, handle).atexit = False


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
