"""The CUDA driver's calls, by cuda-bindings or, where that is not installed, by ctypes.

Both end in the same library, libcuda, which comes with the driver. The second way needs no package
at all. pycuda is not a third: its 2026.1 release can neither launch on a stream that it has not
made, as TensorRT hands to a plugin, nor capture a graph; where only pycuda is installed, ctypes
serves, and shares the device's primary context with it.

Arguments and results are plain numbers in either case, so the facade in cuda.py is written once.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..errors import CudaError, DeviceMemoryError

LIBRARY = "libcuda.so.1"
MIN_DRIVER = (11, 4)  # cuGraphInstantiateWithFlags; JetPack 5's CUDA

HANDLE = ctypes.c_void_p
ADDRESS = ctypes.c_uint64  # CUdeviceptr
COUNT = ctypes.c_size_t
INT, UINT, FLOAT = ctypes.c_int, ctypes.c_uint, ctypes.c_float


class Signature(NamedTuple):
    """How C declares a call: results are pointers, and come first but in one call."""

    symbol: str
    results: tuple[Any, ...]
    arguments: tuple[Any, ...]
    results_last: bool = False

    def ordered(self, results: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Results and arguments as C wants them."""
        return (*arguments, *results) if self.results_last else (*results, *arguments)


# fmt: off
SIGNATURES = {
    "cuInit": Signature("cuInit", (), (UINT,)),
    "cuDriverGetVersion": Signature("cuDriverGetVersion", (INT,), ()),
    "cuDeviceGetCount": Signature("cuDeviceGetCount", (INT,), ()),
    "cuDeviceGet": Signature("cuDeviceGet", (INT,), (INT,)),
    "cuDeviceGetAttribute": Signature("cuDeviceGetAttribute", (INT,), (INT, INT)),
    "cuDevicePrimaryCtxRetain": Signature("cuDevicePrimaryCtxRetain", (HANDLE,), (INT,)),
    "cuCtxSetCurrent": Signature("cuCtxSetCurrent", (), (HANDLE,)),
    "cuMemGetInfo": Signature("cuMemGetInfo_v2", (COUNT, COUNT), ()),
    "cuMemAlloc": Signature("cuMemAlloc_v2", (ADDRESS,), (COUNT,)),
    "cuMemFree": Signature("cuMemFree_v2", (), (ADDRESS,)),
    "cuMemHostAlloc": Signature("cuMemHostAlloc", (HANDLE,), (COUNT, UINT)),
    "cuMemFreeHost": Signature("cuMemFreeHost", (), (HANDLE,)),
    "cuMemcpyHtoDAsync": Signature("cuMemcpyHtoDAsync_v2", (), (ADDRESS, HANDLE, COUNT, HANDLE)),
    "cuMemcpyDtoHAsync": Signature("cuMemcpyDtoHAsync_v2", (), (HANDLE, ADDRESS, COUNT, HANDLE)),
    "cuMemcpyDtoDAsync": Signature("cuMemcpyDtoDAsync_v2", (), (ADDRESS, ADDRESS, COUNT, HANDLE)),
    "cuStreamCreate": Signature("cuStreamCreate", (HANDLE,), (UINT,)),
    "cuStreamDestroy": Signature("cuStreamDestroy_v2", (), (HANDLE,)),
    "cuStreamSynchronize": Signature("cuStreamSynchronize", (), (HANDLE,)),
    "cuEventCreate": Signature("cuEventCreate", (HANDLE,), (UINT,)),
    "cuEventDestroy": Signature("cuEventDestroy_v2", (), (HANDLE,)),
    "cuEventRecord": Signature("cuEventRecord", (), (HANDLE, HANDLE)),
    "cuEventRecordWithFlags": Signature("cuEventRecordWithFlags", (), (HANDLE, HANDLE, UINT)),
    "cuEventSynchronize": Signature("cuEventSynchronize", (), (HANDLE,)),
    "cuEventElapsedTime": Signature("cuEventElapsedTime", (FLOAT,), (HANDLE, HANDLE)),
    "cuModuleLoadData": Signature("cuModuleLoadData", (HANDLE,), (HANDLE,)),
    "cuModuleUnload": Signature("cuModuleUnload", (), (HANDLE,)),
    "cuModuleGetFunction": Signature("cuModuleGetFunction", (HANDLE,), (HANDLE, ctypes.c_char_p)),
    "cuFuncSetAttribute": Signature("cuFuncSetAttribute", (), (HANDLE, INT, INT)),
    "cuLaunchKernel": Signature(
        "cuLaunchKernel", (), (HANDLE, *[UINT] * 7, HANDLE, HANDLE, HANDLE)
    ),
    "cuStreamBeginCapture": Signature("cuStreamBeginCapture_v2", (), (HANDLE, INT)),
    "cuStreamEndCapture": Signature("cuStreamEndCapture", (HANDLE,), (HANDLE,), results_last=True),
    "cuGraphInstantiate": Signature(
        "cuGraphInstantiateWithFlags", (HANDLE,), (HANDLE, ctypes.c_uint64)
    ),
    "cuGraphDestroy": Signature("cuGraphDestroy", (), (HANDLE,)),
    "cuGraphLaunch": Signature("cuGraphLaunch", (), (HANDLE, HANDLE)),
    "cuGraphExecDestroy": Signature("cuGraphExecDestroy", (), (HANDLE,)),
}
# fmt: on

# cuda-bindings takes these arguments (call, position) as members of an enum only
ENUMS = {
    ("cuDeviceGetAttribute", 0): "CUdevice_attribute",
    ("cuStreamBeginCapture", 1): "CUstreamCaptureMode",
    ("cuFuncSetAttribute", 1): "CUfunction_attribute",
}

TOO_OLD = "the driver is too old. Update the NVIDIA driver (on a Jetson: JetPack)."
OUT_OF_MEMORY = 2
UNKNOWN = "CUDA has failed."
SENTENCES = {  # CUresult -> what it means here, and what to do
    3: "the driver is not initialised. Restart the program.",
    34: "only CUDA's stub library was found, not the driver's. Take it out of LD_LIBRARY_PATH.",
    46: "the GPU is in use by another process that wants it alone, or it has failed.",
    100: "there is no CUDA GPU here. Take another engine, such as --engine onnx.",
    101: "there is no GPU of this number. Count them with nvidia-smi.",
    200: "the kernel image is not valid. Compile it again on this device.",
    209: "the kernel image is for another GPU. Compile it again on this device.",
    218: "the PTX is not valid. Compile it again on this device.",
    222: "the PTX is newer than the driver. Compile it with an older CUDA, or update the driver.",
    700: "a kernel has accessed memory that is not its own. Start the program again.",
    801: "the driver or the GPU cannot do this.",
    803: "driver and CUDA library do not belong together. Install the driver again.",
    804: "the GPU is too new or too old for this driver. Update the NVIDIA driver.",
    900: "this cannot run while a graph is captured.",
    901: "the graph's capture was broken by an earlier error.",
    999: "the driver has failed. `sudo dmesg` names the cause; a restart of the machine may help.",
}


class Driver(Protocol):
    """One way to call libcuda."""

    name: str

    def call(self, function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        """The results of a call; raises CudaError."""
        ...

    def device_name(self, device: int) -> str:
        """The GPU's own name."""
        ...


class CtypesDriver:
    """libcuda itself."""

    name = "ctypes"

    def __init__(self) -> None:
        self._library = load_library()
        self._functions: dict[str, Any] = {}

    def call(self, function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        """The results of a call; raises CudaError."""
        signature = SIGNATURES[function]
        results = [kind() for kind in signature.results]
        pointers = [ctypes.byref(result) for result in results]
        check(self._function(function)(*signature.ordered(pointers, arguments)), function)
        return tuple(result.value or 0 for result in results)

    def device_name(self, device: int) -> str:
        """The GPU's own name."""
        text = ctypes.create_string_buffer(256)
        check(self._library.cuDeviceGetName(text, len(text), device), "cuDeviceGetName")
        return text.value.decode()

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            signature = SIGNATURES[name]
            function = getattr(self._library, signature.symbol, None)
            if function is None:
                raise CudaError(f"{signature.symbol}: {TOO_OLD}")
            pointers = [ctypes.POINTER(kind) for kind in signature.results]
            function.argtypes = signature.ordered(pointers, signature.arguments)
            self._functions[name] = function
        return self._functions[name]


class BindingsDriver:
    """NVIDIA's cuda-bindings."""

    name = "cuda-bindings"

    def __init__(self) -> None:
        from cuda.bindings import driver  # noqa: PLC0415  (optional: ctypes serves as well)

        load_library()  # its absence has a clearer message here
        self._driver = driver

    def call(self, function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        """The results of a call; raises CudaError."""
        typed = [
            getattr(self._driver, ENUMS[function, position])(argument)
            if (function, position) in ENUMS
            else argument
            for position, argument in enumerate(arguments)
        ]
        code, *results = self._called(function, typed)
        check(int(code), function)
        return tuple(result if isinstance(result, float) else int(result) for result in results)

    def device_name(self, device: int) -> str:
        """The GPU's own name."""
        code, name = self._called("cuDeviceGetName", [256, device])
        check(int(code), "cuDeviceGetName")
        return str(name.split(b"\0", 1)[0].decode())

    def _called(self, function: str, arguments: Sequence[Any]) -> Any:
        try:
            return getattr(self._driver, function)(*arguments)
        except RuntimeError as error:  # a symbol that the driver does not have
            raise CudaError(f"{function}: {error}. {TOO_OLD}") from error
        except ValueError as error:  # a result that is newer than cuda-bindings
            raise CudaError(f"{function}: {UNKNOWN} ({error})") from error


def load_library() -> ctypes.CDLL:
    """The driver's library; raises CudaError where there is none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError(
            f"there is no NVIDIA driver here ({LIBRARY} cannot be loaded). Install it, on a "
            "Jetson by JetPack, or take another engine, such as --engine onnx."
        ) from error


def installed_driver() -> Driver:
    """cuda-bindings where it is installed, else ctypes; raises CudaError without a driver."""
    try:
        return BindingsDriver()
    except ImportError:
        return CtypesDriver()


def check(code: int, function: str) -> None:
    """Raise CudaError for any result but success."""
    if code == 0:
        return
    if code == OUT_OF_MEMORY:
        raise DeviceMemoryError(
            f"{function}: the GPU's memory is full. End other programs on it (nvidia-smi or "
            "tegrastats shows them), or build the engine for smaller batches (--batch)."
        )
    raise CudaError(f"{function}: {SENTENCES.get(code, UNKNOWN)} (CUDA error {code})")
