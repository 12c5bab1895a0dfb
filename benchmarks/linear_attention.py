"""The linear-attention kernels on this GPU beside torch, in one run.

    python benchmarks/linear_attention.py [--markdown] [--dtype fp16|fp32]

Times are medians of CUDA events over groups of calls, replayed from a CUDA graph (torch.compile and
torch eager likewise, so that no launch from Python is measured). GB/s counts what must move, query,
key, value and output once each, and its share is of a copy of the same number of bytes, measured
right before. Sizes whose tensors fit in the GPU's L2 cache exceed the DRAM's bandwidth, copy and
kernel alike. Without a GPU it says so and ends with code 3.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

from skyfix.export.plugins.linear_attention.kernels import Addresses, kernels_here
from skyfix.export.plugins.linear_attention.tiling import Problem, Variant
from skyfix.runtime.errors import CudaError
from skyfix.train.models.linear_attention import EPSILON, HEADS, linear_attention

NO_GPU = 3  # exit code
DIMENSION = 32  # MFRGN's channels a head
GROUP, GROUPS = 20, 15  # calls between two events; groups measured
SOFTMAX_MAX_TOKENS = 16384  # above, its cost grows past the patience of a benchmark
TOLERANCE = {torch.float16: 2e-3, torch.float32: 1e-5}
SIZES = (  # batch, T, S: MFRGN's cross layers, then long sequences
    *((batch, queries, sources) for batch in (1, 8) for queries, sources in
      ((336, 958), (622, 958), (958, 958), (958, 1580))),
    *((batch, rows, rows) for batch in (1, 8) for rows in (4096, 16384, 65536)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Microseconds of one size."""

    batch: int
    queries: int
    sources: int
    megabytes: float
    copy: float
    ours: float
    eager: float
    compiled: float
    softmax: float | None

    @property
    def share(self) -> float:
        """Of the copy's bandwidth."""
        return self.copy / self.ours

    @property
    def gigabytes_per_s(self) -> float:
        """Bytes that must move, a second."""
        return self.megabytes * 1e3 / self.ours


def measured(batch: int, queries: int, sources: int, dtype: torch.dtype) -> Row:
    """One line of the table."""
    query, key, value = (
        torch.randn(batch, HEADS, rows, DIMENSION, device="cuda", dtype=dtype)
        for rows in (queries, sources, sources)
    )
    out = torch.empty_like(query)
    compiled = torch.compile(linear_attention)
    ours = ours_for(query, key, value, out)
    ours()
    check(out, query, key, value)
    moved = 2 * query.nbytes + 2 * key.nbytes
    source, target = (torch.empty(moved // 2, device="cuda", dtype=torch.uint8) for _ in range(2))
    softmax = None
    if max(queries, sources) <= SOFTMAX_MAX_TOKENS:
        softmax = microseconds(lambda: scaled_dot_product_attention(query, key, value))
    return Row(
        batch, queries, sources, moved / 1e6,
        copy=microseconds(lambda: target.copy_(source)),
        ours=microseconds(ours),
        eager=microseconds(lambda: linear_attention(query, key, value)),
        compiled=microseconds(lambda: compiled(query, key, value)),
        softmax=softmax,
    )  # fmt: skip


def ours_for(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor
) -> Callable[[], None]:
    """A call of our kernels on torch's current stream."""
    batch, heads, queries, dimension = query.shape
    kernels = kernels_here(Variant(dimension, query.dtype == torch.float16, EPSILON))
    problem = Problem(batch * heads, queries, key.shape[2])
    schedule = kernels.schedule(problem)
    size = schedule.workspace_bytes(batch * heads, kernels.tiling)
    workspace = torch.empty(max(1, size), device="cuda", dtype=torch.uint8)
    addresses = Addresses(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), out.data_ptr(), workspace.data_ptr()
    )

    def call() -> None:
        stream = torch.cuda.current_stream().cuda_stream
        kernels.launch(problem, schedule, addresses, stream)
        assert workspace.numel() > 0  # lives as long as its address is used

    return call


def check(out: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    """A fast wrong kernel is no result: end where ours disagrees with torch in FP64."""
    exact = linear_attention(query.double(), key.double(), value.double())
    error = float((out - exact).abs().max() / exact.abs().max().clamp(min=1))
    if not error <= TOLERANCE[out.dtype]:
        sys.exit(f"wrong by {error:.2g} at {tuple(query.shape)} from {tuple(key.shape)}")


def microseconds(call: Callable[[], object]) -> float:
    """Median time of a call, replayed from a graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch declares no types here
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(GROUP):
            call()
    times: list[float] = []
    with torch.cuda.stream(stream):
        graph.replay()
        for _ in range(GROUPS):
            start, end = timers()
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e3 / GROUP)
    return statistics.median(times)


def timers() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    """Two events that tell the time."""
    new: Callable[..., torch.cuda.Event] = torch.cuda.Event
    return new(enable_timing=True), new(enable_timing=True)


def cells(row: Row) -> list[str]:
    """One line as text."""
    softmax = "-" if row.softmax is None else f"{row.softmax:.1f}"
    return [
        f"{row.batch}", f"{row.queries}", f"{row.sources}", f"{row.megabytes:.1f}",
        f"{row.ours:.1f}", f"{row.gigabytes_per_s:.0f}", f"{row.share:.0%}", f"{row.eager:.1f}",
        f"{row.compiled:.1f}", softmax, f"{row.eager / row.ours:.1f}x",
    ]  # fmt: skip


COLUMNS = (
    "B", "T", "S", "MB", "ours us", "GB/s", "of copy", "torch eager us", "torch.compile us",
    "softmax (SDPA) us", "eager / ours",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dtype", choices=("fp16", "fp32"), default="fp16")
    parser.add_argument("--markdown", action="store_true", help="for documents")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA GPU here (or a torch without CUDA): nothing was measured", file=sys.stderr)
        sys.exit(NO_GPU)
    dtype = torch.float16 if arguments.dtype == "fp16" else torch.float32
    try:
        rows = [measured(*size, dtype) for size in SIZES]
    except CudaError as error:
        print(error, file=sys.stderr)
        sys.exit(NO_GPU)
    title = (
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.dtype}, "
        f"{HEADS} heads of {DIMENSION}"
    )
    if arguments.markdown:
        print(f"{title}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for row in rows:
            print(f"| {' | '.join(cells(row))} |")
        return
    table = Table(*COLUMNS, title=title)
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)


if __name__ == "__main__":
    main()
