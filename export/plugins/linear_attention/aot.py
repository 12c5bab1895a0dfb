"""Linear attention compiled into the engine, for TensorRT 10.9 and later.

TensorRT keeps the PTX of one kernel and launches it by itself: the engine runs in trtexec and in
C++ without Python. One kernel without a workspace is the fused one, so each block sums its head's
whole source; for sources much longer than FUSED_MAX_SOURCE the plugin of plugin.py is faster.

Register one of the two in a process: they answer to the same node.
"""
# ruff: noqa: ARG001 - TensorRT compares the names of arguments, used or not

import tensorrt as trt
import tensorrt.plugin as trtp

from skyfix.runtime.engines.cuda import open_device

from .kernels import SOURCE
from .node import NAMESPACE, OPERATOR
from .nvrtc import compiled_ptx
from .tiling import FUSED_BLOCKS, MAX_HEAD_DIM, Variant, tiling_of

PLUGIN_ID = f"{NAMESPACE}::{OPERATOR}"
KERNEL = "linear_attention_fused"

Kernel = tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]


def describe(
    query: trtp.TensorDesc, key: trtp.TensorDesc, value: trtp.TensorDesc, epsilon: float
) -> trtp.TensorDesc:
    """The output is like the queries."""
    return query.like()


def combinations(
    query: trtp.TensorDesc,
    key: trtp.TensorDesc,
    value: trtp.TensorDesc,
    outputs: tuple[trtp.TensorDesc],
) -> list[trtp.AutoTuneCombination]:
    """All FP32 or all FP16, contiguous."""
    layouts = ", ".join(["LINEAR"] * 4)
    return [trtp.AutoTuneCombination(", ".join([kind] * 4), layouts) for kind in ("FP32", "FP16")]


def implement(
    query: trtp.TensorDesc,
    key: trtp.TensorDesc,
    value: trtp.TensorDesc,
    epsilon: float,
    outputs: tuple[trtp.TensorDesc],
    tactic: int,
) -> Kernel:
    """PTX for the GPU here, and its launch as expressions of the shapes. Raises CudaError."""
    batch, heads, queries, head_dim = (query.shape_expr[i] for i in range(4))
    if not head_dim.is_constant or not 1 <= head_dim.constant_value() <= MAX_HEAD_DIM:
        raise ValueError(f"{OPERATOR}: the head dimension must be fixed, 1 to {MAX_HEAD_DIM}")
    dimension = head_dim.constant_value()
    variant = Variant(dimension, query.dtype == trt.DataType.HALF, float(f"{epsilon:.7g}"))
    tiling = tiling_of(dimension)
    parameters = trtp.KernelLaunchParams()
    blocks = trtp.min(trtp.cdiv(queries, tiling.rows), FUSED_BLOCKS)
    parameters.grid_x = blocks * tiling.slabs
    parameters.grid_y = batch * heads
    parameters.block_x = tiling.threads
    sizes = trtp.SymIntExprs(2)  # after the inputs, before the output, as the kernel has them
    sizes[0] = trtp.SymInt32(queries)
    sizes[1] = trtp.SymInt32(key.shape_expr[2])
    return KERNEL, _ptx(variant), parameters, sizes


def register() -> None:
    """Make the plugin known to TensorRT in this process, once."""
    trtp.register(PLUGIN_ID)(describe)
    trtp.autotune(PLUGIN_ID)(combinations)
    trtp.aot_impl(PLUGIN_ID)(implement)


def _ptx(variant: Variant) -> bytes:
    device = open_device()
    text = SOURCE.read_text(encoding="utf-8")
    return compiled_ptx(
        text, SOURCE.name, device.compute_capability, variant.options(), device.cuda_version
    )
