"""The kernels on a real GPU: both ways to the driver, graph capture, torch as the judge."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skyfix.export.plugins.linear_attention.kernels import Addresses, LinearAttentionKernels
from skyfix.export.plugins.linear_attention.tiling import Problem, Variant
from skyfix.runtime.engines.cuda import Device, PinnedArray
from skyfix.runtime.engines.cuda_driver import BindingsDriver, CtypesDriver, Driver
from skyfix.runtime.errors import CudaError
from skyfix.train.models.linear_attention import linear_attention

pytestmark = pytest.mark.gpu

Array = NDArray[Any]
TOLERANCE = {True: 2e-3, False: 1e-5}
FACADES: dict[str, Callable[[], Driver]] = {"bindings": BindingsDriver, "ctypes": CtypesDriver}


@pytest.fixture(params=FACADES)
def device(request: pytest.FixtureRequest) -> Device:
    try:
        return Device(0, FACADES[request.param]())
    except ImportError:
        pytest.skip("cuda-bindings is not installed")
    except CudaError as error:
        pytest.skip(str(error))


class Call:
    """One call with its buffers; `run` puts it on the stream."""

    def __init__(self, device: Device, arrays: list[Array]) -> None:
        query, key, _ = arrays
        batch, heads, queries, dimension = query.shape
        self.stream = device.stream()
        self.kernels = LinearAttentionKernels(
            device, Variant(dimension, query.dtype == np.float16, 1e-6)
        )
        self.problem = Problem(batch * heads, queries, key.shape[2])
        self.schedule = self.kernels.schedule(self.problem)
        workspace = self.schedule.workspace_bytes(batch * heads, self.kernels.tiling)
        self.inputs = [device.buffer(array.nbytes) for array in arrays]
        self.out, self.workspace = device.buffer(query.nbytes), device.buffer(workspace + 1)
        self.host = device.pinned(query.shape, query.dtype)
        self.staging: list[PinnedArray] = []
        for buffer, array in zip(self.inputs, arrays, strict=True):
            self.staging.append(pinned := device.pinned(array.shape, array.dtype))
            pinned.array[:] = array
            self.stream.copy_to_device(buffer.address, pinned.address, array.nbytes)

    def run(self) -> None:
        query, key, value = (buffer.address for buffer in self.inputs)
        addresses = Addresses(query, key, value, self.out.address, self.workspace.address)
        self.kernels.launch(self.problem, self.schedule, addresses, self.stream.handle)
        size = self.host.array.nbytes
        self.stream.copy_to_host(self.host.address, self.out.address, size)

    def result(self) -> Array:
        self.stream.synchronize()
        return np.array(self.host.array)


def inputs(queries: int, sources: int, dimension: int, half: bool, scale: float) -> list[Array]:
    random = np.random.default_rng(0)
    kind = np.float16 if half else np.float32
    shapes = [(2, 4, rows, dimension) for rows in (queries, sources, sources)]
    return [(random.normal(size=shape) * scale).astype(kind) for shape in shapes]


def assert_agrees(found: Array, arrays: list[Array]) -> None:
    exact = linear_attention(*(torch.from_numpy(x).double() for x in arrays)).numpy()
    tolerance = TOLERANCE[found.dtype == np.float16] * max(1.0, float(np.abs(exact).max()))
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("half", [True, False], ids=["fp16", "fp32"])
@pytest.mark.parametrize("dimension", [16, 20, 32, 48, 64, 80, 96, 112, 128])
def test_every_head_dimension_agrees_with_torch(device: Device, dimension: int, half: bool) -> None:
    for queries, sources in ((1, 1), (37, 101), (260, 2049), (5000, 4097)):
        arrays = inputs(queries, sources, dimension, half, 2.0)
        call = Call(device, arrays)
        call.run()
        assert_agrees(call.result(), arrays)


@pytest.mark.parametrize("half", [True, False], ids=["fp16", "fp32"])
def test_long_and_large_inputs_agree_with_torch(device: Device, half: bool) -> None:
    for sources, scale in product((336, 65536), (1.0, 8000.0 if half else 1000.0)):
        arrays = inputs(958, sources, 32, half, scale)
        call = Call(device, arrays)
        call.run()
        assert_agrees(call.result(), arrays)


@pytest.mark.parametrize("sources", [958, 8192], ids=["fused", "in parts"])
def test_a_captured_graph_replays_the_kernels_on_new_data(device: Device, sources: int) -> None:
    arrays = inputs(336, sources, 32, half=True, scale=1.0)
    call = Call(device, arrays)
    call.run()
    first = call.result()
    with call.stream.capture() as capture:
        call.run()
    call.host.array[:] = 0
    arrays[0] = arrays[0][:, ::-1].copy()  # the heads in the other order
    call.staging[0].array[:] = arrays[0]
    address, size = call.inputs[0].address, arrays[0].nbytes
    call.stream.copy_to_device(address, call.staging[0].address, size)
    capture.graph.launch(call.stream)
    replayed = call.result()
    assert not np.array_equal(replayed, first)
    assert_agrees(replayed, arrays)


def test_the_same_call_gives_the_same_bits(device: Device) -> None:
    call = Call(device, inputs(500, 20000, 32, half=True, scale=1.0))
    call.run()
    first = call.result()
    call.run()
    np.testing.assert_array_equal(call.result(), first)
