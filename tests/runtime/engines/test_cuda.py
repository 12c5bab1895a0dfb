"""The CUDA facade: both drivers on a stand-in for libcuda, the real GPU where there is one."""

import ctypes
import gc
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from skyfix.runtime.engines import cuda_driver
from skyfix.runtime.engines.cuda import (
    Device,
    DeviceBuffer,
    Function,
    PinnedArray,
    Stream,
    open_device,
)
from skyfix.runtime.engines.cuda_driver import (
    SIGNATURES,
    BindingsDriver,
    CtypesDriver,
    Signature,
    check,
)
from skyfix.runtime.errors import CudaError, DeviceMemoryError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
IMAGE = b".version 8.0"  # all that the stand-in wants of PTX


@pytest.fixture
def device(fake_driver: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device of the stand-in, by ctypes."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(fake_driver / "libcuda.so.1"))
    return Device(0, CtypesDriver())


@dataclass(frozen=True)
class Doubling:
    """Six numbers that go to the device, are doubled there, and come back."""

    stream: Stream
    host: PinnedArray
    memory: DeviceBuffer
    function: Function

    @staticmethod
    def on(device: Device) -> "Doubling":
        host = device.pinned((2, 3), np.float32)
        host.array[:] = np.arange(6).reshape(2, 3)
        function = device.module(IMAGE).function("scale")
        function.allow_shared(65536)
        return Doubling(device.stream(), host, device.buffer(24), function)

    def enqueue(self) -> None:
        address = self.memory.address
        arguments = (ctypes.c_void_p(address), ctypes.c_int(6), ctypes.c_float(2.0))
        self.stream.copy_to_device(address, self.host.address, 24)
        self.function.launch((1, 1, 1), (32, 1, 1), self.stream.handle, arguments)
        self.stream.copy_to_host(self.host.address, address, 24)


def test_a_device_says_what_it_is(device: Device) -> None:
    assert (device.name, device.compute_capability) == ("Fake Orin", (8, 7))
    assert (device.cuda_version, device.integrated) == ((12, 6), True)
    assert device.memory() == (3 << 20, 8 << 20)


def test_a_kernel_gets_its_arguments_and_its_copies_arrive(device: Device) -> None:
    work = Doubling.on(device)
    work.enqueue()
    work.stream.synchronize()
    assert work.host.array.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]


def test_captured_work_runs_at_each_launch_and_not_before(device: Device) -> None:
    work = Doubling.on(device)
    with work.stream.capture() as capture:
        work.enqueue()
    assert work.host.array.sum() == 15
    for _ in range(3):
        capture.graph.launch(work.stream)
    work.stream.synchronize()
    assert work.host.array.sum() == 15 * 8


def test_an_error_inside_a_capture_ends_the_capture_and_is_the_one_told(device: Device) -> None:
    work = Doubling.on(device)
    with (
        pytest.raises(CudaError, match="cannot run while a graph is captured"),
        work.stream.capture(),
    ):
        work.stream.synchronize()
    work.enqueue()
    work.stream.synchronize()
    assert work.host.array.sum() == 30


def test_time_between_events_is_in_milliseconds(device: Device) -> None:
    first, last, stream = device.event(), device.event(), device.stream()
    first.record(stream)
    last.record(stream)
    assert last.milliseconds_since(first) == 1.5


def test_copies_between_two_places_on_the_device(device: Device) -> None:
    work, other = Doubling.on(device), device.buffer(24)
    work.stream.copy_to_device(work.memory.address, work.host.address, 24)
    work.stream.copy_on_device(other.address, work.memory.address, 24)
    work.host.array[:] = 0
    work.stream.copy_to_host(work.host.address, other.address, 24)
    work.stream.synchronize()
    assert work.host.array.sum() == 15


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FAKE_CUDA_INIT", "100", "there is no CUDA GPU here. Take another engine"),
        ("FAKE_CUDA_INIT", "803", "driver and CUDA library do not belong together"),
        ("FAKE_CUDA_INIT", "12345", "CUDA error 12345"),
        ("FAKE_CUDA_VERSION", "10020", r"supports CUDA 10\.2, skyfix needs 11\.4"),
    ],
)
def test_a_machine_that_cannot_run_cuda_is_refused_with_what_to_do(
    device: Device, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CudaError, match=words):
        Device(0, device.driver)


def test_a_gpu_number_that_does_not_exist_is_refused(device: Device) -> None:
    with pytest.raises(CudaError, match="no GPU of this number"):
        Device(3, device.driver)


def test_a_full_gpu_is_an_error_of_its_own(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000")
    with pytest.raises(DeviceMemoryError, match="cuMemAlloc: the GPU's memory is full"):
        device.buffer(1001)
    assert device.buffer(1000).size == 1000


def test_a_kernel_image_of_another_kind_is_refused(device: Device) -> None:
    with pytest.raises(CudaError, match="kernel image is not valid"):
        device.module(b"not an image")
    with pytest.raises(CudaError, match="CUDA error 500"):
        device.module(IMAGE).function("absent")


def test_what_is_dropped_is_freed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    real = device.driver.call

    def counted(function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        calls[function] += 1
        return real(function, *arguments)

    monkeypatch.setattr(device.driver, "call", counted)
    things = [
        device.buffer(8), device.pinned((2,), np.float32), device.stream(), device.event(),
        device.module(IMAGE),
    ]  # fmt: skip
    freeing = ("cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuModuleUnload")
    assert [calls[name] for name in freeing] == [0] * 5
    del things
    gc.collect()
    assert [calls[name] for name in freeing] == [1] * 5


BINDINGS = """
import ctypes, os
import numpy as np
from skyfix.runtime.engines.cuda import Device, open_device
from skyfix.runtime.errors import CudaError
device = open_device()
stream, host, memory = device.stream(), device.pinned((6,), np.float32), device.buffer(24)
host.array[:] = np.arange(6)
function = device.module(b".version 8.0").function("scale")
function.allow_shared(65536)
arguments = ctypes.c_void_p(memory.address), ctypes.c_int(6), ctypes.c_float(2.0)
with stream.capture() as capture:
    stream.copy_to_device(memory.address, host.address, 24)
    function.launch((1, 1, 1), (32, 1, 1), stream.handle, arguments)
    stream.copy_to_host(host.address, memory.address, 24)
for _ in range(3):
    capture.graph.launch(stream)
stream.synchronize()
first, last = device.event(), device.event()
first.record(stream)
last.record(stream)
print(device.driver.name, device.name, device.compute_capability, device.memory(), sep="|")
print(host.array.sum(), last.milliseconds_since(first))
for name, value in (("INIT", "100"), ("INIT", "12345"), ("VERSION", "10020")):
    os.environ["FAKE_CUDA_" + name] = value
    try:
        Device(0, device.driver)
    except CudaError as error:
        print(error)
    del os.environ["FAKE_CUDA_" + name]
"""


@pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-bindings is not installed")
def test_cuda_bindings_do_and_refuse_the_same(run: Run) -> None:
    done = run(BINDINGS)
    assert done.returncode == 0, done.stderr
    first, second, *refusals = done.stdout.splitlines()
    assert first == "cuda-bindings|Fake Orin|(8, 7)|(3145728, 8388608)"
    assert second == "120.0 1.5"
    for words, line in zip(("no CUDA GPU", "12345", "CUDA 10.2"), refusals, strict=True):
        assert words in line


def test_without_a_driver_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda_absent.so.1")
    for kind in (CtypesDriver, BindingsDriver) if find_spec("cuda") else (CtypesDriver,):
        with pytest.raises(CudaError, match=r"no NVIDIA driver here.*--engine onnx"):
            kind()


def test_ctypes_serves_where_cuda_bindings_is_not_installed(run: Run) -> None:
    done = run(
        "import sys; sys.modules['cuda'] = sys.modules['cuda.bindings'] = None\n"
        "from skyfix.runtime.engines.cuda import open_device\n"
        "print(open_device().driver.name, open_device() is open_device())"
    )
    assert done.stdout.strip() == "ctypes True"


def test_a_driver_that_lacks_a_call_is_too_old(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNATURES, "cuNewest", Signature("cuNewest", (), ()))
    with pytest.raises(CudaError, match="cuNewest: the driver is too old"):
        device.driver.call("cuNewest")


def test_success_is_silent_and_full_memory_has_its_own_class() -> None:
    check(0, "cuInit")
    with pytest.raises(DeviceMemoryError, match="cuMemAlloc"):
        check(2, "cuMemAlloc")


@pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-bindings is not installed")
def test_cuda_bindings_has_every_call_of_the_table() -> None:
    from cuda.bindings import driver

    assert [name for name in SIGNATURES if not hasattr(driver, name)] == []


PTX = b"""
.version 7.0
.target sm_52
.address_size 64
.visible .entry scale(.param .u64 data, .param .u32 n, .param .f32 by) {
    .reg .pred %p; .reg .b32 %r<4>; .reg .f32 %f<3>; .reg .b64 %d<4>;
    ld.param.u64 %d1, [data]; ld.param.u32 %r1, [n]; ld.param.f32 %f1, [by];
    mov.u32 %r2, %tid.x; setp.ge.u32 %p, %r2, %r1; @%p ret;
    cvta.to.global.u64 %d1, %d1; mul.wide.u32 %d2, %r2, 4; add.s64 %d3, %d1, %d2;
    ld.global.f32 %f2, [%d3]; mul.f32 %f2, %f2, %f1; st.global.f32 [%d3], %f2; ret;
}
"""


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["CtypesDriver", "BindingsDriver"])
def test_a_real_gpu_doubles_numbers_through_a_captured_graph(kind: str) -> None:
    try:
        open_device()
    except CudaError as error:
        pytest.skip(str(error))
    if kind == "BindingsDriver" and find_spec("cuda") is None:
        pytest.skip("cuda-bindings is not installed: pip install 'skyfix[cuda]'")
    device = Device(0, getattr(cuda_driver, kind)())
    stream, host, memory = device.stream(), device.pinned((6,), np.float32), device.buffer(24)
    host.array[:] = np.arange(6)
    function = device.module(PTX).function("scale")
    arguments = (ctypes.c_void_p(memory.address), ctypes.c_uint(6), ctypes.c_float(2.0))
    first, last = device.event(), device.event()
    with stream.capture() as capture:
        stream.copy_to_device(memory.address, host.address, 24)
        function.launch((1, 1, 1), (32, 1, 1), stream.handle, arguments)
        stream.copy_to_host(host.address, memory.address, 24)
    first.record(stream)
    for _ in range(3):
        capture.graph.launch(stream)
    last.record(stream)
    stream.synchronize()
    assert host.array.tolist() == [0.0, 8.0, 16.0, 24.0, 32.0, 40.0]
    assert 0 < last.milliseconds_since(first) < 1000
    with pytest.raises(DeviceMemoryError):
        device.buffer(1 << 50)
