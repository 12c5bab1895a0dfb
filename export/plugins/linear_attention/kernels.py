"""linear_attention.cu on one GPU: compiled and loaded once, then only launched.

Nothing is allocated on the device and nothing waits, so that a CUDA graph can capture a call.
"""

from collections.abc import Sequence
from ctypes import c_int, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skyfix.runtime.engines.cuda import Device, Grid, open_device

from .nvrtc import cached_cubin
from .tiling import Problem, Schedule, Variant, schedule_of, tiling_of

SOURCE = Path(__file__).with_name("linear_attention.cu")


@dataclass(frozen=True)
class Addresses:
    """Of tensors on the device; `workspace` may be 0 where a schedule has no parts."""

    query: int  # (B, h, T, D)
    key: int  # (B, h, S, D)
    value: int  # (B, h, S, D)
    out: int  # (B, h, T, D)
    workspace: int


class LinearAttentionKernels:
    """The kernels of one variant on one GPU."""

    def __init__(self, device: Device, variant: Variant) -> None:
        """Compile, or take from the cache, and load. Raises CudaError."""
        self.tiling = tiling_of(variant.head_dim)
        self.multiprocessors = device.multiprocessors
        text, capability = SOURCE.read_text(encoding="utf-8"), device.compute_capability
        image = cached_cubin(text, SOURCE.name, capability, variant.options(), device.cuda_version)
        self._module = device.module(image)
        self._functions = {
            name: self._module.function(f"linear_attention_{name}")
            for name in ("fused", "reduce", "combine", "apply")
        }

    def schedule(self, problem: Problem) -> Schedule:
        """The launches of a call."""
        return schedule_of(problem, self.tiling, self.multiprocessors)

    def launch(
        self, problem: Problem, schedule: Schedule, addresses: Addresses, stream: int
    ) -> None:
        """Put one call on a stream."""
        tiling, heads, parts = self.tiling, problem.heads, schedule.parts
        query, key, value, out, workspace = (
            c_void_p(address)
            for address in (
                addresses.query, addresses.key, addresses.value, addresses.out, addresses.workspace,
            )
        )  # fmt: skip
        queries, sources = c_int(problem.queries), c_int(problem.sources)
        answers = (schedule.blocks * tiling.slabs, heads, 1)
        if parts == 0:
            self._put("fused", answers, stream, (query, key, value, queries, sources, out))
            return
        rows, count = c_int(schedule.part_rows), c_int(parts)
        sums = (parts * tiling.slabs, heads, 1)
        self._put("reduce", sums, stream, (key, value, sources, rows, workspace))
        if parts > 1:
            elements = (-(-tiling.partial_floats // tiling.threads), heads, 1)
            self._put("combine", elements, stream, (workspace, count))
        self._put("apply", answers, stream, (query, workspace, count, queries, out))

    def _put(self, name: str, grid: Grid, stream: int, arguments: Sequence[Any]) -> None:
        block = (self.tiling.threads, 1, 1)
        self._functions[name].launch(grid, block, stream, arguments)


@cache
def kernels_here(variant: Variant) -> LinearAttentionKernels:
    """The kernels on the GPU here, loaded at the first call. Raises CudaError."""
    return LinearAttentionKernels(open_device(), variant)
