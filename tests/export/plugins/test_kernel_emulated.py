"""The kernel text itself on a CPU: warps of fibers, tensor-core products as the PTX manual says.

What is tested is every index of the kernels; rounding inside a GPU's units is not.
"""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skyfix.export.plugins.linear_attention.kernels import (
    SOURCE,
    Addresses,
    LinearAttentionKernels,
)
from skyfix.export.plugins.linear_attention.tiling import Problem, Schedule, Variant, tiling_of
from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.errors import CudaError
from skyfix.train.models.linear_attention import linear_attention

FUSED, REDUCE, COMBINE, APPLY = range(4)  # as emulated_gpu.cpp numbers them
TOLERANCE = {True: 2e-3, False: 1e-5}

Array = NDArray[Any]
Attention = Callable[[Array, Array, Array, int], Array]  # query, key, value, parts


@pytest.fixture(scope="module")
def library_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, bool], ctypes.CDLL]:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")

    def build(dimension: int, half: bool) -> ctypes.CDLL:
        library = tmp_path_factory.mktemp("emulated") / "kernels.so"
        text = Path(__file__).with_name("emulated_gpu.cpp")
        subprocess.run(
            [
                "g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas",
                "-fno-strict-aliasing", *Variant(dimension, half, 1e-6).options(),
                f'-DKERNEL="{SOURCE}"', "-o", str(library), str(text),
            ],
            check=True,
        )  # fmt: skip
        return ctypes.CDLL(str(library))

    return cache(build)


@pytest.fixture(scope="module")
def emulated(library_of: Callable[[int, bool], ctypes.CDLL]) -> Callable[[int, bool], Attention]:
    return lambda dimension, half: attention_of(library_of(dimension, half), dimension)


class EmulatedDriver:
    """A driver whose only kernels are the emulated ones; what else it is asked, it grants."""

    name = "emulated"
    answers: Mapping[str, int] = {"cuDriverGetVersion": 12060}
    attributes: Mapping[int, int] = {75: 8, 76: 7, 16: 2}  # sm_87 of two multiprocessors

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def call(self, function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        if function == "cuDeviceGetAttribute":
            return (self.attributes.get(int(arguments[0]), 0),)
        if function == "cuModuleGetFunction":
            names = ("fused", "reduce", "combine", "apply")
            return (names.index(bytes(arguments[1]).decode().rsplit("_", 1)[1]),)
        if function == "cuLaunchKernel":
            kernel, grid_x, grid_y, *_ = arguments
            self.library.launch(kernel, grid_x, grid_y, ctypes.c_void_p(int(arguments[9])))
        return (self.answers.get(function, 1),)

    def device_name(self, device: int) -> str:
        return f"emulated {device}"


def attention_of(library: ctypes.CDLL, dimension: int) -> Attention:
    tiling = tiling_of(dimension)

    def launch(kernel: int, grid: tuple[int, int], values: Sequence[Array | int]) -> None:
        held = [
            ctypes.c_int(x) if isinstance(x, int) else ctypes.c_void_p(x.ctypes.data)
            for x in values
        ]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(x) for x in held))
        library.launch(kernel, *grid, pointers)

    def attention(query: Array, key: Array, value: Array, parts: int) -> Array:
        (batch, heads, queries, _), sources = query.shape, key.shape[2]
        every, out = batch * heads, np.full_like(query, np.nan)
        blocks = (2 * tiling.slabs, every)
        if parts == 0:
            launch(FUSED, blocks, [query, key, value, queries, sources, out])
            return out
        rows = -(-sources // parts)
        partial = np.full((every, parts, tiling.partial_floats), np.nan, np.float32)
        assert partial.nbytes == Schedule(parts, rows, 2).workspace_bytes(every, tiling)
        launch(REDUCE, (parts * tiling.slabs, every), [key, value, sources, rows, partial])
        threads = -(-tiling.partial_floats // tiling.threads)
        launch(COMBINE, (threads, every), [partial, parts])
        launch(APPLY, blocks, [query, partial, parts, queries, out])
        return out

    return attention


def inputs(
    dimension: int, queries: int, sources: int, half: bool, scale: float = 2.0
) -> list[Array]:
    random = np.random.default_rng(0)
    kind = np.float16 if half else np.float32
    shapes = [(1, 2, rows, dimension) for rows in (queries, sources, sources)]
    return [(random.normal(size=shape) * scale).astype(kind) for shape in shapes]


def exact(arrays: Sequence[Array]) -> Array:
    found = linear_attention(*(torch.from_numpy(x).double() for x in arrays)).numpy()
    return np.asarray(found)


def assert_agrees(found: Array, wanted: Array, half: bool) -> None:
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[half] * scale)


@pytest.mark.parametrize(
    ("dimension", "half"),
    [
        (32, True),
        (32, False),
        (20, True),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(16, True, marks=pytest.mark.slow),
        pytest.param(48, True, marks=pytest.mark.slow),
        pytest.param(64, False, marks=pytest.mark.slow),
        pytest.param(80, True, marks=pytest.mark.slow),
        pytest.param(112, False, marks=pytest.mark.slow),
        pytest.param(128, True, marks=pytest.mark.slow),
        pytest.param(128, False, marks=pytest.mark.slow),
    ],
)
def test_the_kernels_agree_with_torch(
    emulated: Callable[[int, bool], Attention], dimension: int, half: bool
) -> None:
    attention = emulated(dimension, half)
    for queries, sources in ((1, 1), (37, 101), (260, 33)):
        arrays = inputs(dimension, queries, sources, half)
        query, key, value = arrays
        for parts in (0, 1, 3):
            if parts <= sources:
                assert_agrees(attention(query, key, value, parts), exact(arrays), half)


@pytest.mark.parametrize("sources", [70, 2100], ids=["fused", "in parts"])
def test_the_host_launches_the_kernels_with_the_arguments_they_take(
    library_of: Callable[[int, bool], ctypes.CDLL],
    sources: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device = Device(0, EmulatedDriver(library_of(32, True)))
    try:
        kernels = LinearAttentionKernels(device, Variant(32, half=True, epsilon=1e-6))
    except CudaError as error:
        pytest.skip(str(error))
    query, key, value = inputs(32, 70, sources, half=True)
    problem = Problem(heads=2, queries=70, sources=sources)
    schedule = kernels.schedule(problem)
    assert (schedule.parts > 1) == (sources > 2048)
    out = np.full_like(query, np.nan)
    partial = np.empty(schedule.workspace_bytes(2, kernels.tiling), np.uint8)
    places = (array.ctypes.data for array in (query, key, value, out, partial))
    kernels.launch(problem, schedule, Addresses(*places), stream=7)
    assert_agrees(out, exact([query, key, value]), half=True)


def test_half_precision_stands_large_and_very_negative_numbers(
    emulated: Callable[[int, bool], Attention],
) -> None:
    attention = emulated(32, True)
    for shift, scale in ((0.0, 8000.0), (-14.0, 1.0)):  # sums of 1e8 and more; phi below 1e-6
        query, key, value = inputs(32, 40, 300, half=True, scale=scale)
        key = (key + np.float16(shift)).astype(np.float16)
        assert_agrees(attention(query, key, value, 0), exact([query, key, value]), half=True)


def test_a_nan_in_a_key_reaches_its_head_and_no_other(
    emulated: Callable[[int, bool], Attention],
) -> None:
    query, key, value = inputs(32, 5, 50, half=True)
    key[0, 0, 7, 3] = np.nan
    found = emulated(32, True)(query, key, value, 0)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[0, 1]).all()
